//! What one coordinator heard of one environment, in the order in which it heard it: what is recent in memory, the rest in
//! segments in the store. Commit and recovery read it back from end to end; nothing else needs outcomes again.
//!
//! **Ordering**: a segment that says that a batch is through is written after all outcomes of that batch that were heard;
//! so whoever reads the segments need list only the other batches. **Twice** is harmless: each life of a coordinator
//! writes segments of its own, and an outcome that is in several is learned once. **After a crash** what was recent lies
//! in batches that no segment calls through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::Tick;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Nonce, RunId};
use lakehold_proto::killpoint::{self, killpoint};
use lakehold_proto::outcome::{Outcome, OutcomeId};
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::{Key, Listed, SharedStore, get_existing};
use lakehold_proto::task::{Batch, Epoch, Report};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::drive::bug;
use super::state::{EnvRun, Fold, Starts};

/// How much is taken together. Simulations, whose runs are small, take less.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Attempts sent in one batch: their outcomes are listed together, and not any more when all are through.
    pub batch: usize,
    /// A segment is written when this many bytes of outcomes are recent.
    pub segment: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { batch: 1000, segment: 512 << 10 }
    }
}

/// Objects read from the store at once.
const READS: usize = 16;
/// Outcomes are text that repeats itself: the lowest level makes a tenth of them.
const LEVEL: i32 = 1;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: SharedStore,
    run: RunId,
    environment: EnvName,
    coordinator: Nonce,
    /// See [`Sizes::segment`].
    full: usize,
    segments: Vec<Key>,
    written: u32,
    /// Outcomes as JSON, each on a line of its own.
    recent: Vec<u8>,
}

/// The first line of a segment.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    /// Batches that nobody waits for any more: all that was heard of them is in this segment or in earlier ones.
    through: Vec<Batch>,
}

impl Ledger {
    /// A ledger with nothing in it, and the run that has heard nothing.
    fn new(store: &SharedStore, plan: &Plan, environment: &EnvPlan, sizes: Sizes) -> (EnvRun, Self) {
        // A new life each time: a batch that some segment calls through must never be sent again.
        let coordinator = Nonce::random();
        let ledger = Self {
            store: SharedStore::clone(store),
            run: plan.run,
            environment: environment.environment.clone(),
            coordinator,
            full: sizes.segment,
            segments: Vec::new(),
            written: 0,
            recent: Vec::new(),
        };
        (EnvRun::new(plan, environment.clone(), coordinator, sizes.batch), ledger)
    }

    /// What the store tells of an environment: the state of its run, and the ledger to go on with.
    ///
    /// # Errors
    /// The store's; `Integrity` when a segment is damaged.
    pub async fn recover(
        store: &SharedStore,
        plan: &Plan,
        environment: &EnvPlan,
        starts: &Starts,
        sizes: Sizes,
        now: Tick,
    ) -> Result<(EnvRun, Self)> {
        let (run, mut ledger) = Self::new(store, plan, environment, sizes);
        let listed = store.list(&Key::segments(plan.run, &environment.environment));
        ledger.segments = listed.map_ok(|listed| listed.key).try_collect().await?;
        // The order in which they were written: parents come before their children.
        ledger.segments.sort_unstable();
        let (mut fold, mut through) = (Fold::default(), BTreeSet::new());
        // What segments hold of batches that are not through.
        let mut gathered: BTreeMap<Batch, BTreeSet<OutcomeId>> = BTreeMap::new();
        for key in &ledger.segments {
            let (header, outcomes) = ledger.read_segment(key).await?;
            header.through.iter().for_each(|batch| _ = gathered.remove(batch));
            through.extend(header.through);
            for outcome in outcomes {
                fold.see(&outcome);
                if !through.contains(&outcome.batch) {
                    gathered.entry(outcome.batch).or_default().insert(outcome.id());
                }
            }
        }
        let open = ledger.open_batches(&through).await?;
        let mut unread = ledger.keys(&open).await?;
        unread.retain(|(batch, id)| !gathered.get(batch).is_some_and(|gathered| gathered.contains(id)));
        drop(gathered);
        let keys = unread.into_iter().map(|(batch, id)| ledger.key(batch, id));
        let mut read = futures::stream::iter(keys).map(|key| fetch(store, key)).buffer_unordered(READS);
        let mut recent = Vec::new();
        while let Some(fetched) = read.try_next().await? {
            let Some((outcome, body)) = fetched else { continue };
            fold.see(&outcome);
            push(&mut recent, &body);
        }
        drop(read);
        ledger.recent = recent;
        let mut folding = fold
            .begin(run, starts.get(&environment.environment).map_or(&[], Vec::as_slice), open, now)
            .map_err(bug)?;
        while folding.advance().map_err(bug)? {
            ledger.each(|outcome| folding.take(outcome).map_err(bug)).await?;
        }
        Ok((folding.finish(), ledger))
    }

    /// Takes down an outcome, as it lies in the store.
    pub fn add(&mut self, body: &[u8]) {
        push(&mut self.recent, body);
    }

    /// Bytes of outcomes that are in no segment yet.
    pub fn recent(&self) -> usize {
        self.recent.len()
    }

    /// Whether a segment should be written.
    pub fn is_full(&self) -> bool {
        // A run that a test kills is too small to fill a segment by itself.
        self.recent.len() >= self.full || killpoint::is_armed()
    }

