//! Diff: what differs between two snapshots, item by item and field by field.
//!
//! Items pair by key, then what is left by name. Indexes that both snapshots name are skipped unread: what did not change
//! costs nothing. What one side could not list is *unknown*, never added or removed. **Memory** holds the names and
//! hashes of one kind's differing shards; bodies are read only of items that changed.

mod fields;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, IndexRef, Role};
use lakehold_proto::ids::{EnvName, Hash, Kind, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Standing;
use lakehold_proto::store::SharedStore;
use serde::Serialize;

use crate::snapshot::items::{Item, read_whole};
use crate::snapshot::survey::Unknown;
use crate::snapshot::{index, page};

pub use fields::{FieldChange, compare};

/// The schema name of a [`Diff`].
pub const DIFF_SCHEMA: &str = "lakehold.diff/v1";

/// Bodies larger than this are told apart by their hash only.
const LARGEST_BODY: u64 = 8 * 1024 * 1024;

/// What differs between two snapshots.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// `lakehold.diff/v1`.
    pub schema: &'static str,
    /// The snapshot that was.
    pub from: Side,
    /// The snapshot that is.
    pub to: Side,
    /// Whether anything differs or is unknown.
    pub differs: bool,
    /// Kinds that one of them did not capture: nothing can be said of their items.
    pub kinds_unknown: Vec<KindUnknown>,
    /// Items that differ, by kind and name.
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
}

/// Compares two snapshots. `wanted` narrows it to some kinds; empty means all.
///
/// # Errors
/// `Integrity` when something of either snapshot that is needed is absent or damaged; the store's.
pub async fn diff(store: &SharedStore, from: &Manifest, to: &Manifest, wanted: &[Kind]) -> Result<Diff> {
    let mut diff = Diff {
        schema: DIFF_SCHEMA,
        from: Side::of(from),
        to: Side::of(to),
        differs: false,
        kinds_unknown: Vec::new(),
        changes: Vec::new(),
    };
    if from.content_root == to.content_root && wanted.is_empty() {
        return Ok(diff);
    }
    let slices = Slices {
        from: Unknown::read(&**store, &from.pages).await?,
        to: Unknown::read(&**store, &to.pages).await?,
        narrowed: [!from.selection.paths.is_empty(), !to.selection.paths.is_empty()],
    };
    let (then, now) = (indexes(store, from).await?, indexes(store, to).await?);
    let (was, is) = (from.by_kind(), to.by_kind());
    let kinds: HashSet<&Kind> =
        was.keys().chain(is.keys()).copied().chain(then.keys()).chain(now.keys()).collect();
    let mut kinds: Vec<_> =
        kinds.into_iter().filter(|kind| wanted.is_empty() || wanted.contains(kind)).collect();
    kinds.sort_unstable();
    for kind in kinds {
        let standing = |reports: &BTreeMap<_, &lakehold_proto::manifest::KindReport>| {
            reports.get(kind).map(|report| report.standing)
        };
        let (was, is) = (standing(&was), standing(&is));
        if was == Some(Standing::Captured) && is == Some(Standing::Captured) {
            let none = Vec::new();
            let pair = [then.get(kind).unwrap_or(&none), now.get(kind).unwrap_or(&none)];
            diff.changes.extend(diff_kind(store, kind, pair, &slices).await?);
        } else if was != is {
            diff.kinds_unknown.push(KindUnknown { kind: kind.clone(), from: was, to: is });
        }
    }
    diff.differs = !diff.changes.is_empty() || !diff.kinds_unknown.is_empty();
    Ok(diff)
}

impl Side {
    fn of(manifest: &Manifest) -> Self {
        Self {
            environment: manifest.environment.clone(),
            snapshot: manifest.snapshot,
            time: manifest.time.clone(),
        }
    }
}

