//! Assembles what a run captured of one environment, and publishes its manifest: the commit.
//!
//! **Ordering**: pages first, the manifest last; all that it names is in the store. **Twice** is once: the manifest is
//! created, never overwritten, and whoever comes second adopts the first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{IndexRef, PageRef, write_page};
use lakehold_proto::ids::{EnvName, Hash, Kind};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::manifest::{Counts, KindReport, Manifest, RunReport, SnapshotState};
use lakehold_proto::outcome::{LeftOut, Outcome, Standing, Unlisted, Verdict};
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::{Key, Put, PutHashed, SharedStore, Store, get_existing, put_hashed};
use lakehold_proto::task::{Bucket, Shard};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::drive::EnvEnd;
use super::ledger::Ledger;
use super::state::EnvRun;
use crate::snapshot::survey::{Against, Survey, survey};
use crate::spill::Spill;

/// Indexes kept in memory while they are put in order.
const PLACED: usize = 8_192;
/// Lines on a page: some hundred kilobytes of text, read in one GET.
const PAGE: usize = 1000;

/// What is to be committed.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// The run's plan.
    pub plan: Plan,
    /// The settled run of the environment.
    pub run: EnvRun,
    /// All that was heard of it.
    pub ledger: Ledger,
    /// Kinds to be accounted for.
    pub kinds: Vec<Kind>,
    /// Now.
    pub committed: Timestamp,
}

/// Commits one environment. A failure of the store leaves the run unfinished.
pub async fn commit(store: SharedStore, assembly: Assembly) -> (EnvName, EnvEnd) {
    let environment = assembly.run.plan().environment.clone();
    let end = assemble_and_publish(&*store, assembly).await.unwrap_or_else(EnvEnd::Unfinished);
    (environment, end)
}

async fn assemble_and_publish(store: &dyn Store, assembly: Assembly) -> Result<EnvEnd> {
    let plan = assembly.run.plan().clone();
    let (contents, indexes) = Contents::of(&assembly).await?;
    let pages = write_pages(store, &contents, indexes).await?;
    let base = read_base(store, &plan).await;
    let against = base.as_ref().map(|base| Against { base, plan: &plan });
    let surveyed = match survey(store, &pages, against).await {
        // Either snapshot may be the damaged one; if it is the new one, the second look says so.
        Err(fault) if fault.class == Class::Integrity && base.is_some() => {
            tracing::warn!(%fault, "the base snapshot is damaged: not compared");
            survey(store, &pages, None).await?
        }
        surveyed => surveyed?,
    };
    let kinds = account_for(&assembly.kinds, &plan, &contents, &surveyed);
    // A verify that finds everything hurt, and cannot read the rest, has found that out.
    if let Some(fault) = nothing_usable(&kinds).filter(|_| plan.verify.is_none()) {
        return Ok(EnvEnd::Nothing(fault));
    }
    let manifest = assemble(&assembly, &plan, kinds, pages, &contents, &surveyed);
    publish(store, manifest).await.map(|manifest| EnvEnd::Committed(Box::new(manifest)))
}

/// What the outcomes that count say, besides what they captured.
struct Contents {
    unlisted: Vec<(Kind, Unlisted)>,
    left_out: BTreeMap<Kind, LeftOut>,
    outcomes: Hash,
    tasks: u64,
}

/// An index to be named by a page. Pages are written in this order, so that equal shards make equal pages.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Placed {
    by: Kind,
    scope: String,
    bucket: Option<(u32, u32)>,
    kind: Kind,
    sha256: Hash,
    size: u64,
    entries: u64,
}

impl From<IndexRef> for Placed {
    fn from(index: IndexRef) -> Self {
        let IndexRef { by, kind, shard, sha256, size, entries } = index;
        let bucket = shard.bucket.map(|bucket| (bucket.of, bucket.index));
        Self { by, scope: shard.scope, bucket, kind, sha256, size, entries }
    }
}

