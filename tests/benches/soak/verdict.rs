//! What runs came to, held against the one that was left alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use lakehold_tests::program::Ran;
use serde_json::Value;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Content roots by environment.
    expected: BTreeMap<String, String>,
    committed: BTreeSet<(String, String)>,
    /// Faults of gaps, of environments that failed, and of coordinators that ended early, by code.
    pub(crate) reasons: BTreeMap<String, usize>,
    pub(crate) workers_ended: usize,
    complete: usize,
    partial: usize,
    failed: usize,
    wrong: usize,
    unreasoned: usize,
    resumed: usize,
    resumes: usize,
    runs: usize,
    seconds: f64,
    longest: f64,
    worker_memory: u64,
    coordinator_memory: u64,
}

/// How a coordinator ended.
#[derive(Debug)]
pub(crate) enum What {
    /// Its run ended, for each environment as told.
    Ended(String),
    /// Its run is to be resumed, for this reason.
    Resumable(String),
    /// There was no run to be resumed.
    NothingToResume,
}

impl Tally {
    /// Takes the roots of a run that was left alone.
    pub(crate) fn expect(&mut self, ran: &Ran) {
        let said = ran.json();
        for (name, environment) in said["environments"].as_object().unwrap() {
            let root = environment["content_root"].as_str().unwrap();
            self.expected.insert(name.clone(), root.to_owned());
        }
    }

    /// Takes down how a coordinator ended.
    pub(crate) fn judge(&mut self, ran: &Ran) -> What {
        if ran.err.contains("run.nothing-to-resume") {
            return What::NothingToResume;
        }
        let said = serde_json::from_str::<Value>(&ran.out).unwrap_or_default();
        let Some(environments) = said["environments"].as_object() else {
            let code = ended_with(ran);
            self.reason(&code);
            return What::Resumable(code);
        };
        let mut states = Vec::new();
        let mut goes_on = false;
        for (name, environment) in environments {
            let state = environment["state"].as_str().unwrap_or_default();
            let (word, unfinished) = self.environment(name, state, environment);
            goes_on |= unfinished;
            states.push(word);
        }
        let states = states.join(", ");
        if goes_on { What::Resumable(states) } else { What::Ended(states) }
    }

    /// What to say of an environment, and whether its run goes on.
    fn environment(&mut self, name: &str, state: &str, ended: &Value) -> (String, bool) {
        if let Some(snapshot) = ended["snapshot"].as_str() {
            self.committed.insert((name.to_owned(), snapshot.to_owned()));
        }
        match state {
            "complete" => {
                self.complete += 1;
                let root = ended["content_root"].as_str().unwrap_or_default();
                let right = self.expected.get(name).is_some_and(|expected| expected == root);
                self.wrong += usize::from(!right);
                (if right { "complete".into() } else { format!("WRONG ROOT of {name}: {root}") }, false)
            }
            "partial" => {
                self.partial += 1;
                let kinds = ended["kinds"].as_array().unwrap();
                let hurt: Vec<_> = kinds.iter().filter(|kind| !kind["fault"].is_null()).collect();
                let codes: Vec<_> = hurt.iter().filter_map(|kind| kind["fault"]["code"].as_str()).collect();
                codes.iter().for_each(|code| self.reason(code));
                let gaps = ended["totals"]["gaps"].as_u64().unwrap_or_default();
                self.unreasoned += usize::from(codes.is_empty() && gaps == 0);
                (format!("{name} partial ({codes:?}, {gaps} items are gaps)"), false)
            }
            _ => {
                let code = ended["fault"]["code"].as_str().unwrap_or("no code");
                self.reason(code);
                let again = state == "unfinished" || code == "lock.held";
                self.failed += usize::from(!again);
                (format!("{name} {state} ({code})"), again)
            }
        }
    }

    fn reason(&mut self, code: &str) {
        *self.reasons.entry(code.to_owned()).or_default() += 1;
    }

    /// A run ended.
    pub(crate) fn run(&mut self, seconds: f64, resumed: usize) {
        self.runs += 1;
        self.seconds += seconds;
        self.longest = self.longest.max(seconds);
        self.resumed += usize::from(resumed > 0);
        self.resumes += resumed;
    }

    /// The most memory that was seen.
    pub(crate) fn memory(&mut self, worker: Option<u64>, coordinator: Option<u64>) {
        self.worker_memory = self.worker_memory.max(worker.unwrap_or_default());
        self.coordinator_memory = self.coordinator_memory.max(coordinator.unwrap_or_default());
    }

    /// What is wrong with the snapshots that are there: one that was told of is gone, one that is complete has another
    /// root, a run made two of one environment, or one cannot be read.
    pub(crate) fn compare(&self, listed: &Ran) -> Vec<String> {
        let said = listed.json();
        let rows = said["snapshots"].as_array().unwrap();
        let (mut wrong, mut found, mut runs) = (Vec::new(), BTreeSet::new(), HashSet::new());
        for row in rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let environment = text("environment");
            found.insert((environment.clone(), text("snapshot")));
            if !runs.insert((environment.clone(), text("run"))) {
                wrong.push(format!("two snapshots of one run: {row}"));
            }
            let is_right = self.expected.get(&environment) == Some(&text("content_root"));
            if row.get("damaged").is_some() || (text("state") == "complete" && !is_right) {
                wrong.push(format!("a snapshot is wrong: {row}"));
            }
        }
        wrong.extend(self.committed.difference(&found).map(|lost| format!("a snapshot is lost: {lost:?}")));
        wrong
    }

    /// Whether everything that ended, ended right.
    pub(crate) fn is_sound(&self) -> bool {
        self.wrong == 0 && self.unreasoned == 0 && self.complete > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, resumed, resumes, complete, partial, failed, wrong, .. } = self;
        let mean = self.seconds / (*runs).max(1) as f64;
        write!(
            f,
            "{runs} runs ({resumed} of them resumed, {resumes} times; {mean:.1} s each, longest {:.1} s); environments, as coordinators told: \
             {complete} complete, {partial} partial, {failed} failed for a stated reason, {wrong} WITH A WRONG ROOT; \
             peak memory: worker {} MiB, coordinator {} MiB; {} workers ended by themselves",
            self.longest,
            self.worker_memory >> 20,
            self.coordinator_memory >> 20,
            self.workers_ended,
        )
    }
}

/// The code of the error that it ended with.
fn ended_with(ran: &Ran) -> String {
    let Some(exit) = ran.code else { return "killed".into() };
    let said = ran.err.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let code = said.and_then(|said| Some(said["code"].as_str()?.to_owned()));
    code.unwrap_or_else(|| format!("exit {exit} without a code"))
}