/// What neither snapshot can say.
struct Slices {
    from: Unknown,
    to: Unknown,
    /// Whether each side looked at some paths only.
    narrowed: [bool; 2],
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

/// As much of an item as pairing takes.
#[derive(Clone, Debug)]
struct Light {
    name: String,
    rule: u32,
    parts: Vec<(Role, Hash, Hash)>,
    gaps: Vec<Role>,
    /// Which index, and which entry of it.
    at: (usize, usize),
    unknown: bool,
}

type Lines = HashMap<String, Light>;

async fn lines(
    store: &SharedStore,
    kind: &Kind,
    refs: &[&IndexRef],
    unknown: impl Fn(&Entry) -> bool,
) -> Result<Lines> {
    let mut lines = Lines::new();
    for (number, named) in refs.iter().enumerate() {
        for (position, entry) in index(&**store, named).await?.entries.into_iter().enumerate() {
            let light = Light {
                unknown: unknown(&entry),
                name: entry.name,
                rule: entry.rule,
                parts: entry.parts.iter().map(|part| (part.role, part.content(), part.sha256)).collect(),
                gaps: entry.gaps.iter().map(|gap| gap.role).collect(),
                at: (number, position),
            };
            // One that moved while it was listed stands in two shards: what has more of it counts.
            match lines.get(&entry.key) {
                Some(known) if known.parts.len() >= light.parts.len() => {}
                _ => _ = lines.insert(entry.key, light),
            }
        }
    }
    tracing::debug!(%kind, lines = lines.len(), "compared a kind");
    Ok(lines)
}

impl Light {
    /// Whether the parts that both sides have differ, or one side has a part that the other, without a gap, has not.
    fn differs(&self, other: &Self) -> bool {
        let same_rule = self.rule == other.rule;
        let misses = |mine: &Self, theirs: &Self| {
            mine.parts.iter().any(|(role, ..)| {
                !theirs.parts.iter().any(|(other, ..)| other == role) && !theirs.gaps.contains(role)
            })
        };
        let differ = |(role, content, plain): &(Role, Hash, Hash)| {
            let twin = other.parts.iter().find(|(other, ..)| other == role);
            twin.is_some_and(|(_, c, p)| if same_rule { c != content } else { p != plain })
        };
        self.parts.iter().any(differ) || misses(self, other) || misses(other, self)
    }
}

async fn diff_kind(
    store: &SharedStore,
    kind: &Kind,
    [then, now]: [&Vec<IndexRef>; 2],
    slices: &Slices,
) -> Result<Vec<Change>> {
    let shared: HashSet<Hash> = {
        let then: HashSet<_> = then.iter().map(|named| named.sha256).collect();
        now.iter().map(|named| named.sha256).filter(|hash| then.contains(hash)).collect()
    };
    let only = |refs: &'_ [IndexRef]| -> Vec<IndexRef> {
        refs.iter().filter(|named| !shared.contains(&named.sha256)).cloned().collect()
    };
    let (then, now) = (only(then), only(now));
    let (then, now): (Vec<_>, Vec<_>) = (then.iter().collect(), now.iter().collect());
    let mut was =
        lines(store, kind, &then, |entry| slices.narrowed[1] || slices.to.covers(kind, entry)).await?;
    let mut is =
        lines(store, kind, &now, |entry| slices.narrowed[0] || slices.from.covers(kind, entry)).await?;
    let mut pairs: Vec<(String, Light, String, Light)> = Vec::new();
    let keys: Vec<String> = is.keys().filter(|key| was.contains_key(*key)).cloned().collect();
    for key in keys {
        if let (Some(before), Some(after)) = (was.remove(&key), is.remove(&key)) {
            pairs.push((key.clone(), before, key, after));
        }
    }
    pair_by_name(&mut was, &mut is, &mut pairs);
    let mut changes: Vec<Change> = Vec::new();
    for (lines, change) in [(was, What::Removed), (is, What::Added)] {
        changes.extend(lines.into_iter().map(|(key, light)| Change {
            kind: kind.clone(),
            name: light.name,
            key,
            change: if light.unknown { What::Unknown } else { change },
            old_name: None,
            old_key: None,
            fields: Vec::new(),
        }));
    }
    for (old_key, before, key, after) in pairs {
        let (renamed, recreated) = (before.name != after.name, old_key != key);
        let differs = before.differs(&after);
        if !differs && !renamed && !recreated {
            continue;
        }
        let fields = match differs {
            true => {
                field_changes(store, kind, (then[before.at.0], &before), (now[after.at.0], &after)).await?
            }
            false => Vec::new(),
        };
        changes.push(Change {
            kind: kind.clone(),
            change: match (recreated, renamed) {
                (true, _) => What::Recreated,
                (_, true) => What::Renamed,
                _ => What::Changed,
            },
            old_name: renamed.then_some(before.name),
            old_key: recreated.then_some(old_key),
            name: after.name,
            key,
            fields,
        });
    }
    changes.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
    Ok(changes)
}

