//! Many seeds, on all cores, and what they came to.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::world::{TROUBLES, Trouble};
use super::{Ran, run};

/// What some seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Seeds that were run.
    pub seeds: u64,
    /// Of these, those whose snapshots are the undisturbed run's; the others have gaps that say why.
    pub whole: u64,
    /// Tasks of all their runs.
    pub tasks: u64,
    /// Virtual time that passed.
    pub took: Duration,
    /// The longest time that a run took after its last trouble.
    pub slowest: Duration,
    /// How often each trouble struck.
    pub struck: BTreeMap<Trouble, u64>,
    /// Seeds in which something was broken, and what.
    pub failures: Vec<(u64, Vec<String>)>,
}

impl Figures {
    fn take(&mut self, seed: u64, ran: Ran) {
        self.seeds += 1;
        self.whole += u64::from(ran.whole);
        self.tasks += ran.tasks;
        self.took += ran.took;
        self.slowest = self.slowest.max(ran.calm);
        for (trouble, times) in ran.struck {
            *self.struck.entry(trouble).or_default() += times;
        }
        if !ran.broken.is_empty() {
            self.failures.push((seed, ran.broken));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, whole, tasks, took, slowest, struck, failures } = self;
        let faults: u64 = struck.values().sum();
        write!(f, "{seeds} seeds, {} failed, {whole} whole, {tasks} tasks, ", failures.len())?;
        write!(f, "{:.1} simulated hours, ", took.as_secs_f64() / 3600.0)?;
        write!(f, "slowest {:.0} s after its last trouble, {faults} faults:", slowest.as_secs_f64())?;
        for (trouble, name, _) in TROUBLES {
            write!(f, " {name}={}", struck.get(trouble).copied().unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Runs the seeds on so many threads. `told` hears of the figures after each.
pub fn run_many(seeds: Range<u64>, threads: usize, told: impl Fn(&Figures) + Sync) -> Figures {
    let (next, figures) = (AtomicU64::new(seeds.start), Mutex::new(Figures::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let ran = run(seed, false);
                    let mut figures = figures.lock().expect("nobody panics with it");
                    figures.take(seed, ran);
                    told(&figures);
                }
            });
        }
    });
    let mut figures = figures.into_inner().expect("nobody panics with it");
    figures.failures.sort_unstable();
    figures
}
