//! The connection to Redis, kept up by a supervisor of our own.
//!
//! **Why not the library's connection manager**: it connects when somebody calls, within that caller's time, and takes a
//! server that accepts connections for one that works. Here one task connects in the background, looks whether writes are
//! taken (see `connect.rs`), and callers either find a connection that worked a moment ago or are told at once why there is
//! none, so that they can go on alone without waiting. A Sentinel is asked at every connect.
//!
//! **Retries**: a call is sent again only when its connection was found broken, once, and only if doing it twice does no
//! harm. **Cancellation**: a caller that goes away may have been served all the same. **Never waits long**: an answer or a
//! fault comes within [`PATIENCE`]; a connection that kept somebody waiting that long is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng as _;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ScriptInvocation};
use tokio::sync::watch;

use super::connect::Connector;
use super::faults;
use crate::clock::SharedClock;
use crate::fault::{Fault, Result};

/// How long one call may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take.
pub(super) const CONNECTING: Duration = Duration::from_secs(2);
/// The pauses between attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long it takes at most until a client that lost Redis sees that it is back, with something to spare: a pause, and an
/// attempt that began just too early.
pub(super) const NOTICE: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    connector: Arc<Connector>,
    state: watch::Sender<State>,
    supervisor: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    /// Not known yet, or broken a moment ago.
    Connecting,
    /// A connection and its number.
    Up(u64, MultiplexedConnection),
    /// The last attempt failed; the next follows by itself.
    Down(Fault),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Up(number, _) => write!(f, "up {number}"),
            Self::Down(fault) => write!(f, "down: {fault}"),
        }
    }
}

/// Whether a call may be sent again after its connection broke, when nobody knows whether it was carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Twice {
    Harmless,
    Harmful,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(connector: Connector) -> Self {
        let connector = Arc::new(connector);
        let state = watch::Sender::new(State::Connecting);
        let supervisor = tokio::spawn(supervise(Arc::clone(&connector), state.clone()));
        Self { connector, state, supervisor }
    }

    /// Whether there is a connection that nobody complained about.
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(..))
    }

    /// Waits for the first attempt, at most as long as one may take.
    pub(super) async fn ready(&self) -> Result<()> {
        let limit = CONNECTING + PATIENCE;
        tokio::select! {
            connected = self.connection() => connected.map(|_| ()),
            () = self.clock().sleep(limit) => Err(self.silent("connect to Redis", limit)),
        }
    }

    /// Has the server carry out `script`.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        context: &'static str,
        twice: Twice,
        script: &ScriptInvocation<'_>,
    ) -> Result<T> {
        let mut used = None;
        tokio::select! {
            answer = self.attempts(context, twice, script, &mut used) => answer,
            () = self.clock().sleep(PATIENCE) => {
                if let Some(number) = used {
                    self.give_up(number);
                }
                Err(self.silent(context, PATIENCE))
            }
        }
    }

    async fn attempts<T: FromRedisValue>(
        &self,
        context: &'static str,
        twice: Twice,
        script: &ScriptInvocation<'_>,
        used: &mut Option<u64>,
    ) -> Result<T> {
        let mut again = twice == Twice::Harmless;
        loop {
            let (number, mut connection) =
                self.connection().await.map_err(|fault| fault.while_doing(context))?;
            *used = Some(number);
            let error = match script.invoke_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if faults::wants_another_connection(&error) {
                self.give_up(number);
                *used = None;
            }
            if !(faults::broke(&error) && std::mem::take(&mut again)) {
                return Err(faults::fault(context, &self.connector.address, &error));
            }
        }
    }

    /// The connection, as soon as it is known whether there is one.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection)> {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match known.as_deref() {
            Ok(State::Up(number, connection)) => Ok((*number, connection.clone())),
            Ok(State::Down(fault)) => Err(fault.clone()),
            Ok(State::Connecting) | Err(_) => Err(self.silent("connect to Redis", PATIENCE)),
        }
    }

    fn give_up(&self, number: u64) {
        self.state.send_if_modified(|state| {
            let mine = matches!(state, State::Up(held, _) if *held == number);
            if mine {
                *state = State::Connecting;
            }
            mine
        });
    }

    fn clock(&self) -> &SharedClock {
        &self.connector.clock
    }

    fn silent(&self, context: &str, limit: Duration) -> Fault {
        faults::silent(context, &self.connector.address, format_args!("no answer within {limit:?}"))
    }
}

/// Connects whenever there is no connection, for ever. The pauses grow to a second and no further, and are jittered: a fleet
/// that lost one server must not come back as one.
async fn supervise(connector: Arc<Connector>, state: watch::Sender<State>) {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let mut given_up = state.subscribe();
    let mut pause = PAUSES.0;
    loop {
        let attempt = tokio::select! {
            attempt = connector.connect() => attempt,
            () = connector.clock.sleep(CONNECTING) => {
                let detail = format_args!("no connection within {CONNECTING:?}");
                Err(faults::silent("connect to Redis", &connector.address, detail))
            }
        };
        match attempt {
            Ok(connection) => {
                let up = connector.clock.tick();
                state.send_replace(State::Up(NUMBERS.fetch_add(1, Relaxed), connection));
                // Only this task holds senders besides the link itself, whose end aborts it.
                let _ = given_up.wait_for(|state| !matches!(state, State::Up(..))).await;
                // One that broke at once is no better than none.
                if connector.clock.tick().since(up) > PAUSES.1 {
                    pause = PAUSES.0;
                }
            }
            Err(fault) => {
                tracing::debug!(%fault, "no connection to Redis");
                state.send_replace(State::Down(fault));
            }
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        connector.clock.sleep(jittered).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
