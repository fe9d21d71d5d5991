//! Looks on while somebody else carries a run out: over the API, or by what appears in the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures::TryStreamExt as _;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId, TaskId};
use lakehold_proto::outcome::OutcomeId;
use lakehold_proto::store::{Key, PatientStore, SharedStore};
use lakehold_worker::signals::Signals;

use crate::backup::progress::Watched;
use crate::backup::runs;
use crate::backup::summary::Summary;
use crate::engine::view::{RunView, Tasks};
use crate::output::{escaped, say};
use crate::serve::client::Client;
use crate::serve::wire::{Status, unfinished};

/// How often the service is asked.
const ASK: Duration = Duration::from_millis(500);
/// How often the store is looked into.
const LOOK: Duration = Duration::from_secs(2);
/// A batch with this many outcomes is not listed again: few more can come of it.
const FULL: usize = 1000;

/// A run that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// The run.
    pub(super) run: RunId,
    /// Its environments, with the items that are expected of each.
    pub(super) environments: Vec<(EnvName, Option<u64>)>,
    /// Show nothing meanwhile.
    pub(super) quiet: bool,
}

impl Watch {
    /// Tells what is looked at.
    pub(super) fn begin(&self) {
        if !self.quiet {
            let names: Vec<_> = self.environments.iter().map(|(name, _)| name.as_str()).collect();
            say(&format!("watching {}: {}", self.run, names.join(", ")));
        }
    }

    /// Looks on over the API until the run has ended. A service that is away for a while is waited for, and so is a run that
    /// stopped and is taken up again.
    pub(super) async fn over(self, service: &Client, signals: Signals) -> Result<Summary> {
        let (view, clock, run) = (RunView::default(), SystemClock::shared(), self.run.to_string());
        let ended = async {
            let (mut away, mut told) = (false, false);
            loop {
                match service.status(&run).await {
                    Ok(status) => {
                        away = false;
                        if status.resumes && !std::mem::replace(&mut told, true) {
                            say(&stopped(&status));
                        }
                        view.put(status.tasks);
                        match (status.summary, status.fault) {
                            _ if status.resumes => {}
                            (Some(summary), _) => return Ok(summary),
                            (None, Some(fault)) => return Err(fault.into_fault()),
                            (None, None) => {}
                        }
                    }
                    Err(fault) if fault.class.may_retry() => {
                        if !std::mem::replace(&mut away, true) {
                            say(&format!(
                                "warning: {fault}; waiting for it, the run is resumed when it is back"
                            ));
                        }
                    }
                    Err(fault) => return Err(fault),
                }
                clock.sleep(ASK).await;
            }
        };
        self.until(ended, &view, &clock, signals).await
    }

    /// Looks on by what appears in the store until the run has ended.
    pub(super) async fn in_store(self, store: &SharedStore, signals: Signals) -> Result<Summary> {
        let (view, clock, run) = (RunView::default(), SystemClock::shared(), self.run);
        let store = PatientStore::shared(store.clone(), clock.clone());
        let names: Vec<_> = self.environments.iter().map(|(name, _)| name.clone()).collect();
        let ended = async {
            let mut seen = Seen::default();
            loop {
                if let Some((plan, Some(report))) = runs::read(&*store, run).await? {
                    return Summary::of_ended(&*store, &plan, &report).await;
                }
                let mut tasks = BTreeMap::new();
                for name in &names {
                    let settled = seen.tasks(&store, run, name).await?;
                    tasks.insert(name.clone(), Tasks { settled, ..Tasks::default() });
                }
                view.put(tasks);
                clock.sleep(LOOK).await;
            }
        };
        self.until(ended, &view, &clock, signals).await
    }

    async fn until(
        &self,
        ended: impl Future<Output = Result<Summary>>,
        view: &RunView,
        clock: &SharedClock,
        mut signals: Signals,
    ) -> Result<Summary> {
        let watched =
            Watched { environments: self.environments.clone(), workers: None, view, clock: clock.clone() };
        let show = async {
            if !self.quiet {
                watched.show().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = ended => ended,
            () = show => Err(self.looked_away()),
            () = signals.next() => Err(self.looked_away()),
        }
    }

    fn looked_away(&self) -> Fault {
        let run = self.run;
        let detail = "you look no more; the run goes on";
        Fault::new(Class::Cancelled, "run.unwatched", format!("watch {run}"), detail)
            .hint(format!("look again: lakehold run watch {run}; end it: lakehold run cancel {run}"))
    }
}

/// What is said of a run that stopped and is taken up again.
fn stopped(status: &Status) -> String {
    let failed = status.fault.iter().map(|fault| format!("{}: {}", fault.context, fault.detail));
    let unfinished = status.summary.iter().flat_map(unfinished).map(|fault| fault.message.clone());
    let why = failed.chain(unfinished).next().unwrap_or_default();
    format!("warning: the run stopped: {}; waiting, it is taken up again within a minute", escaped(&why))
}

/// The tasks of which outcomes were seen, by batch.
#[derive(Default)]
struct Seen(HashMap<String, BTreeSet<TaskId>>);

impl Seen {
    /// How many tasks of an environment have outcomes.
    async fn tasks(&mut self, store: &SharedStore, run: RunId, environment: &EnvName) -> Result<usize> {
        let outcomes = Key::outcomes(run, environment);
        let mut all = 0;
        for batch in store.list_folders(&outcomes).await? {
            let prefix = format!("{outcomes}{batch}/");
            let seen = self.0.entry(prefix.clone()).or_default();
            if seen.len() < FULL {
                let listed: Vec<_> = store.list(&prefix).try_collect().await?;
                let names = listed.iter().filter_map(|listed| listed.key.as_str().strip_prefix(&prefix));
                seen.extend(names.filter_map(|name| name.parse::<OutcomeId>().ok()).map(|id| id.task));
            }
            all += seen.len();
        }
        Ok(all)
    }
}
