//! The Databricks client against the simulated workspace, and against servers that no workspace should be.

mod answers;
mod pace;
mod pages;
mod probe;
mod scripted;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lakehold_proto::clock::{Clock, SharedClock, SystemClock, Tick};
use lakehold_proto::config::NotebookFormat;
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::outcome::Calls;
use lakehold_proto::secret::Secret;
use lakehold_sim::{Sim, SimConfig};
use lakehold_worker::capture::Meter;
use lakehold_worker::progress::Done;
use lakehold_worker::source::databricks::families::INSTANCE_POOLS;
use lakehold_worker::source::databricks::{Client, Credentials, Patience, Request, SecretSource, Settings};

/// A clock that runs twenty times as fast: pauses of seconds take no time, and are still waited for.
#[derive(Debug)]
pub(crate) struct Fast(SharedClock);

const SPEED: u32 = 20;

#[async_trait]
impl Clock for Fast {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn tick(&self) -> Tick {
        Tick::at(self.0.tick().elapsed() * SPEED)
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration / SPEED).await;
    }
}

pub(crate) fn fast() -> SharedClock {
    Arc::new(Fast(SystemClock::shared()))
}

pub(crate) fn secret(value: &str) -> SecretSource {
    SecretSource::Value(Secret::new(value))
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        host: url.parse().unwrap(),
        credentials: Credentials::Token(secret(lakehold_sim::TOKEN)),
        workspace_id: None,
        share: 0.97,
        concurrency: 16,
        notebooks: NotebookFormat::Source,
        patience: Patience { idle: Duration::from_secs(5), ..Patience::default() },
    }
}

pub(crate) fn client(settings: Settings) -> Client {
    client_by(settings, fast())
}

pub(crate) fn client_by(settings: Settings, clock: SharedClock) -> Client {
    Client::new(settings, Arc::new(MemoryLocks::new(Arc::clone(&clock))), clock).unwrap()
}

pub(crate) fn meter() -> Arc<Meter> {
    Arc::new(Meter::new(Arc::new(Done::default())))
}

pub(crate) fn calls(meter: &Meter) -> Calls {
    let mut all = Calls::default();
    for calls in meter.figures().calls.values() {
        all.made += calls.made;
        all.throttled += calls.throttled;
        all.retried += calls.retried;
    }
    all
}

/// A simulated workspace and a client for it.
pub(crate) struct Scene {
    pub(crate) sim: Sim,
    pub(crate) client: Client,
    pub(crate) meter: Arc<Meter>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let sim = Sim::start(SimConfig::default()).await.unwrap();
        let client = client(settings(&sim.url(0)));
        Self { sim, client, meter: meter() }
    }

    /// Arms a fault, given as JSON.
    pub(crate) fn fault(&self, fault: serde_json::Value) {
        self.sim.add_fault(serde_json::from_value(fault).unwrap()).unwrap();
    }
}

/// A call that every workspace answers.
pub(crate) fn pools() -> Request {
    Request::get(&INSTANCE_POOLS, "/api/2.0/instance-pools/list")
}
