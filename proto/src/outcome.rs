//! Outcomes: what a task settled. Written once, at a key nobody else writes; a late or doubled one is harmless.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Class, Fault, FaultRecord, Result};
use crate::format::IndexRef;
use crate::ids::{Kind, Nonce, SnapshotId, TaskId, TraceId};
use crate::store::Key;
use crate::task::{Assignment, Batch, Shard, Task, TaskSpec};

/// What one delivery of one attempt at a task came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task.
    pub task: Task,
    /// The attempt.
    pub attempt: u32,
    /// The delivery.
    pub nonce: Nonce,
    /// The batch in which the attempt was sent: where the outcome lies.
    pub batch: Batch,
    /// See [`Assignment::waited_for`]. An outcome counts only in a run whose earlier stages have these tasks and no others.
    #[serde(default)]
    pub waited_for: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The indexes of what it captured, one for each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexRef>,
    /// Slices that could not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<Unlisted>,
    /// Items that a rule of the source's table left out: how many, by kind and rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<Kind, LeftOut>,
    /// Tasks that it found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TaskSpec>,
    /// Set on the outcomes that a long task stores while it goes on: counts from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interim: Option<u32>,
    /// What it took.
    pub figures: Figures,
    /// The trace in which it was worked.
    pub trace: TraceId,
}

impl Outcome {
    /// What a delivery of `assignment` leaves that found nothing.
    pub fn empty(assignment: &Assignment, nonce: Nonce, verdict: Verdict) -> Self {
        let Assignment { task, attempt, batch, waited_for, trace, .. } = assignment;
        Self {
            task: task.clone(),
            attempt: *attempt,
            nonce,
            batch: *batch,
            waited_for: *waited_for,
            verdict,
            indexes: Vec::new(),
            unlisted: Vec::new(),
            left_out: BTreeMap::new(),
            children: Vec::new(),
            interim: None,
            figures: Figures::default(),
            trace: *trace,
        }
    }

    /// Its name.
    pub fn id(&self) -> OutcomeId {
        let (attempt, nonce, interim) = (self.attempt, self.nonce, self.interim);
        OutcomeId { task: self.task.id(), attempt, nonce, interim }
    }

    /// Where it belongs in the store.
    pub fn key(&self) -> Key {
        Key::outcome(self.task.run, &self.task.environment, self.batch, self.id())
    }

    /// Whether it settles its task.
    pub fn settles(&self) -> bool {
        self.interim.is_none() && !matches!(self.verdict, Verdict::Retry { .. })
    }

    /// Of the outcomes of one task the least by this order counts: the best class first, then the first attempt, then the
    /// least nonce. A pure function of what lies in the store, so every coordinator chooses alike.
    pub fn precedence(&self) -> (u8, u32, Nonce) {
        let class = match self.verdict {
            Verdict::Complete => 0,
            Verdict::Partial => 1,
            Verdict::Failed { .. } => 2,
            Verdict::Retry { .. } => 3,
        };
        (class, self.attempt, self.nonce)
    }
}

/// The name of an outcome: no two are ever written under one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutcomeId {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// The delivery.
    pub nonce: Nonce,
    /// See [`Outcome::interim`].
    pub interim: Option<u32>,
}

impl fmt::Display for OutcomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:06}-{}", self.task.digits(), self.attempt, self.nonce)?;
        self.interim.map_or(Ok(()), |number| write!(f, ".{number:06}"))
    }
}

impl FromStr for OutcomeId {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self> {
        let foreign = || {
            Fault::new(
                Class::Integrity,
                "run.foreign-object",
                format!("read the name {name:?}"),
                "it is none of an outcome",
            )
        };
        let (id, interim) = match name.split_once('.') {
            Some((id, number)) => (id, Some(number.parse().map_err(|_| foreign())?)),
            None => (name, None),
        };
        let mut fields = id.splitn(3, '-');
        let mut field = || fields.next().ok_or_else(foreign);
        Ok(Self {
            task: Cow::Borrowed(field()?).try_into()?,
            attempt: field()?.parse().map_err(|_| foreign())?,
            nonce: Cow::Borrowed(field()?).try_into()?,
            interim,
        })
    }
}

