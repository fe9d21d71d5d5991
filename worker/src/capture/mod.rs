//! A capture: everything that one delivery of one task finds, on its way into the store.
//!
//! A source hands in items ([`Capture::add`]), slices it could not list, and child tasks; [`Capture::finish`] makes the
//! outcome. **Ordering**: packs are uploaded as they fill, indexes when the task ends, the outcome last, by the caller; so
//! whatever an outcome names is in the store. **After a crash** uploaded packs without an outcome are unreferenced, and
//! an attempt that captures the same bytes finds them there. **Memory** is bounded by one open pack, the few chunks of one
//! body that are sealed at once, and the entries of the shard.

mod base;
mod chunks;
mod draft;
mod listing;
mod meter;
mod packer;
mod sealing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Gap, IndexDraft, Part, Role, content_of};
use lakehold_proto::ids::{Kind, SnapshotId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::outcome::{LeftOut, Outcome, OutcomeId, Standing, Unlisted, Verdict};
use lakehold_proto::plan::EnvPlan;
use lakehold_proto::queue::SharedQueue;
use lakehold_proto::store::{Key, SharedStore};
use lakehold_proto::task::{Assignment, Report, Reported, Shard, TaskSpec};
use tracing::warn;

pub use base::BaseSnapshot;
pub use draft::{Body, Draft};
pub use listing::Listing;
pub use meter::Meter;

use base::BaseShard;
use packer::Packer;

use crate::outcome::store_outcome;
use crate::progress::Done;
use crate::reports::publish;

/// How often a long task looks whether its children have ended: each time after a part of what it waited so far, so that a
/// short task is not made a long one by it, and a long one does not ask in vain.
const LOOK_PART: u32 = 50;
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_AT_MOST: Duration = Duration::from_secs(5);

/// What a capture needs from the process it runs in.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where bytes go.
    pub store: SharedStore,
    /// The way back to the coordinator.
    pub queue: SharedQueue,
    /// What the run does to this environment.
    pub plan: Arc<EnvPlan>,
    /// The snapshot it is compared with.
    pub base: Option<Arc<BaseSnapshot>>,
    /// Live figures.
    pub done: Arc<Done>,
    /// Time.
    pub clock: SharedClock,
}

/// What a task reads beside its input.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Where it lies.
    pub store: SharedStore,
    /// The run.
    pub run: lakehold_proto::ids::RunId,
    /// The environment worked on.
    pub environment: lakehold_proto::ids::EnvName,
}

/// See the module.
#[derive(Debug)]
pub struct Capture {
    around: Surroundings,
    assignment: Assignment,
    nonce: lakehold_proto::ids::Nonce,
    began: Tick,
    base: BaseShard,
    packer: Packer,
    entries: BTreeMap<Kind, HashMap<String, Entry>>,
    unlisted: Vec<Unlisted>,
    left_out: BTreeMap<Kind, LeftOut>,
    children: Vec<TaskSpec>,
    /// How many of them were handed out, in how many interim outcomes.
    handed_out: usize,
    interims: u32,
    asked: HashSet<(Kind, Shard)>,
    meter: Arc<Meter>,
}

impl Capture {
    /// Opens a capture for one delivery of `assignment`. Looks up which indexes of the base snapshot are about the same
    /// shard; reads none of them yet.
    ///
    /// # Errors
    /// The store's, when the base snapshot's pages cannot be read. A damaged base is no error: it is reported, and
    /// everything is captured anew.
    pub async fn open(
        around: Surroundings,
        assignment: Assignment,
        nonce: lakehold_proto::ids::Nonce,
    ) -> Result<Self> {
        let base = BaseShard::open(&around, &assignment.task.kind, &assignment.task.shard).await?;
        Ok(Self {
            began: around.clock.tick(),
            base,
            packer: Packer::new(around.store.clone()),
            entries: BTreeMap::new(),
            unlisted: Vec::new(),
            left_out: BTreeMap::new(),
            children: Vec::new(),
            handed_out: 0,
            interims: 0,
            asked: HashSet::new(),
            meter: Arc::new(Meter::new(Arc::clone(&around.done))),
            around,
            assignment,
            nonce,
        })
    }

    /// What is being carried out.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// What the run does to this environment: selection, probe, settings.
    pub fn plan(&self) -> &EnvPlan {
        &self.around.plan
    }

