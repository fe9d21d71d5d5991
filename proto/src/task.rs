//! Tasks: what is dispatched and retried, how it is addressed, and the one total function by which its state moves.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Tick;
use crate::fault::{Class, Fault, Result};
use crate::format::Located;
use crate::ids::{EnvName, Hash, Kind, Nonce, RunId, SnapshotId, TaskId, TraceId};
use crate::queue::QueueName;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Copies environments into snapshots.
    Backup,
    /// Brings items of a snapshot back.
    Restore,
    /// Reads snapshots and checks every hash.
    Verify,
    /// Restores into a sandbox, compares, and cleans up.
    Drill,
    /// Deletes what no kept snapshot needs.
    Prune,
}

impl Verb {
    /// The name of the root span of a run.
    pub const fn root(self) -> &'static str {
        match self {
            Self::Backup => "lakehold backup",
            Self::Restore => "lakehold restore",
            Self::Verify => "lakehold verify",
            Self::Drill => "lakehold drill",
            Self::Prune => "lakehold prune",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Drill => "drill",
            Self::Prune => "prune",
        })
    }
}

/// One of `of` parts into which keys fall by their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are: a power of two.
    pub of: u32,
}

impl Bucket {
    /// The bucket that holds `key`. The hash is SHA-256, its first four bytes read big-endian, modulo `of`.
    pub fn of_key(key: &str, of: u32) -> Self {
        let hash = Hash::of(key);
        let [a, b, c, d, ..] = *hash.bytes();
        Self { index: u32::from_be_bytes([a, b, c, d]) % of.max(1), of: of.max(1) }
    }

    /// Whether some key may fall into both. Counts are powers of two, so the finer bucket lies in the coarser or outside.
    pub fn overlaps(self, other: Self) -> bool {
        let coarse = self.of.min(other.of).max(1);
        self.index % coarse == other.index % coarse
    }
}

/// A bounded slice of one kind's items. Its borders depend on keys alone, never on pages, counts or timing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// The directory that opens the slice, or the parent (such as `catalog.schema`); empty for all of the kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Which part of the slice, where it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Bucket>,
}

impl Shard {
    /// All items of the kind.
    pub fn whole() -> Self {
        Self::default()
    }

    /// The items under `scope`.
    pub fn under(scope: impl Into<String>) -> Self {
        Self { scope: scope.into(), bucket: None }
    }

    /// One part of this shard.
    #[must_use]
    pub fn cut(&self, bucket: Bucket) -> Self {
        Self { scope: self.scope.clone(), bucket: Some(bucket) }
    }

    /// Whether an item of this shard may also be one of `other`'s: same scope, and buckets that overlap.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.scope == other.scope
            && match (self.bucket, other.bucket) {
                (Some(mine), Some(theirs)) => mine.overlaps(theirs),
                _ => true,
            }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.scope.is_empty() { "all" } else { &self.scope })?;
        match self.bucket {
            Some(Bucket { index, of }) => write!(f, " ({}/{of})", index + 1),
            None => Ok(()),
        }
    }
}

/// One life of a long task: every task and outcome made under it falls with it when it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The long task.
    pub task: TaskId,
    /// The attempt that lives.
    pub attempt: u32,
    /// The delivery of that attempt that lives.
    pub nonce: Nonce,
}

/// The unit of dispatch and retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The run it belongs to.
    pub run: RunId,
    /// What the run does.
    pub verb: Verb,
    /// The environment it works on.
    pub environment: EnvName,
    /// The kind it lists; what it finds may be of several kinds (a walk finds directories and notebooks).
    pub kind: Kind,
    /// The slice of that kind.
    pub shard: Shard,
    /// Dispatched when all tasks of earlier stages of the environment are settled.
    #[serde(default)]
    pub stage: u16,
    /// The life of a long task under which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl Task {
    /// The same id for the same task, whoever makes it.
    pub fn id(&self) -> TaskId {
        // A scope is free text, so every field carries its length and no two tasks can be described alike.
        let bucket = self.shard.bucket.map_or(String::new(), |b| format!("{}/{}", b.index, b.of));
        let epoch = self.epoch.map_or(String::new(), |e| format!("{}/{}/{}", e.task, e.attempt, e.nonce));
        let fields = [
            self.run.to_string(),
            self.verb.to_string(),
            self.environment.to_string(),
            self.kind.to_string(),
            self.shard.scope.clone(),
            bucket,
            self.stage.to_string(),
            epoch,
        ];
        TaskId::of(&fields.iter().map(|f| format!("{}:{f};", f.len())).collect::<String>())
    }
}