impl From<Placed> for IndexRef {
    fn from(placed: Placed) -> Self {
        let Placed { by, scope, bucket, kind, sha256, size, entries } = placed;
        let bucket = bucket.map(|(of, index)| Bucket { index, of });
        Self { by, kind, shard: Shard { scope, bucket }, sha256, size, entries }
    }
}

impl Contents {
    async fn of(assembly: &Assembly) -> Result<(Self, Spill<Placed>)> {
        let run = &assembly.run;
        let mut indexes = Spill::new(PLACED);
        let mut unlisted: Vec<_> = run.missing().cloned().collect();
        let mut left_out: BTreeMap<Kind, LeftOut> = BTreeMap::new();
        let mut met = BTreeSet::new();
        let take = |outcome: Outcome| {
            // An outcome may be in the segments of several coordinators.
            if !run.counts(&outcome) || !met.insert(outcome.task.id()) {
                return Ok(());
            }
            if matches!(outcome.verdict, Verdict::Failed { .. }) {
                return Ok(());
            }
            for (kind, rules) in outcome.left_out {
                let summed = left_out.entry(kind).or_default();
                rules.into_iter().for_each(|(rule, n)| *summed.entry(rule).or_default() += n);
            }
            unlisted.extend(outcome.unlisted.into_iter().map(|slice| (outcome.task.kind.clone(), slice)));
            outcome.indexes.into_iter().try_for_each(|index| indexes.push(index.into()))
        };
        assembly.ledger.each(take).await?;
        unlisted.sort_by(|(a, x), (b, y)| order(a, &x.shard).cmp(&order(b, &y.shard)));
        let mut hasher = Sha256::new();
        run.chosen().for_each(|outcome| hasher.update(format!("{outcome}\n")));
        let (tasks, _) = run.progress();
        Ok((Self { unlisted, left_out, outcomes: Hash::finish(hasher), tasks: tasks as u64 }, indexes))
    }
}

fn order<'a>(by: &'a Kind, shard: &'a Shard) -> impl Ord + use<'a> {
    (by.as_str(), shard.scope.as_str(), shard.bucket.map(|bucket| (bucket.of, bucket.index)))
}

async fn write_pages(store: &dyn Store, contents: &Contents, indexes: Spill<Placed>) -> Result<Vec<PageRef>> {
    let mut pages = Vec::new();
    let mut indexes = indexes.sorted()?.map(|placed| placed.map(IndexRef::from)).peekable();
    while indexes.peek().is_some() {
        let page = indexes.by_ref().take(PAGE).collect::<Result<Vec<_>>>()?;
        pages.push(put_page(store, &page, &[]).await?);
    }
    for unlisted in contents.unlisted.chunks(PAGE) {
        pages.push(put_page(store, &[], unlisted).await?);
    }
    Ok(pages)
}

async fn put_page(store: &dyn Store, indexes: &[IndexRef], unlisted: &[(Kind, Unlisted)]) -> Result<PageRef> {
    let mut variant = 0;
    loop {
        let (page, bytes) = write_page(indexes, unlisted, variant)?;
        match put_hashed(store, &Key::index(page.sha256), bytes, false).await? {
            PutHashed::Created | PutHashed::Existed => return Ok(page),
            PutHashed::Damaged => variant += 1,
        }
    }
}

/// The base snapshot's manifest. One that cannot be read costs the comparison, which then counts everything as new.
async fn read_base(store: &dyn Store, plan: &EnvPlan) -> Option<Manifest> {
    let base = plan.base.as_ref()?;
    match crate::snapshot::read_manifest(store, &plan.environment, &base.time, base.snapshot).await {
        Ok((manifest, hash)) if hash == base.manifest => Some(manifest),
        Ok(_) => {
            tracing::warn!(base = %base.snapshot, "the base snapshot's manifest was changed: not compared");
            None
        }
        Err(fault) => {
            tracing::warn!(%fault, "the base snapshot cannot be read: not compared");
            None
        }
    }
}

/// Every kind, with what became of it.
fn account_for(kinds: &[Kind], plan: &EnvPlan, contents: &Contents, surveyed: &Survey) -> Vec<KindReport> {
    let mut seen: Vec<Kind> = kinds.to_vec();
    // A kind that this program's table does not have (any more) but the run captured is accounted for all the same.
    seen.extend(surveyed.counts.keys().filter(|kind| !kinds.contains(kind)).cloned());
    seen.iter().map(|kind| account_for_kind(kind, plan, contents, surveyed)).collect()
}