    /// Where the run's own objects and what is brought back are read.
    pub fn reader(&self) -> Reader {
        let task = &self.assignment.task;
        Reader { store: self.around.store.clone(), run: task.run, environment: task.environment.clone() }
    }

    /// Where calls and bytes are counted.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Into how many buckets the base snapshot cut this slice; 1 when it did not.
    pub fn base_buckets(&self) -> u32 {
        self.base.buckets()
    }

    /// Reads what the base snapshot has of `kind` in this shard, so that [`Self::known`] can tell. Reading it again costs
    /// nothing.
    ///
    /// # Errors
    /// The store's. A damaged index counts as absent.
    pub async fn load_base(&mut self, kind: &Kind) -> Result<()> {
        self.base.load(&*self.around.store, kind).await
    }

    /// The item as the base snapshot has it, if [`Self::load_base`] found it. Its parts may be taken over with
    /// [`Body::Base`] when the source can tell that they did not change.
    pub fn known(&self, kind: &Kind, key: &str) -> Option<&Entry> {
        self.base.entry(kind, key)
    }

    /// Whether an item was handed in already (lists that shift while being read show some twice).
    pub fn has(&self, kind: &Kind, key: &str) -> bool {
        self.entries.get(kind).is_some_and(|entries| entries.contains_key(key))
    }

    /// Takes an item in: seals what is new, points at what the base snapshot already has, notes its gaps. An item handed
    /// in twice is taken once.
    ///
    /// # Errors
    /// The store's. A body that breaks off while it streams becomes a gap of its part, not an error.
    pub async fn add(&mut self, kind: &Kind, draft: Draft) -> Result<()> {
        self.take(kind, draft, false).await.map(|_| ())
    }

    /// Takes an item in like [`Self::add`], but only whole: of one with a part that breaks off nothing is kept, and the
    /// inner error tells why.
    ///
    /// # Errors
    /// The store's.
    pub async fn add_whole(&mut self, kind: &Kind, draft: Draft) -> Result<Result<()>> {
        self.take(kind, draft, true).await
    }

    async fn take(&mut self, kind: &Kind, draft: Draft, whole: bool) -> Result<Result<()>> {
        if self.has(kind, &draft.key) {
            return Ok(Ok(()));
        }
        self.load_base(kind).await?;
        let Draft { key, name, parent, version, parts, gaps, degraded, became } = draft;
        let mut entry = Entry { parent, version, degraded, became, ..Entry::new(key, name) };
        for gap in gaps {
            entry.gaps.push(self.gap(kind, &entry.key, gap.0, &gap.1));
        }
        for part in parts {
            let role = part.role;
            match self.seal(kind, &entry.key, part).await? {
                Ok(part) => entry.parts.push(part),
                Err(fault) if whole => return Ok(Err(fault)),
                Err(fault) => entry.gaps.push(self.gap(kind, &entry.key, role, &fault)),
            }
        }
        entry.parts.sort_by_key(|p| p.role);
        entry.gaps.sort_by_key(|g| g.role);
        entry.content = content_of(&entry.parts);
        if !entry.gaps.is_empty() {
            // What is not whole must be fetched again next time, whatever its stamp says.
            entry.version = None;
        }
        self.around.done.item(!entry.gaps.is_empty());
        self.entries.entry(kind.clone()).or_default().insert(entry.key.clone(), entry);
        killpoint("worker.mid-export");
        Ok(Ok(()))
    }

    /// Notes that a slice could not be listed. What the base snapshot has in it is unknown now, not deleted.
    pub fn unlisted(
        &mut self,
        kinds: Vec<Kind>,
        shard: Shard,
        standing: Standing,
        fault: &Fault,
        permission: Option<String>,
    ) {
        let last_good = self.base.last_listed(&kinds, &shard);
        let (fault, trace) = (fault.record(), self.assignment.trace);
        self.unlisted.push(Unlisted { kinds, shard, standing, fault, permission, last_good, trace });
    }

    /// Counts an item that was seen and is left out by a rule of the source's table, such as what the platform makes itself.
    pub fn leave_out(&mut self, kind: &Kind, rule: &str) {
        *self.left_out.entry(kind.clone()).or_default().entry(rule.to_owned()).or_default() += 1;
    }