/// A task that a plan or an outcome asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The kind it lists.
    pub kind: Kind,
    /// The slice of it.
    pub shard: Shard,
    /// See [`Task::stage`].
    #[serde(default)]
    pub stage: u16,
    /// Every kind that it and its children may yield: what is missing when it is lost.
    pub yields: Arc<[Kind]>,
    /// Whether it is one that others lean on, or that cannot be cut: acknowledged when it starts, kept by a lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long: bool,
    /// What a listing found for it, in the run's `listings/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<Located>,
}

/// What a coordinator sent of one environment, in parts of a bounded size. Outcomes lie grouped by it, so that those of a
/// part that is through need not be listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct Batch {
    /// Who sent it: one life of a coordinator.
    pub coordinator: Nonce,
    /// Counts from 1.
    pub number: u32,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:06}", self.coordinator, self.number)
    }
}

impl TryFrom<Cow<'_, str>> for Batch {
    type Error = Fault;

    fn try_from(text: Cow<'_, str>) -> Result<Self> {
        let wrong = || {
            Fault::new(Class::Integrity, "id.batch", "read the name of a batch", format!("{text:?} is none"))
        };
        let (coordinator, number) = text.split_once('-').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        Ok(Self { coordinator: Cow::Borrowed(coordinator).try_into()?, number })
    }
}

impl From<Batch> for String {
    fn from(batch: Batch) -> Self {
        batch.to_string()
    }
}

/// What travels to a worker: one attempt at one task. It names what lies in the store; no credential is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task: Task,
    /// Counts from 1.
    pub attempt: u32,
    /// Whether this attempt was sent before: then it may be settled already, or be under way.
    #[serde(default)]
    pub again: bool,
    /// Where the outcome belongs.
    pub batch: Batch,
    /// The tasks of earlier stages that were waited for before this was sent: the exclusive or of [`TaskId::number`].
    #[serde(default)]
    pub waited_for: u64,
    /// See [`TaskSpec::yields`].
    pub yields: Arc<[Kind]>,
    /// See [`TaskSpec::long`].
    #[serde(default)]
    pub long: bool,
    /// See [`TaskSpec::input`].
    #[serde(default)]
    pub input: Vec<Located>,
    /// Where to report the key of the outcome.
    pub reply_to: QueueName,
    /// The trace in which it is worked: the run's, or in a large run the task's own.
    pub trace: TraceId,
    /// The delivery of the attempt before, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Nonce>,
    /// The snapshot that the task's run will make of the environment.
    pub snapshot: SnapshotId,
}

/// What travels back, several in a message: a hint that an outcome lies in the store. A lost one is found by the next listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The environment it is about.
    pub environment: EnvName,
    /// The batch in which the attempt was sent.
    pub batch: Batch,
    /// The task it is about.
    pub task: TaskId,
    /// The attempt it is about.
    pub attempt: u32,
    /// The delivery that wrote it.
    pub nonce: Nonce,
    /// What lies in the store now.
    pub what: Reported,
}

impl Report {
    /// What a delivery of `assignment` has to tell.
    pub fn of(assignment: &Assignment, nonce: Nonce, what: Reported) -> Self {
        let Assignment { task, attempt, batch, .. } = assignment;
        let (environment, attempt) = (task.environment.clone(), *attempt);
        Self { environment, batch: *batch, task: task.id(), attempt, nonce, what }
    }
}

/// What a [`Report`] points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reported {
    /// A `started` record of a long task.
    Started,
    /// What a long task has found so far, by its number.
    Interim(u32),
    /// The outcome of the attempt.
    Outcome,
    /// Nothing: the worker cannot write to the store. A run that nobody can write down stops, to be resumed.
    StoreFailed,
    /// Nothing: the worker cannot reach the store for now. Another attempt may.
    StoreAway,
}

/// The lease of a long task is silent this long before its epoch counts as lost.
pub const LEASE_SILENCE: Duration = Duration::from_secs(180);

