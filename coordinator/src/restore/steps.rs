//! The steps of a restore, in the order in which they are carried out. There may be as many as items: they are put in order
//! on disk, and only counted in memory.

use std::collections::BTreeMap;
use std::iter::Peekable;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::restore::{Act, Step};
use serde::{Deserialize, Serialize};

use crate::spill::{Sorted, Spill};

/// Steps kept in memory while they are put in order: about a megabyte of them.
const LINES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Steps {
    lines: Spill<Line>,
    counts: BTreeMap<(u16, Kind), BTreeMap<Act, u64>>,
}

/// One step. Steps of a stage and kind stand together; where the order of a kind matters, by their rank.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Line {
    stage: u16,
    kind: Kind,
    rank: Option<i64>,
    act: Act,
    key: String,
    name: String,
    step: String,
}

impl Default for Steps {
    fn default() -> Self {
        Self { lines: Spill::new(LINES), counts: BTreeMap::new() }
    }
}

impl Steps {
    /// Takes a step in.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for temporary files.
    pub fn push(&mut self, stage: u16, kind: &Kind, rank: Option<i64>, step: &Step) -> Result<()> {
        *self.counts.entry((stage, kind.clone())).or_default().entry(step.act).or_default() += 1;
        let text = serde_json::to_string(step)
            .map_err(|e| Fault::new(Class::Bug, "restore.encode", "write down a step", e))?;
        let (kind, act, key, name) = (kind.clone(), step.act, step.key.clone(), step.name.clone());
        self.lines.push(Line { stage, kind, rank, act, key, name, step: text })
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

    /// All of them, in order.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn sorted(self) -> Result<InOrder> {
        Ok(InOrder(self.lines.sorted()?.peekable()))
    }
}

/// Steps in order, a stage and kind at a time.
pub(super) struct InOrder(Peekable<Sorted<Line>>);

impl InOrder {
    /// The next step of a stage and kind: the name by which it finds its task, and its text.
    pub(super) fn next_of(&mut self, stage: u16, kind: &Kind) -> Result<Option<(String, String)>> {
        let of_it = |line: &Result<Line>| {
            line.as_ref().map_or(true, |line| line.stage == stage && line.kind == *kind)
        };
        let line = self.0.next_if(of_it).transpose()?;
        Ok(line.map(|line| (line.name, line.step)))
    }
}