    /// Asks for a task. The same task asked for twice is one task.
    pub fn child(&mut self, child: TaskSpec) {
        if self.asked.insert((child.kind.clone(), child.shard.clone())) {
            self.children.push(child);
        }
    }

    /// Hands out the children named so far while this task goes on: for long tasks, on whose session they lean. They carry
    /// its epoch: when this delivery is lost, so is all that they did.
    ///
    /// # Errors
    /// The store's. `Bug` when the task is not long, or a child is of a later stage, which would wait for this task.
    pub async fn hand_out(&mut self) -> Result<()> {
        let stage = self.assignment.task.stage;
        if !self.assignment.long || self.children.iter().any(|child| child.stage != stage) {
            let detail = "only long tasks hand out children before they end, and only of their own stage";
            return Err(Fault::new(Class::Bug, "capture.hand-out", "hand out children", detail));
        }
        self.interims += 1;
        // The outcome at the end names them all again: nothing may be missing because an interim one was damaged.
        let children = self.children[self.handed_out..].to_vec();
        self.handed_out = self.children.len();
        let interim = Some(self.interims);
        let outcome = Outcome { children, interim, ..self.outcome(Verdict::Complete) };
        store_outcome(&self.around.store, &self.around.clock, &outcome).await?;
        let report = Report::of(&self.assignment, self.nonce, Reported::Interim(self.interims));
        if let Err(fault) = publish(&self.around.queue, &self.assignment.reply_to, &[report]).await {
            warn!(%fault, "cannot report an interim outcome; the next listing will find it");
        }
        Ok(())
    }

    /// Waits until all that was handed out has ended, well or not: only the coordinator knows. Not longer than `at_most`:
    /// it may be gone.
    ///
    /// # Errors
    /// `Unavailable` when the time is up, the run was cancelled, or nobody waits for this delivery any more; then this attempt is best given up,
    /// and its epoch with it. The store's.
    pub async fn until_ended(&self, at_most: Duration) -> Result<()> {
        let gone =
            |detail| Err(Fault::new(Class::Unavailable, "capture.ended", "wait for child tasks", detail));
        let (Assignment { task, attempt, .. }, began) = (&self.assignment, self.around.clock.tick());
        let (run, id, attempt, nonce) = (task.run, task.id(), *attempt, self.nonce);
        let told_of = |interim| Key::ended(run, OutcomeId { task: id, attempt, nonce, interim });
        let (given_up, ended) = (told_of(None), told_of(Some(self.interims)));
        if self.interims == 0 {
            return Ok(());
        }
        loop {
            // Both keys begin with the one.
            let told = self.around.store.list(given_up.as_str()).map_ok(|listed| listed.key);
            let told: Vec<_> = told.try_collect().await?;
            if told.contains(&given_up) {
                return gone("the coordinator thought this delivery lost, and gave it up".into());
            }
            if told.contains(&ended) {
                return Ok(());
            }
            if self.around.store.get(&Key::cancel(run)).await?.is_some() {
                return gone("the run was cancelled".into());
            }
            let waited = self.around.clock.tick().since(began);
            if waited >= at_most {
                return gone(format!("they did not end within {} minutes", at_most.as_secs() / 60));
            }
            self.around.clock.sleep((waited / LOOK_PART).clamp(LOOK_FIRST, LOOK_AT_MOST)).await;
        }
    }

    /// Begins to write down a listing for child tasks, in `parts` parts.
    pub fn listing(&self, parts: u32) -> Listing {
        Listing::new(self.around.store.clone(), self.assignment.task.run, parts)
    }

    /// The lines of the listing that this task was given, frame by frame, so that only one frame is in memory.
    ///
    /// # Errors
    /// The store's; `Integrity` when a frame is damaged.
    pub async fn input(&self, frame: usize) -> Result<Option<Vec<Bytes>>> {
        let Some(located) = self.assignment.input.get(frame) else { return Ok(None) };
        listing::read(&*self.around.store, self.assignment.task.run, located).await.map(Some)
    }