/// How many items each rule left out.
pub type LeftOut = BTreeMap<String, u64>;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Verdict {
    /// All it was to capture is captured.
    Complete,
    /// It is settled, with gaps.
    Partial,
    /// It cannot be carried out, whoever tries.
    Failed {
        /// Why.
        fault: FaultRecord,
    },
    /// Not now: to be tried again.
    Retry {
        /// Why.
        fault: FaultRecord,
        /// No sooner than this many milliseconds from when the coordinator hears of it.
        after_ms: u64,
    },
}

impl Verdict {
    /// It in one word, as metrics and spans tell it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed { .. } => "failed",
            Self::Retry { .. } => "retry",
        }
    }
}

/// Where a kind, or a slice of it, stands in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Listed and read; single items may still be gaps.
    Captured,
    /// Left out because a person or a rule said so.
    Excluded,
    /// This environment does not have it: a product that is not switched on.
    NotEnabled,
    /// The environment cannot tell it in this tier, region, cloud or version.
    Unsupported,
    /// The identity that asked may not see it.
    Forbidden,
    /// It could not be read.
    Failed,
}

impl Standing {
    /// Whether something that should be in the snapshot is not.
    pub const fn is_gap(self) -> bool {
        matches!(self, Self::Forbidden | Self::Failed)
    }

    /// The stable word, as it appears in manifests and `-o json`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Excluded => "excluded",
            Self::NotEnabled => "not-enabled",
            Self::Unsupported => "unsupported",
            Self::Forbidden => "forbidden",
            Self::Failed => "failed",
        }
    }
}

/// A slice that could not be listed. What the last snapshot had in it is unknown now, which is never the same as deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// The kinds whose items may lie in it.
    pub kinds: Vec<Kind>,
    /// The slice: everything whose name lies under its scope, in its bucket.
    pub shard: Shard,
    /// Why it is not here.
    pub standing: Standing,
    /// What was said.
    pub fault: FaultRecord,
    /// The permission that is missing, where the source's table knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// The last snapshot in which it was listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<SnapshotId>,
    /// The trace in which it happened.
    pub trace: TraceId,
}

/// What work took. All of it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Calls made, by API family.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, Calls>,
    /// Bytes of item bodies read from the environment.
    #[serde(default)]
    pub bytes_read: u64,
    /// Bytes written to the store, in packs and indexes.
    #[serde(default)]
    pub bytes_stored: u64,
    /// Packs written.
    #[serde(default)]
    pub packs: u64,
    /// Bytes of item bodies that were already in the store.
    #[serde(default)]
    pub bytes_reused: u64,
    /// Frames opened, in what reads packs back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub frames: u64,
    /// Milliseconds from the beginning to the end of the work, summed over tasks.
    #[serde(default)]
    pub worked_ms: u64,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Calls of one API family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Requests sent.
    pub made: u64,
    /// Requests answered 429 or 503.
    pub throttled: u64,
    /// Requests sent again after a failure, throttled ones included.
    pub retried: u64,
    /// Milliseconds spent waiting for the rate budget.
    pub waited_ms: u64,
}

impl Figures {
    /// Adds what other work took.
    pub fn add(&mut self, other: &Self) {
        for (family, calls) in &other.calls {
            let mine = self.calls.entry(family.clone()).or_default();
            mine.made += calls.made;
            mine.throttled += calls.throttled;
            mine.retried += calls.retried;
            mine.waited_ms += calls.waited_ms;
        }
        self.bytes_read += other.bytes_read;
        self.bytes_stored += other.bytes_stored;
        self.packs += other.packs;
        self.bytes_reused += other.bytes_reused;
        self.frames += other.frames;
        self.worked_ms += other.worked_ms;
    }

    /// Requests sent, all families together.
    pub fn calls_made(&self) -> u64 {
        self.calls.values().map(|c| c.made).sum()
    }

    /// Requests answered 429 or 503, all families together.
    pub fn throttled(&self) -> u64 {
        self.calls.values().map(|c| c.throttled).sum()
    }
}