fn account_for_kind(kind: &Kind, plan: &EnvPlan, contents: &Contents, surveyed: &Survey) -> KindReport {
    let slices = contents.unlisted.iter().map(|(_, slice)| slice).filter(|slice| slice.kinds.contains(kind));
    let slices: Vec<_> = slices.collect();
    let counted = surveyed.counts.get(kind).copied().unwrap_or_default();
    let gaps = slices.iter().filter(|slice| slice.standing.is_gap()).count() as u64;
    let mut report = KindReport {
        kind: kind.clone(),
        standing: Standing::Captured,
        counts: Counts { unlisted: gaps, ..counted },
        fault: None,
        permission: None,
        rule: None,
        left_out: contents.left_out.get(kind).cloned().unwrap_or_default(),
    };
    if let Some(rule) = plan.excluded.get(kind) {
        report.standing = Standing::Excluded;
        report.rule = Some(rule.clone());
        return report;
    }
    let whole = slices.iter().find(|slice| slice.shard.scope.is_empty() && slice.shard.bucket.is_none());
    let worst = whole.or_else(|| slices.iter().max_by_key(|slice| slice.standing));
    if let Some(slice) = worst {
        report.fault = Some(slice.fault.clone());
        report.permission.clone_from(&slice.permission);
    }
    if let Some(slice) = whole {
        report.standing = slice.standing;
    }
    report
}

/// The fault of a run that captured nothing at all and failed at something.
fn nothing_usable(kinds: &[KindReport]) -> Option<Fault> {
    let captured =
        kinds.iter().any(|kind| kind.standing == Standing::Captured && kind.counts.items > kind.counts.gaps);
    let failed = kinds.iter().filter(|kind| kind.counts.unlisted > 0).find_map(|kind| kind.fault.clone());
    let fault = failed.filter(|_| !captured)?;
    Some(Fault::new(
        fault.class,
        "run.nothing",
        "back up the environment",
        format!("nothing was captured: {}", fault.message),
    ))
}

fn assemble(
    assembly: &Assembly,
    plan: &EnvPlan,
    kinds: Vec<KindReport>,
    pages: Vec<PageRef>,
    contents: &Contents,
    surveyed: &Survey,
) -> Manifest {
    let hurt = kinds.iter().any(|kind| kind.counts.gaps + kind.counts.unlisted > 0);
    Manifest {
        schema: plan.schema().into(),
        snapshot: plan.snapshot,
        environment: plan.environment.clone(),
        source: plan.source.clone(),
        time: plan.time.clone(),
        state: if hurt { SnapshotState::Partial } else { SnapshotState::Complete },
        hash: "sha256".into(),
        content_root: surveyed.content_root,
        base: plan.base.clone(),
        selection: plan.selection.clone(),
        tags: assembly.plan.tags.clone(),
        probe: plan.probe.clone(),
        kinds,
        pages,
        run: RunReport {
            id: assembly.plan.run,
            trace: assembly.plan.trace,
            planned: assembly.plan.created,
            committed: assembly.committed,
            tasks: contents.tasks,
            outcomes: contents.outcomes,
            figures: assembly.run.figures().clone(),
            program: concat!("lakehold ", env!("CARGO_PKG_VERSION")).into(),
        },
        restore: plan.restore.clone(),
        verify: plan.verify.clone(),
    }
}

async fn publish(store: &dyn Store, manifest: Manifest) -> Result<Manifest> {
    let key = manifest.key();
    let body = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Fault::new(Class::Bug, "commit.encode", "write a manifest", e))?;
    killpoint("coordinator.before-manifest");
    let put = store.put_new(&key, body.into()).await?;
    killpoint("coordinator.after-manifest");
    if put == Put::Created {
        return Ok(manifest);
    }
    Manifest::parse(&key, &get_existing(store, &key).await?)
}