    /// Uploads what is left and makes the outcome. `ended` is what [`crate::source::Source::work`] returned.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(mut self, ended: Result<()>) -> Result<Outcome> {
        let mut indexes = Vec::new();
        let verdict = match ended {
            Err(fault) => verdict_of(&fault),
            Ok(()) => {
                let packs = self.packer.finish().await?;
                let task = &self.assignment.task;
                for (kind, entries) in std::mem::take(&mut self.entries) {
                    let entries = entries.into_values().collect();
                    let draft = IndexDraft::new(&task.kind, &kind, &task.shard, &packs, entries)?;
                    indexes.push(self.packer.put_index(draft, self.base.sound()).await?);
                }
                self.settled()
            }
        };
        let failed = !matches!(verdict, Verdict::Complete | Verdict::Partial);
        let mut figures = self.meter.figures();
        self.packer.count(&mut figures);
        figures.worked_ms = self.around.clock.tick().since(self.began).as_millis() as u64;
        let outcome = Outcome { indexes, figures, ..self.outcome(verdict) };
        let Self { unlisted, left_out, children, .. } = self;
        Ok(if failed { outcome } else { Outcome { unlisted, left_out, children, ..outcome } })
    }

    /// An outcome of this delivery, with nothing in it.
    fn outcome(&self, verdict: Verdict) -> Outcome {
        Outcome::empty(&self.assignment, self.nonce, verdict)
    }

    fn settled(&self) -> Verdict {
        let hurt = self.packer.hurt() || self.unlisted.iter().any(|slice| slice.standing.is_gap());
        if hurt { Verdict::Partial } else { Verdict::Complete }
    }

    fn gap(&mut self, kind: &Kind, key: &str, role: Role, fault: &Fault) -> Gap {
        self.packer.note_gap();
        let last_good = self.last_good(kind, key, role);
        Gap { role, fault: fault.record(), trace: self.assignment.trace, last_good }
    }

    fn last_good(&self, kind: &Kind, key: &str, role: Role) -> Option<SnapshotId> {
        let entry = self.base.entry(kind, key)?;
        match entry.gaps.iter().find(|gap| gap.role == role) {
            Some(gap) => gap.last_good,
            None => entry.part(role).and(self.around.base.as_ref().map(|base| base.id())),
        }
    }

    /// The outer error is the store's; the inner one the environment's, and becomes a gap.
    async fn seal(&mut self, kind: &Kind, key: &str, part: draft::DraftPart) -> Result<Result<Part>> {
        let mut known = self.base.part(kind, key, part.role);
        if self.around.plan.selection.full
            && let Some((index, found)) = &known
            && !self.base.packs_are_sound(&*self.around.store, index, found).await?
        {
            // Everything is fetched again, and what the base has of it is damaged: it is stored anew.
            known = None;
        }
        let body = match part.body {
            Body::Later(known) => known(),
            body => body,
        };
        match body {
            Body::Base => {
                let Some((index, known)) = known else {
                    let detail = format!("{kind} {key:?} has no such part in the base snapshot");
                    return Err(Fault::new(Class::Bug, "capture.no-base", "take a part over", detail));
                };
                self.packer.take_over(&index, &known).map(Ok)
            }
            Body::Json { raw, canonical } => {
                self.meter.read(raw.len() as u64);
                if let Some((index, known)) = &known
                    && known.content() == canonical
                {
                    return self.packer.take_over(index, known).map(Ok);
                }
                let mut sealed = self.packer.seal(part.role, part.format, &raw, known.as_ref()).await?;
                sealed.canonical = (canonical != sealed.sha256).then_some(canonical);
                Ok(Ok(sealed))
            }
            Body::Bytes(bytes) => {
                self.meter.read(bytes.len() as u64);
                self.packer.seal(part.role, part.format, &bytes, known.as_ref()).await.map(Ok)
            }
            Body::Stream(stream) => {
                let meter = Arc::clone(&self.meter);
                self.packer.seal_stream(part.role, part.format, stream, known.as_ref(), &meter).await
            }
            Body::Later(_) => {
                Err(Fault::new(Class::Bug, "capture.later", "seal a part", "its body is never known"))
            }
        }
    }
}

/// What a task's failure means for its attempt.
pub(crate) fn verdict_of(fault: &Fault) -> Verdict {
    let record = fault.record();
    if fault.class.may_retry() {
        let after_ms = fault.after.map_or(0, |after| after.as_millis() as u64);
        return Verdict::Retry { fault: record, after_ms };
    }
    Verdict::Failed { fault: record }
}