/// Attempts at one task before it ends as a gap.
pub const MAX_ATTEMPTS: u32 = 4;

/// Where a task stands, as its coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be sent as this attempt, not before this tick.
    Pending {
        /// The attempt to come.
        attempt: u32,
        /// When it may be sent.
        not_before: Tick,
    },
    /// Sent; nothing heard yet.
    Sent {
        /// The attempt under way.
        attempt: u32,
        /// When it was sent.
        at: Tick,
    },
    /// A long task whose worker told that it started.
    Started {
        /// Its life.
        epoch: Epoch,
        /// When its lease was last seen held.
        seen: Tick,
    },
    /// An outcome settled it. Final.
    Settled,
    /// It ran out of attempts, or cannot be carried out. Final.
    Lost,
}

/// What may happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The coordinator sends the next attempt, or the one under way once more.
    Send {
        /// Now.
        at: Tick,
    },
    /// The attempt under way is lost with whoever had it, or with the queue: it was silent for too long.
    Silent {
        /// Now.
        at: Tick,
    },
    /// A worker stored a `started` record.
    Started {
        /// The life that began.
        epoch: Epoch,
        /// Now.
        at: Tick,
    },
    /// The lease of a started task was seen held.
    Alive {
        /// Now.
        at: Tick,
    },
    /// An outcome says: later.
    Retry {
        /// The attempt that says so.
        attempt: u32,
        /// When the next may be sent.
        not_before: Tick,
    },
    /// An outcome settles it.
    Settle,
}

/// A step that no task may take. It is always a bug of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task in state {state:?} cannot take {event:?}")]
pub struct IllegalStep {
    /// Where it stood.
    pub state: State,
    /// What was said to have happened.
    pub event: Event,
}

/// Moves a task's state. Total: every pair of state and event is answered, the impossible ones by an error.
///
/// News may be late, doubled or reordered (the queue promises nothing else), so whatever the outside world can say
/// to any state is legal and at most changes nothing; only the coordinator's own moves can be illegal.
///
/// # Errors
/// [`IllegalStep`] when the coordinator sends a task that is neither pending nor sent, or times out one that is not under way.
pub fn next(state: State, event: Event) -> std::result::Result<State, IllegalStep> {
    use State::{Lost, Pending, Sent, Settled, Started};
    let illegal = Err(IllegalStep { state, event });
    Ok(match (state, event) {
        (Settled | Lost, Event::Settle) => Settled,
        (_, Event::Settle) => Settled,

        (Pending { attempt, .. } | Sent { attempt, .. }, Event::Send { at }) => Sent { attempt, at },
        (Started { .. } | Settled | Lost, Event::Send { .. }) => return illegal,

        (Sent { attempt, .. }, Event::Silent { at }) => again(attempt, at),
        (Started { epoch, .. }, Event::Silent { at }) => again(epoch.attempt, at),
        (Pending { .. } | Settled | Lost, Event::Silent { .. }) => return illegal,

        // Another coordinator may have sent it, and may be attempts ahead.
        (Sent { attempt, .. } | Pending { attempt, .. }, Event::Started { epoch, at })
            if epoch.attempt >= attempt =>
        {
            Started { epoch, seen: at }
        }
        // Of two lives of one attempt, which the broker may have delivered twice, every coordinator counts on the same one.
        (Started { epoch: before, .. }, Event::Started { epoch, at })
            if (epoch.attempt, before.nonce) > (before.attempt, epoch.nonce) =>
        {
            Started { epoch, seen: at }
        }
        // A late start of an attempt that was given up is a life nobody counts on.
        (_, Event::Started { .. }) => state,

        (Started { epoch, .. }, Event::Alive { at }) => Started { epoch, seen: at },
        (_, Event::Alive { .. }) => state,

        (Sent { attempt, .. }, Event::Retry { attempt: said, not_before }) if said == attempt => {
            again(attempt, not_before)
        }
        (Started { epoch, .. }, Event::Retry { attempt: said, not_before }) if said == epoch.attempt => {
            again(epoch.attempt, not_before)
        }
        // A coordinator that folds a store meets attempts it never sent itself.
        (Pending { attempt, .. }, Event::Retry { attempt: said, not_before }) if said >= attempt => {
            again(said, not_before)
        }
        (_, Event::Retry { .. }) => state,
    })
}

