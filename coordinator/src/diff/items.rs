//! One kind of two snapshots: which items belong together, and what became of each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, IndexRef, Part, Role};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::store::SharedStore;
use serde_json::Value;

use super::fields::{FieldChange, all_unknown, compare};
use super::{Change, PartUnknown, Sides, What};
use crate::snapshot::index;
use crate::snapshot::items::{Item, read_whole};

/// Bodies larger than this are told apart by their hash only. The schema of ten thousand tables is smaller.
const LARGEST_BODY: u64 = 64 * 1024 * 1024;

const ROLES: [Role; 4] = [Role::Object, Role::Content, Role::Permissions, Role::Data];

/// Compares what the indexes of both snapshots have of a kind.
///
/// # Errors
/// See [`super::diff`].
pub(super) async fn compare_kind(
    store: &SharedStore,
    kind: &Kind,
    [then, now]: [&Vec<IndexRef>; 2],
    sides: &Sides,
) -> Result<Vec<Change>> {
    let shared: HashSet<Hash> = {
        let then: HashSet<_> = then.iter().map(|named| named.sha256).collect();
        now.iter().map(|named| named.sha256).filter(|hash| then.contains(hash)).collect()
    };
    let only = |refs: &'_ [IndexRef]| -> Vec<IndexRef> {
        refs.iter().filter(|named| !shared.contains(&named.sha256)).cloned().collect()
    };
    let (then, now) = (only(then), only(now));
    // What one side lacks is unknown where the other did not, or could not, look.
    let hidden =
        |other: usize| move |entry: &Entry| sides.narrowed[other] || sides.unknown[other].covers(kind, entry);
    let mut was = lines(store, &then, hidden(1)).await?;
    let mut is = lines(store, &now, hidden(0)).await?;
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
            change: if light.unknown { What::Unknown } else { change },
            ..told(kind, key, light.name)
        }));
    }
    for (old_key, before, key, after) in pairs {
        let (renamed, recreated) = (before.name != after.name, old_key != key);
        let mut change = told(kind, key, after.name.clone());
        if before.differs(&after) || before.has_gaps || after.has_gaps {
            let before = item(store, kind, &then, &before).await?;
            let after = item(store, kind, &now, &after).await?;
            change.gaps = gaps(&before.entry, &after.entry);
            change.fields = fields(store, &before, &after, sides, &mut change.gaps).await?;
        }
        change.change = match (recreated, renamed, change.fields.is_empty(), change.gaps.is_empty()) {
            (true, ..) => What::Recreated,
            (_, true, ..) => What::Renamed,
            (_, _, false, _) => What::Changed,
            (.., false) => What::Gap,
            _ => continue,
        };
        change.old_name = renamed.then_some(before.name);
        change.old_key = recreated.then_some(old_key);
        changes.push(change);
    }
    changes.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
    Ok(changes)
}

fn told(kind: &Kind, key: String, name: String) -> Change {
    Change {
        kind: kind.clone(),
        name,
        key,
        change: What::Changed,
        old_name: None,
        old_key: None,
        fields: Vec::new(),
        gaps: Vec::new(),
    }
}

/// As much of an item as pairing takes.
#[derive(Clone, Debug)]
struct Light {
    name: String,
    rule: u32,
    parts: Vec<(Role, Hash, Hash)>,
    has_gaps: bool,
    /// Which index, and which entry of it.
    at: (usize, usize),
    unknown: bool,
}

type Lines = HashMap<String, Light>;

async fn lines(store: &SharedStore, refs: &[IndexRef], unknown: impl Fn(&Entry) -> bool) -> Result<Lines> {
    let mut lines = Lines::new();
    for (number, named) in refs.iter().enumerate() {
        for (position, entry) in index(&**store, named).await?.entries.into_iter().enumerate() {
            let light = Light {
                unknown: unknown(&entry),
                name: entry.name,
                rule: entry.rule,
                parts: entry.parts.iter().map(|part| (part.role, part.content(), part.sha256)).collect(),
                has_gaps: !entry.gaps.is_empty(),
                at: (number, position),
            };
            // One that moved while it was listed stands in two shards: what has more of it counts.
            match lines.get(&entry.key) {
                Some(known) if known.parts.len() >= light.parts.len() => {}
                _ => _ = lines.insert(entry.key, light),
            }
        }
    }
    Ok(lines)
}