    /// Writes what is recent into a segment, which calls `through` through.
    ///
    /// # Errors
    /// The store's: then the run is to be recovered from it.
    pub async fn gather(&mut self, through: Vec<Batch>) -> Result<()> {
        let header = serde_json::to_vec(&Header { through }).map_err(|e| unwritable(&e))?;
        let packed = pack([&header, &b"\n"[..], &self.recent]).map_err(|e| unwritable(&e))?;
        self.recent = Vec::new();
        self.written += 1;
        let key = Key::segment(self.run, &self.environment, self.coordinator, self.written);
        killpoint("coordinator.before-segment");
        self.store.put_new(&key, packed.into()).await?;
        killpoint("coordinator.after-segment");
        self.segments.push(key);
        Ok(())
    }

    /// Goes through all that was heard, in order.
    ///
    /// # Errors
    /// The store's, and those of `take`.
    pub async fn each(&self, mut take: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        for key in &self.segments {
            let (_, outcomes) = self.read_segment(key).await?;
            outcomes.into_iter().try_for_each(&mut take)?;
        }
        lines(&self.recent).try_for_each(|line| take(parse(&self.environment, line)?))
    }

    /// The outcomes that lie in `batches`.
    ///
    /// # Errors
    /// The store's; `Integrity` for an object that is none of ours.
    pub async fn keys(&self, batches: &[Batch]) -> Result<Vec<(Batch, OutcomeId)>> {
        let mut found = Vec::new();
        for &batch in batches {
            let prefix = Key::batch(self.run, &self.environment, batch);
            let mut listed = self.store.list(&prefix);
            while let Some(listed) = listed.try_next().await? {
                let name = listed.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                found.push((batch, name.parse()?));
            }
        }
        Ok(found)
    }

    fn key(&self, batch: Batch, id: OutcomeId) -> Key {
        Key::outcome(self.run, &self.environment, batch, id)
    }

    async fn open_batches(&self, through: &BTreeSet<Batch>) -> Result<Vec<Batch>> {
        let folders = self.store.list_folders(&Key::outcomes(self.run, &self.environment)).await?;
        let batches = folders.into_iter().map(|name| Batch::try_from(std::borrow::Cow::Owned(name)));
        batches.filter(|batch| !batch.as_ref().is_ok_and(|batch| through.contains(batch))).collect()
    }

    async fn read_segment(&self, key: &Key) -> Result<(Header, Vec<Outcome>)> {
        let damaged = |why: &dyn std::fmt::Display| {
            Fault::new(Class::Integrity, "segment.damaged", format!("read {key}"), why)
        };
        let packed = get_existing(&*self.store, key).await?;
        let plain = zstd::stream::decode_all(&packed[..]).map_err(|e| damaged(&e))?;
        let mut lines = lines(&plain);
        let header = lines.next().ok_or_else(|| damaged(&"it is empty"))?;
        let header = serde_json::from_slice(header).map_err(|e| damaged(&e))?;
        let outcomes = lines.map(|line| parse(key, line)).collect::<Result<_>>()?;
        Ok((header, outcomes))
    }
}

/// Reads an outcome; `None` when it is not there (a listing that lags), or was cut short when its machine died.
///
/// # Errors
/// The store's.
pub async fn fetch(store: &SharedStore, key: Key) -> Result<Option<(Outcome, Bytes)>> {
    let Some(body) = store.get(&key).await? else { return Ok(None) };
    match parse(&key, &body) {
        Ok(outcome) => Ok(Some((outcome, body))),
        Err(fault) => {
            warn!(%fault, "an outcome is damaged: its task is done again");
            Ok(None)
        }
    }
}

/// The deliveries of long tasks that began in a run, by environment.
///
/// # Errors
/// The store's.
pub async fn starts(store: &SharedStore, run: RunId) -> Result<Starts> {
    let listed = store.list(&Key::starts(run)).map_ok(|Listed { key, .. }| async move {
        let body = get_existing(&**store, &key).await?;
        Ok((key, body))
    });
    let mut read = listed.try_buffer_unordered(READS);
    let mut starts = Starts::new();
    while let Some((key, body)) = read.try_next().await? {
        let Ok(Report { environment, batch, task, attempt, nonce, .. }) = serde_json::from_slice(&body)
        else {
            warn!(%key, "what tells of a long task is damaged: that delivery of it does not count");
            continue;
        };
        starts.entry(environment).or_default().push((Epoch { task, attempt, nonce }, batch));
    }
    Ok(starts)
}

fn parse(whence: &dyn std::fmt::Display, line: &[u8]) -> Result<Outcome> {
    serde_json::from_slice(line).map_err(|e| {
        Fault::new(Class::Integrity, "outcome.damaged", format!("read an outcome of {whence}"), e)
    })
}

fn push(lines: &mut Vec<u8>, body: &[u8]) {
    lines.extend_from_slice(body);
    lines.push(b'\n');
}

/// Compresses without putting the pieces together first.
fn pack<const N: usize>(pieces: [&[u8]; N]) -> std::io::Result<Vec<u8>> {
    let mut packed = zstd::stream::Encoder::new(Vec::new(), LEVEL)?;
    pieces.into_iter().try_for_each(|piece| packed.write_all(piece))?;
    packed.finish()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn unwritable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Class::Bug, "segment.encode", "gather outcomes", error)
}
