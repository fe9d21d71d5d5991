//! The steps of a restore, in the order in which they are carried out. There may be as many as items: they are put in order
//! on disk, and only counted in memory.

use std::collections::BTreeMap;
use std::iter::Peekable;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{Kind, RunId};
use lakehold_proto::restore::{Act, Step};
use lakehold_proto::store::SharedStore;
use lakehold_proto::task::{Bucket, TaskSpec};
use lakehold_worker::source::blueprint::Blueprint;
use serde::{Deserialize, Serialize};

use crate::listed::Listed;
use crate::spill::{Sorted, Spill};

/// Steps of one task, about.
const STEPS: u64 = 40;
/// Tasks of one stage and kind, at most: a power of two.
const TASKS: u32 = 1024;

/// Steps kept in memory while they are put in order: about a megabyte of them.
const LINES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Steps {
    lines: Spill<Line>,
    counts: BTreeMap<(u16, Kind), BTreeMap<Act, u64>>,
    bytes: BTreeMap<(u16, Kind), Bytes>,
}

/// What the steps of one stage and kind are about.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    /// The largest of them.
    most: u64,
    all: u64,
}

/// One step. Steps of a stage and kind stand together, by the task that will have them: a plan names a task's steps by the
/// pieces they are written in, and is read by every worker. Where the order of a kind matters, they stand by their rank.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Line {
    stage: u16,
    kind: Kind,
    task: u16,
    rank: Option<i64>,
    act: Act,
    key: String,
    name: String,
    step: String,
}

impl Default for Steps {
    fn default() -> Self {
        Self { lines: Spill::new(LINES), counts: BTreeMap::new(), bytes: BTreeMap::new() }
    }
}

impl Steps {
    /// Takes a step in.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for temporary files.
    pub fn push(&mut self, stage: u16, kind: &Kind, rank: Option<i64>, step: &Step) -> Result<()> {
        *self.counts.entry((stage, kind.clone())).or_default().entry(step.act).or_default() += 1;
        let bytes = self.bytes.entry((stage, kind.clone())).or_default();
        bytes.most = bytes.most.max(step.bytes());
        bytes.all += step.bytes();
        let text = serde_json::to_string(step)
            .map_err(|e| Fault::new(Class::Bug, "restore.encode", "write down a step", e))?;
        let (kind, act, key, name) = (kind.clone(), step.act, step.key.clone(), step.name.clone());
        let task = if rank.is_some() { 0 } else { task(&name) };
        self.lines.push(Line { stage, kind, task, rank, act, key, name, step: text })
    }

    /// How many there are of each sort, by stage and kind.
    pub fn counts(&self) -> &BTreeMap<(u16, Kind), BTreeMap<Act, u64>> {
        &self.counts
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The first stage behind all of them.
    pub fn end(&self) -> u16 {
        self.counts.keys().map(|(stage, _)| stage + 1).max().unwrap_or(0)
    }

    /// The tasks of a run that do them. What is to be done lies in the run, in order.
    ///
    /// # Errors
    /// As [`Self::push`]; and the store's.
    pub(super) async fn into_tasks(
        self,
        store: &SharedStore,
        run: RunId,
        blueprint: &dyn Blueprint,
    ) -> Result<Vec<TaskSpec>> {
        let mut tasks = Vec::new();
        let mut lines = self.lines.sorted()?.peekable();
        for ((stage, kind), acts) in self.counts {
            let of = if blueprint.is_ordered(&kind) { 1 } else { tasks_for(acts.values().sum()) };
            let mut listed = Listed::new(store, run, of);
            while let Some(line) = next_of(&mut lines, stage, &kind)? {
                // Twins have one name, so they are in one task.
                listed.push_line(&line.name, line.step.as_bytes()).await?;
            }
            let bytes = self.bytes.get(&(stage, kind.clone())).copied().unwrap_or_default();
            let of_a_task = bytes.most.max(bytes.all / u64::from(of));
            let long = blueprint.long_from(&kind).is_some_and(|long| of_a_task >= long);
            let made = listed.finish(stage, kind.clone(), vec![kind].into()).await?;
            tasks.extend(made.into_iter().map(|task| TaskSpec { long, ..task }));
        }
        Ok(tasks)
    }
}

/// The next step of a stage and kind.
fn next_of(lines: &mut Peekable<Sorted<Line>>, stage: u16, kind: &Kind) -> Result<Option<Line>> {
    let of_it =
        |line: &Result<Line>| line.as_ref().map_or(true, |line| line.stage == stage && line.kind == *kind);
    lines.next_if(of_it).transpose()
}

/// Sorts names so that those of one task stand together, however many tasks there will be: it is told by the last digits of
/// their number, which come first here.
fn task(name: &str) -> u16 {
    (Bucket::of_key(name, TASKS).index as u16).reverse_bits()
}

/// How many tasks so many steps make, where their order does not matter.
fn tasks_for(steps: u64) -> u32 {
    steps.div_ceil(STEPS).next_power_of_two().min(u64::from(TASKS)) as u32
}

#[cfg(test)]
mod tests {
    use lakehold_proto::format::read_located;
    use lakehold_proto::store::Key;
    use lakehold_worker::configured::blueprint;