impl Light {
    /// Whether the hashes of some part differ, or only one side has it: then the parts must be looked at.
    fn differs(&self, other: &Self) -> bool {
        let same_rule = self.rule == other.rule;
        self.parts.len() != other.parts.len()
            || self.parts.iter().any(|(role, content, plain)| {
                let twin = other.parts.iter().find(|(other, ..)| other == role);
                twin.is_none_or(|(_, c, p)| if same_rule { c != content } else { p != plain })
            })
    }
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

/// What differs; and adds to `gaps` what a document that differs does not know.
async fn fields(
    store: &SharedStore,
    before: &Item,
    after: &Item,
    sides: &Sides,
    gaps: &mut Vec<PartUnknown>,
) -> Result<Vec<FieldChange>> {
    let mut found = Vec::new();
    for role in ROLES {
        let gap = |item: &Item| item.entry.gaps.iter().any(|gap| gap.role == role);
        if gap(before) || gap(after) {
            continue;
        }
        let (then, now) = match (before.entry.part(role), after.entry.part(role)) {
            (Some(then), Some(now)) => (then, now),
            (None, None) => continue,
            (then, now) => {
                found.push(FieldChange::whole(role, then.map(|part| part.size), now.map(|part| part.size)));
                continue;
            }
        };
        let same_rule = before.entry.rule == after.entry.rule;
        if then.sha256 == now.sha256 || same_rule && then.content() == now.content() {
            continue;
        }
        if (sides.told_in)(&after.kind, role).iter().any(|field| is_told(&found, field)) {
            continue;
        }
        let whole = FieldChange::whole(role, Some(then.size), Some(now.size));
        match documents(store, [(before, then), (after, now)], sides).await? {
            // Of code and files it is enough that they differ, and how long they are.
            Some([a, b]) if matches!(role, Role::Content | Role::Data) => {
                found.extend((a != b).then_some(whole));
            }
            Some([a, b]) => {
                compare(role, &a, &b, &mut found);
                gaps.extend(not_known(role, [&a, &b]));
            }
            None => found.push(whole),
        }
    }
    Ok(found)
}

/// Whether something differs in a field of the object.
fn is_told(found: &[FieldChange], field: &str) -> bool {
    let below =
        |path: &str| path.strip_prefix(field).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    found.iter().any(|change| change.part == Role::Object && below(&change.path))
}

/// What two documents do not know, if anything.
fn not_known(part: Role, sides: [&Value; 2]) -> Option<PartUnknown> {
    let [from, to] = sides.map(|document| {
        let mut found = Vec::new();
        all_unknown(String::new(), document, &mut found);
        let (path, why) = found.first()?;
        let more = if found.len() > 1 { format!("; and {} more", found.len() - 1) } else { String::new() };
        let detail = format!("{why}{more}");
        Some(Fault::new(Class::Unavailable, "item.unknown", format!("tell {path}"), detail).record())
    });
    (from.is_some() || to.is_some()).then_some(PartUnknown { part, from, to })
}

/// What of two JSON parts is compared; nothing when they are no JSON, or large.
async fn documents(
    store: &SharedStore,
    [(before, then), (after, now)]: [(&Item, &Part); 2],
    sides: &Sides,
) -> Result<Option<[Value; 2]>> {
    // Content has a canonical form only where it is an answer of the API.
    let json =
        |part: &Part| matches!(part.role, Role::Object | Role::Permissions) || part.canonical.is_some();
    if !json(then) && !json(now) || then.size.max(now.size) > LARGEST_BODY {
        return Ok(None);
    }
    let (a, b) = futures::try_join!(
        read_whole(store, before, then, LARGEST_BODY),
        read_whole(store, after, now, LARGEST_BODY)
    )?;
    let (Ok(mut a), Ok(mut b)) = (serde_json::from_slice(&a), serde_json::from_slice(&b)) else {
        return Ok(None);
    };
    let [of_then, of_now] = sides.comparable;
    of_then(&before.kind, then.role, &mut a);
    of_now(&after.kind, now.role, &mut b);
    Ok(Some([a, b]))
}

fn gaps(before: &Entry, after: &Entry) -> Vec<PartUnknown> {
    let fault = |entry: &Entry, role: Role| {
        entry.gaps.iter().find(|gap| gap.role == role).map(|gap| gap.fault.clone())
    };
    let of = |part| PartUnknown { part, from: fault(before, part), to: fault(after, part) };
    ROLES.into_iter().map(of).filter(|found| found.from.is_some() || found.to.is_some()).collect()
}

async fn item(store: &SharedStore, kind: &Kind, refs: &[IndexRef], light: &Light) -> Result<Item> {
    let (number, position) = light.at;
    let absent = || {
        let detail = format!("entry {position} of index {number} is gone");
        Fault::new(Class::Bug, "diff.position", "read an item", detail)
    };
    let read = index(&**store, refs.get(number).ok_or_else(absent)?).await?;
    let entry = read.entries.get(position).cloned().ok_or_else(absent)?;
    Ok(Item { kind: kind.clone(), entry, index: Arc::new(read) })
}