/// Pairs what is left by name, where exactly one is left of it on each side.
fn pair_by_name(was: &mut Lines, is: &mut Lines, pairs: &mut Vec<(String, Light, String, Light)>) {
    let by_name = |lines: &Lines| {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for (key, light) in lines {
            names.entry(light.name.clone()).or_default().push(key.clone());
        }
        names
    };
    let after = by_name(is);
    for (name, old) in by_name(was) {
        let ([old], Some([new])) = (old.as_slice(), after.get(&name).map(Vec::as_slice)) else { continue };
        if let (Some(before), Some(after)) = (was.remove(old), is.remove(new)) {
            pairs.push((old.clone(), before, new.clone(), after));
        }
    }
}

async fn field_changes(
    store: &SharedStore,
    kind: &Kind,
    before: (&IndexRef, &Light),
    after: (&IndexRef, &Light),
) -> Result<Vec<FieldChange>> {
    let (before, after) = (item(store, kind, before).await?, item(store, kind, after).await?);
    let mut fields = Vec::new();
    for role in [Role::Object, Role::Content, Role::Permissions, Role::Data] {
        let (then, now) = (before.entry.part(role), after.entry.part(role));
        let gap = |item: &Item| item.entry.gaps.iter().any(|gap| gap.role == role);
        match (then, now) {
            (Some(then), Some(now)) if then.sha256 == now.sha256 => {}
            (Some(then), Some(now)) => {
                // Content is code and files: that it differs, and how long it is, says enough here.
                let json = matches!(role, Role::Object | Role::Permissions);
                if json && then.size.max(now.size) <= LARGEST_BODY {
                    let (a, b) = futures::try_join!(
                        read_whole(store, &before, then, LARGEST_BODY),
                        read_whole(store, &after, now, LARGEST_BODY)
                    )?;
                    if let (Ok(a), Ok(b)) = (serde_json::from_slice(&a), serde_json::from_slice(&b)) {
                        compare(role, &a, &b, &mut fields);
                        continue;
                    }
                }
                fields.push(FieldChange::whole(role, Some(then.size), Some(now.size)));
            }
            (Some(then), None) if !gap(&after) => {
                fields.push(FieldChange::whole(role, Some(then.size), None));
            }
            (None, Some(now)) if !gap(&before) => fields.push(FieldChange::whole(role, None, Some(now.size))),
            _ => {}
        }
    }
    Ok(fields)
}

async fn item(store: &SharedStore, kind: &Kind, (named, light): (&IndexRef, &Light)) -> Result<Item> {
    let read = index(&**store, named).await?;
    let entry = read.entries.get(light.at.1).cloned().ok_or_else(|| {
        Fault::new(Class::Bug, "diff.position", "read an item", format!("entry {} is gone", light.at.1))
    })?;
    Ok(Item { kind: kind.clone(), entry, index: Arc::new(read) })
}