fn again(attempt: u32, not_before: Tick) -> State {
    match attempt {
        n if n >= MAX_ATTEMPTS => State::Lost,
        n => State::Pending { attempt: n + 1, not_before },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(scope: &str, kind: &'static str) -> Task {
        let now = jiff::Timestamp::UNIX_EPOCH;
        static RUN: std::sync::OnceLock<RunId> = std::sync::OnceLock::new();
        Task {
            run: *RUN.get_or_init(|| RunId::new(now)),
            verb: Verb::Backup,
            environment: "prod".parse().unwrap(),
            kind: Kind::of(kind),
            shard: Shard::under(scope),
            stage: 0,
            epoch: None,
        }
    }

    #[test]
    fn ids_depend_on_every_field_and_on_nothing_else() {
        assert_eq!(task("/a", "job").id(), task("/a", "job").id());
        assert_ne!(task("/a", "job").id(), task("/b", "job").id());
        assert_ne!(
            task("/a;3:job", "x").id(),
            task("/a", "job;1:x").id(),
            "a hostile scope is not two fields"
        );
        let cut = Task { shard: Shard::under("/a").cut(Bucket { index: 0, of: 2 }), ..task("/a", "job") };
        assert_ne!(cut.id(), task("/a", "job").id());
        assert_ne!(Task { stage: 1, ..task("/a", "job") }.id(), task("/a", "job").id());
    }

    #[test]
    fn doubling_the_buckets_splits_each_in_two() {
        for n in 0..200 {
            let key = format!("key-{n}");
            let (coarse, fine) = (Bucket::of_key(&key, 4), Bucket::of_key(&key, 8));
            assert!(coarse.overlaps(fine) && fine.overlaps(coarse));
            assert_eq!(fine.index % 4, coarse.index);
        }
    }

    #[test]
    fn of_two_lives_all_count_on_one_whichever_they_hear_of_first() {
        let (task, at) = (task("", "x").id(), Tick::default());
        let life = |attempt, nonce| Epoch { task, attempt, nonce: Nonce::numbered(nonce) };
        let living = |heard: [Epoch; 2]| {
            let hear = |state, epoch| next(state, Event::Started { epoch, at }).unwrap();
            heard.into_iter().fold(State::Sent { attempt: 1, at }, hear)
        };
        for (counts, other) in [(life(1, 1), life(1, 2)), (life(2, 2), life(1, 1))] {
            for heard in [[counts, other], [other, counts]] {
                assert_eq!(living(heard), State::Started { epoch: counts, seen: at });
            }
        }
    }

    #[test]
    fn every_pair_is_answered_and_settled_is_final() {
        let at = Tick::default();
        let epoch = Epoch { task: task("", "x").id(), attempt: 1, nonce: Nonce::numbered(1) };
        let states = [
            State::Pending { attempt: 1, not_before: at },
            State::Sent { attempt: 1, at },
            State::Started { epoch, seen: at },
            State::Settled,
            State::Lost,
        ];
        let events = [
            Event::Send { at },
            Event::Silent { at },
            Event::Started { epoch, at },
            Event::Alive { at },
            Event::Retry { attempt: 1, not_before: at },
            Event::Settle,
        ];
        let illegal = states
            .iter()
            .flat_map(|&s| events.iter().map(move |&e| (s, e)))
            .filter(|&(s, e)| next(s, e).is_err())
            .count();
        assert_eq!(illegal, 6, "only the coordinator's own Send and Silent can be illegal");
        for event in events {
            assert!(matches!(next(State::Settled, event), Ok(State::Settled) | Err(_)));
        }
    }

    #[test]
    fn attempts_run_out() {
        let at = Tick::default();
        let mut state = State::Pending { attempt: 1, not_before: at };
        for _ in 0..MAX_ATTEMPTS {
            state = next(next(state, Event::Send { at }).unwrap(), Event::Silent { at }).unwrap();
        }
        assert_eq!(state, State::Lost);
        assert_eq!(
            next(state, Event::Settle).unwrap(),
            State::Settled,
            "a late outcome is better than a gap"
        );
    }
}
