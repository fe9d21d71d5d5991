//! How old each environment's last good snapshot is, as metrics: what an alert is best put on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::ids::EnvName;
use lakehold_proto::store::Store;
use lakehold_proto::telemetry::metrics;
use tracing::warn;

use crate::snapshot::good::last_good;

/// How often the store is asked: a listing and a manifest for each environment.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// Environments that are asked about at once.
const READS: usize = 16;

/// What is known of each environment: when its last good snapshot was taken, or that there is none.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    looked: Option<Tick>,
    taken: BTreeMap<EnvName, Option<Timestamp>>,
}

impl Freshness {
    /// Tells the metrics how old snapshots are now, and looks into the store now and then.
    pub(super) async fn tell(
        &mut self,
        store: &dyn Store,
        environments: &BTreeSet<EnvName>,
        clock: &SharedClock,
    ) {
        if self.looked.is_none_or(|at| clock.tick().since(at) >= LOOK) {
            self.looked = Some(clock.tick());
            let asked = environments.iter().map(|name| async move { (name, last_good(store, name).await) });
            let mut answers = futures::stream::iter(asked).buffer_unordered(READS);
            while let Some((environment, answer)) = answers.next().await {
                match answer {
                    Ok((good, _)) => _ = self.taken.insert(environment.clone(), good.map(|good| good.time)),
                    // What was known stays, and grows older.
                    Err(fault) => {
                        warn!(%environment, %fault, "cannot tell how old the last good snapshot is");
                    }
                }
            }
        }
        let now = clock.now();
        for (environment, taken) in &self.taken {
            let stands = taken.map(|taken| {
                let age = now.duration_since(taken).as_secs_f64().max(0.0);
                (taken.as_second() as f64, age)
            });
            metrics().last_good(environment.as_str(), stands);
        }
    }
}
