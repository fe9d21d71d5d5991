//! What a person sees while a backup runs: on a terminal a line for each environment, elsewhere a line now and then.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::SignedDuration;
use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::plan::Plan;
use lakehold_worker::progress::{Done, Progress};

use crate::engine::view::{RunView, Tasks};
use crate::output::{age, bytes, count, draws, say};

/// How often the lines are drawn on a terminal.
const FRAME: Duration = Duration::from_millis(200);
/// How often a line is written elsewhere.
const LINE: Duration = Duration::from_secs(10);

/// What the display looks at.
#[derive(Debug)]
pub struct Watched<'a> {
    /// The environments, with the items that are expected of each.
    pub environments: Vec<(EnvName, Option<u64>)>,
    /// What workers have done, where they are this process's own, and where the present rate is known: then it is told as
    /// it happens, and by items. What others do is known when their tasks have settled.
    pub workers: Option<(&'a Progress, SharedLocks)>,
    /// How far the run is.
    pub view: &'a RunView,
    /// Time.
    pub clock: SharedClock,
}

/// The environments of a plan, with the items that are expected of each.
pub fn expected(plan: &Plan) -> Vec<(EnvName, Option<u64>)> {
    plan.environments.iter().map(|planned| (planned.environment.clone(), planned.estimate.items)).collect()
}

impl Watched<'_> {
    /// Shows the run until it is dropped.
    pub async fn show(&self) {
        let began = self.clock.tick();
        if draws() { self.draw(began).await } else { self.write(began).await }
    }

    async fn draw(&self, began: Tick) {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = |(environment, _): &(EnvName, Option<u64>)| {
            let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()));
            (environment.clone(), bar)
        };
        let bars: BTreeMap<EnvName, ProgressBar> = self.environments.iter().map(line).collect();
        let _clear = Clear(&all);
        loop {
            for (environment, bar) in &bars {
                bar.set_message(self.line(environment, began).await);
                bar.tick();
            }
            self.clock.sleep(FRAME).await;
        }
    }

    async fn write(&self, began: Tick) {
        loop {
            self.clock.sleep(LINE).await;
            for (environment, _) in &self.environments {
                say(&self.line(environment, began).await);
            }
        }
    }

    async fn line(&self, environment: &EnvName, began: Tick) -> String {
        let tasks = self.view.tasks().get(environment).copied().unwrap_or_default();
        let Some((progress, locks)) = &self.workers else {
            return format!("{environment}  {}{}", took(&tasks), committing(&tasks));
        };
        let done = progress.of(environment);
        let items = done.items.load(Relaxed);
        let took = took(&Tasks {
            calls: done.calls.load(Relaxed),
            throttled: done.throttled.load(Relaxed),
            bytes: done.bytes.load(Relaxed),
            ..tasks
        });
        let mut line = format!("{environment}  {} items  {took}", count(items));
        let gaps = done.gaps.load(Relaxed);
        if gaps > 0 {
            line += &format!("  {} gaps", count(gaps));
        }
        line += &rate(&done, locks).await;
        line += &self.left(environment, items, tasks, self.clock.tick().since(began));
        line
    }

    /// What is left: by the items that the base snapshot leads us to expect, where there is one.
    fn left(&self, environment: &EnvName, items: u64, tasks: Tasks, elapsed: Duration) -> String {
        if !committing(&tasks).is_empty() {
            return committing(&tasks).into();
        }
        let expected = self.environments.iter().find(|(name, _)| name == environment);
        let Some(expected) = expected.and_then(|(_, items)| *items) else { return String::new() };
        if items == 0 || items >= expected {
            return String::new();
        }
        let left = elapsed.as_secs_f64() / items as f64 * (expected - items) as f64;
        format!("  about {} left", age(SignedDuration::from_secs(left as i64)))
    }
}

/// The bucket that last made a call wait: its present rate against its ceiling.
async fn rate(done: &Done, locks: &SharedLocks) -> String {
    let bound = done.bound_by.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((key, ceiling)) = bound else { return String::new() };
    match locks.rate(&key).await {
        Ok(Some(rate)) => {
            let name = key.as_str().rsplitn(3, '/').take(2).collect::<Vec<_>>();
            let family = name.get(1).copied().unwrap_or("");
            format!("  {family} {rate:.0}/{:.0} per s", ceiling as f64 / 1000.0)
        }
        _ => String::new(),
    }
}

fn took(tasks: &Tasks) -> String {
    let Tasks { known, settled, calls, throttled, bytes: read } = *tasks;
    // Who only looks into the store knows no more.
    if known == 0 {
        return format!("{settled} tasks");
    }
    let mut took = format!("{} calls  {}  {settled}/{known} tasks", count(calls), bytes(read));
    if throttled > 0 {
        took += &format!("  {} throttled", count(throttled));
    }
    took
}

fn committing(tasks: &Tasks) -> &'static str {
    if tasks.known > 0 && tasks.settled == tasks.known { "  committing" } else { "" }
}

/// Wipes the lines when the display ends, however it ends.
struct Clear<'a>(&'a MultiProgress);

impl Drop for Clear<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no wiping.
        let _ = self.0.clear();
    }
}