    use super::*;
    use crate::snapshot::fixture::Site;

    fn step(name: String) -> Step {
        Step {
            act: Act::Create,
            key: name.clone(),
            name,
            target: None,
            others: Vec::new(),
            parts: Vec::new(),
            whole: Vec::new(),
            pointers: Vec::new(),
            set: Vec::new(),
            parts_of_it: 0,
            bytes_of_it: 0,
        }
    }

    /// The names of the steps of each task, stage by stage; and in how many pieces they are written.
    async fn told(
        kind: &str,
        steps: impl Iterator<Item = (u16, Option<i64>)>,
    ) -> (Vec<(u16, Vec<String>)>, usize) {
        let (site, kind, run) =
            (Site::new(), Kind::named(kind), RunId::new("2026-08-01T00:00:00Z".parse().unwrap()));
        let mut all = Steps::default();
        for (n, (stage, rank)) in steps.enumerate() {
            all.push(stage, &kind, rank, &step(n.to_string())).unwrap();
        }
        let tasks = all.into_tasks(&site.store, run, blueprint("databricks").unwrap()).await.unwrap();
        let (mut told, mut pieces) = (Vec::new(), 0);
        for task in tasks {
            pieces += task.input.len();
            let mut names = Vec::new();
            for frame in &task.input {
                let key = Key::listing(run, frame.object);
                let lines = read_located(&*site.store, &key, frame).await.unwrap();
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                names.extend(lines.map(|line| serde_json::from_slice::<Step>(line).unwrap().name));
            }
            told.push((task.stage, names));
        }
        (told, pieces)
    }

    #[tokio::test]
    async fn what_is_made_in_order_is_one_task_in_that_order() {
        // Of 3000 in two stages, each has the rank that its number has backwards.
        let steps = (0..3000_i64).map(|n| (u16::from(n % 2 == 1), Some(3000 - n)));
        let (told, _) = told("global_init_script", steps).await;
        let backwards = |odd: u16| (0..3000_u16).rev().filter(move |n| n % 2 == odd).map(|n| n.to_string());
        assert_eq!(told, [(0, backwards(0).collect::<Vec<_>>()), (1, backwards(1).collect())]);
    }

    #[tokio::test]
    async fn what_has_no_order_is_cut_into_tasks_and_nothing_is_lost() {
        let (told, pieces) = told("job", (0..20_000).map(|_| (7, None))).await;
        assert!(told.len() > 200 && told.iter().all(|(stage, _)| *stage == 7), "{}", told.len());
        assert!(pieces < told.len() + 20, "{pieces} pieces of {} tasks", told.len());
        let mut names: Vec<u16> =
            told.iter().flat_map(|(_, names)| names).map(|name| name.parse().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, (0..20_000).collect::<Vec<_>>());
    }
}
