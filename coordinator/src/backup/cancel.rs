//! Cancelling a run: a marker in the store, written once. Its coordinator finds it there within seconds, and so does whoever
//! would go on with the run later; workers begin no more of its tasks.

use std::time::Duration;

use jiff::Timestamp;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::RunId;
use lakehold_proto::store::{Key, Store};
use serde_json::json;

use super::report::RunReport;
use super::runs;
use super::unfinished::Left;

/// How long a coordinator is given to end the run; it looks for the marker much more often.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(500);

/// Asks for a run to be cancelled. Asking again changes nothing.
///
/// # Errors
/// `run.absent`; `run.ended` when there is nothing left to cancel; the store's.
pub async fn ask(store: &dyn Store, run: RunId, now: Timestamp) -> Result<()> {
    let context = || format!("cancel {run}");
    let absent = || Fault::new(Class::Absent, "run.absent", context(), "the store has no such run");
    let (plan, report) = runs::read(store, run).await?.ok_or_else(absent)?;
    if let Some(report) = report {
        let state = runs::row(&plan, Some(&report)).state.word();
        let detail = format!("it ended as {state} at {}", report.ended);
        return Err(Fault::new(Class::Conflict, "run.ended", context(), detail));
    }
    let marker = json!({"schema": "lakehold.cancel/v1", "run": run, "asked": now});
    store.put_new(&Key::cancel(run), marker.to_string().into()).await.map(|_| ())
}

/// Waits until the coordinator of a run that was asked to be cancelled has ended it. Where none does, nobody works on it,
/// and it is closed here: should one be there all the same, it ends by the marker, and what it commits meanwhile is kept.
///
/// # Errors
/// The store's.
pub async fn settle(store: &dyn Store, run: RunId, clock: &SharedClock) -> Result<Option<RunReport>> {
    let began = clock.tick();
    loop {
        let Some((plan, report)) = runs::read(store, run).await? else { return Ok(None) };
        if report.is_some() {
            return Ok(report);
        }
        if clock.tick().since(began) >= PATIENCE {
            Left { plan, cancelled: true }.close(store, clock.now()).await?;
            continue;
        }
        clock.sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use lakehold_proto::clock::{Clock, Tick};
    use lakehold_proto::ids::TraceId;
    use lakehold_proto::plan::{PLAN_SCHEMA, Plan};
    use lakehold_proto::store::DirectoryStore;
    use lakehold_proto::task::Verb;

    use super::*;

    /// Goes on by what is waited for.
    #[derive(Debug, Default)]
    struct Hasty(AtomicU64);

    #[async_trait]
    impl Clock for Hasty {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
        fn tick(&self) -> Tick {
            Tick::at(Duration::from_millis(self.0.load(Ordering::Relaxed)))
        }
        async fn sleep(&self, duration: Duration) {
            self.0.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_run_that_nobody_coordinates_is_closed_by_who_cancels_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, now) = (DirectoryStore::new(dir.path()), Timestamp::UNIX_EPOCH);
        let run = RunId::new(now);
        assert_eq!(ask(&store, run, now).await.unwrap_err().code, "run.absent");
        let plan = Plan {
            schema: PLAN_SCHEMA.into(),
            run,
            verb: Verb::Backup,
            created: now,
            trace: TraceId::random(),
            tags: Vec::new(),
            environments: Vec::new(),
        };
        store.put_new(&Key::plan(run), serde_json::to_vec(&plan).unwrap().into()).await.unwrap();
        for _ in 0..2 {
            ask(&store, run, now).await.unwrap();
        }
        let clock: SharedClock = Arc::new(Hasty::default());
        let report = settle(&store, run, &clock).await.unwrap().unwrap();
        assert_eq!(report.run, run);
        assert!(clock.tick().elapsed() >= PATIENCE, "a coordinator has its time");
        assert_eq!(ask(&store, run, now).await.unwrap_err().code, "run.ended");
    }
}
