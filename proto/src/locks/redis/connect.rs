//! One attempt to connect: find the primary, say who we are, and see that it takes writes.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::address::{Address, Sentinels};
use super::{faults, link};
use crate::clock::SharedClock;
use crate::fault::{Fault, Result};

/// A Sentinel that says nothing for this long is passed over: three must fit into one attempt.
const SENTINEL: Duration = Duration::from_millis(400);
/// The word by which we see that the server takes writes; it is forgotten soon.
const PROBE_MS: u64 = 1_000;

/// How to connect, again and again.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) address: Address,
    pub(super) clock: SharedClock,
    /// The key that is written to see that writes are taken.
    pub(super) probe: String,
    /// The Sentinel to begin with: the one after the last that failed us.
    pub(super) first: AtomicUsize,
}

impl Connector {
    /// A connection to a server that takes our writes. A failed write is a failed attempt, so that a full server, a
    /// replica and a missing right are met here and not by the first caller.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection> {
        let primary = match self.address.sentinels() {
            Some(sentinels) => Some(self.primary(&sentinels).await?),
            None => None,
        };
        let client = self.address.server(primary)?;
        let connected = async {
            let mut connection = open(&client, link::PATIENCE).await?;
            redis::cmd("SET")
                .arg(&self.probe)
                .arg(1)
                .arg("PX")
                .arg(PROBE_MS)
                .exec_async(&mut connection)
                .await?;
            Ok(connection)
        };
        let connected = connected.await.map_err(|e| faults::fault("connect to Redis", &self.address, &e));
        if connected.is_err() {
            // This Sentinel's word may be old.
            self.first.fetch_add(1, Relaxed);
        }
        connected
    }

    async fn primary(&self, sentinels: &Sentinels<'_>) -> Result<(String, u16)> {
        let count = sentinels.nodes.len();
        let mut last = None;
        for at in 0..count {
            let first = self.first.load(Relaxed);
            let node = &sentinels.nodes[(first + at) % count];
            let asked = tokio::select! {
                asked = self.ask(node.clone(), sentinels.master) => asked,
                () = self.clock.sleep(SENTINEL) => Err(faults::no_primary(&self.address, format_args!("{}: no answer", node.addr()))),
            };
            match asked {
                Ok(primary) => return Ok(primary),
                Err(fault) => last = Some(fault),
            }
        }
        self.first.fetch_add(1, Relaxed);
        Err(last.unwrap_or_else(|| faults::no_primary(&self.address, "no Sentinel is named")))
    }

    /// <https://redis.io/docs/latest/develop/reference/sentinel-clients/> (2026-11)
    async fn ask(&self, node: redis::ConnectionInfo, master: &str) -> Result<(String, u16)> {
        let place = node.addr().to_string();
        let client = self.address.client(node)?;
        let answer = async {
            let mut connection = open(&client, SENTINEL).await?;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
            let answer: Option<(String, u16)> = ask.query_async(&mut connection).await?;
            RedisResult::Ok(answer)
        };
        let answer = answer.await.map_err(|e| self.sentinel_fault(&place, &e))?;
        answer.ok_or_else(|| {
            faults::no_primary(&self.address, format_args!("{place} watches nothing of the name {master}"))
        })
    }

    fn sentinel_fault(&self, place: &str, error: &redis::RedisError) -> Fault {
        faults::fault("find the primary", &self.address, error)
            .while_doing(format_args!("ask the Sentinel at {place}"))
    }
}

async fn open(client: &Client, patience: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(link::CONNECTING))
        .set_response_timeout(Some(patience));
    client.get_multiplexed_async_connection_with_config(&config).await
}
