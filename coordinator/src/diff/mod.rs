//! Diff: what differs between two snapshots, item by item and field by field.
//!
//! Items pair by key, then what is left by name. Indexes that both snapshots name are skipped unread: what did not change
//! costs nothing. What one side could not list is *unknown*, what it could not read is a *gap*: neither is ever told as
//! added, changed or removed, and neither alone is a difference. What changes without anybody changing it (the source's
//! table says what) is none either. **Memory** holds the names and hashes of one kind's differing shards; bodies are read
//! only of items that changed.

mod fields;
mod items;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use lakehold_proto::fault::{FaultRecord, Result};
use lakehold_proto::format::{IndexRef, Role};
use lakehold_proto::ids::{EnvName, Kind, SnapshotId};
use lakehold_proto::manifest::{KindReport, Manifest};
use lakehold_proto::outcome::Standing;
use lakehold_proto::store::SharedStore;
use lakehold_worker::configured::{comparable, told_in};
use lakehold_worker::source::{Comparable, ToldIn};
use serde::Serialize;

use crate::snapshot::page;
use crate::snapshot::survey::Unknown;

pub use fields::{FieldChange, compare};

/// The schema name of a [`Diff`].
pub const DIFF_SCHEMA: &str = "lakehold.diff/v1";

/// What differs between two snapshots.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// `lakehold.diff/v1`.
    pub schema: &'static str,
    /// The snapshot that was.
    pub from: Side,
    /// The snapshot that is.
    pub to: Side,
    /// Whether anything is known to differ.
    pub differs: bool,
    /// Whether of anything nobody knows whether it differs: a kind, a slice, or a part of an item.
    pub unknown: bool,
    /// Kinds that one of them did not capture: nothing can be said of their items.
    pub kinds_unknown: Vec<KindUnknown>,
    /// Items that differ, or of which nobody knows, by kind and name.
    pub changes: Vec<Change>,
}

/// One of the two snapshots.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Its environment.
    pub environment: EnvName,
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// Slices of the kinds compared that it could not list.
    pub unlisted: u64,
}

/// A kind that one of the snapshots did not capture.
#[derive(Clone, Debug, Serialize)]
pub struct KindUnknown {
    /// The kind.
    pub kind: Kind,
    /// Where it stood; absent when that snapshot's source does not know it.
    pub from: Option<Standing>,
    /// Where it stands.
    pub to: Option<Standing>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was not there.
    Added,
    /// It differs.
    Changed,
    /// It has another name, and may differ otherwise.
    Renamed,
    /// It has the same name and another key: it was deleted and made again.
    Recreated,
    /// It is not there any more.
    Removed,
    /// One of the snapshots could not list the slice it would lie in.
    Unknown,
    /// Something of it could not be read for one of the snapshots; what was read is the same.
    Gap,
}

impl What {
    /// Whether it is known to differ.
    pub const fn is_difference(self) -> bool {
        !matches!(self, Self::Unknown | Self::Gap)
    }
}

/// One item that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its name (that it has now, if it is there now).
    pub name: String,
    /// Its key.
    pub key: String,
    /// What became of it.
    pub change: What,
    /// The name it had, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_name: Option<String>,
    /// The key it had, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_key: Option<String>,
    /// What differs in it, by part and path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// What of it could not be read: whether that differs nobody knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<PartUnknown>,
}

/// A side of an item that one of the snapshots could not read.
#[derive(Clone, Debug, Serialize)]
pub struct PartUnknown {
    /// Which side.
    pub part: Role,
    /// Why the snapshot that was does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<FaultRecord>,
    /// Why the snapshot that is does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<FaultRecord>,
}

/// Compares two snapshots. `wanted` narrows it to some kinds; empty means all.
///
/// # Errors
/// `Integrity` when something of either snapshot that is needed is absent or damaged; the store's.
pub async fn diff(store: &SharedStore, from: &Manifest, to: &Manifest, wanted: &[Kind]) -> Result<Diff> {
    let mut diff = Diff {
        schema: DIFF_SCHEMA,
        from: Side::of(from, wanted),
        to: Side::of(to, wanted),
        differs: false,
        unknown: false,
        kinds_unknown: Vec::new(),
        changes: Vec::new(),
    };
    let same = from.snapshot == to.snapshot || from.content_root == to.content_root && from.gaps() == 0;
    if same && wanted.is_empty() {
        return Ok(diff);
    }
    let sides = Sides {
        unknown: [Unknown::read(&**store, &from.pages).await?, Unknown::read(&**store, &to.pages).await?],
        narrowed: [from, to].map(|manifest| !manifest.selection.paths.is_empty()),
        comparable: [from, to].map(|manifest| comparable(&manifest.source)),
        told_in: told_in(&to.source),
    };
    let (then, now) = (indexes(store, from).await?, indexes(store, to).await?);
    let (was, is) = (from.by_kind(), to.by_kind());
    let kinds: HashSet<&Kind> =
        was.keys().chain(is.keys()).copied().chain(then.keys()).chain(now.keys()).collect();
    let mut kinds: Vec<_> =
        kinds.into_iter().filter(|kind| wanted.is_empty() || wanted.contains(kind)).collect();
    kinds.sort_unstable();
    for kind in kinds {
        let standing = |reports: &BTreeMap<_, &KindReport>| reports.get(kind).map(|report| report.standing);
        let (was, is) = (standing(&was), standing(&is));
        if was == Some(Standing::Captured) && is == Some(Standing::Captured) {
            let none = Vec::new();
            let pair = [then.get(kind).unwrap_or(&none), now.get(kind).unwrap_or(&none)];
            diff.changes.extend(items::compare_kind(store, kind, pair, &sides).await?);
        } else if was != is || was.is_some_and(Standing::is_gap) {
            diff.kinds_unknown.push(KindUnknown { kind: kind.clone(), from: was, to: is });
        }
    }
    diff.conclude();
    Ok(diff)
}

impl Diff {
    /// Keeps only the changes that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&Change) -> bool) {
        self.changes.retain(keep);
        self.conclude();
    }

    fn conclude(&mut self) {
        let doubtful = |change: &Change| !change.change.is_difference() || !change.gaps.is_empty();
        self.differs = self.changes.iter().any(|change| change.change.is_difference());
        self.unknown = !self.kinds_unknown.is_empty()
            || self.from.unlisted + self.to.unlisted > 0
            || self.changes.iter().any(doubtful);
    }
}

impl Side {
    pub(crate) fn of(manifest: &Manifest, wanted: &[Kind]) -> Self {
        let compared = |report: &&KindReport| wanted.is_empty() || wanted.contains(&report.kind);
        Self {
            environment: manifest.environment.clone(),
            snapshot: manifest.snapshot,
            time: manifest.time.clone(),
            unlisted: manifest.kinds.iter().filter(compared).map(|report| report.counts.unlisted).sum(),
        }
    }
}

/// What has to be known of both snapshots, the one that was first.
struct Sides {
    /// What they could not list.
    unknown: [Unknown; 2],
    /// Whether they looked at some paths only.
    narrowed: [bool; 2],
    /// What of their parts is compared.
    comparable: [Comparable; 2],
    /// Which parts say what objects say already.
    told_in: ToldIn,
}

async fn indexes(store: &SharedStore, manifest: &Manifest) -> Result<BTreeMap<Kind, Vec<IndexRef>>> {
    let mut found: BTreeMap<Kind, Vec<IndexRef>> = BTreeMap::new();
    for named in &manifest.pages {
        for named in page(&**store, named).await?.indexes {
            found.entry(named.kind.clone()).or_default().push(named);
        }
    }
    Ok(found)
}
