//! Two snapshots of different environments, compared as a restore of one into the other would: paired by natural key, without
//! what the servers set, references by what they point to.

use lakehold_proto::fault::Result;
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Standing;
use lakehold_proto::restore::{Crossing, Mapping};
use lakehold_proto::store::SharedStore;
use lakehold_worker::configured::blueprint;
use lakehold_worker::source::blueprint::Blueprint;

use super::decisions::{Action, Planned};
use super::planner::{Ask, IdMap, decide};
use super::select::Wanted;
use super::side::Side;
use super::{cross, is_same_workspace};
use crate::diff::{Change, DIFF_SCHEMA, Diff, FieldChange, KindUnknown, Side as Told, What};

/// Whether two snapshots are of different workspaces, so that keys mean nothing between them.
pub fn is_across(from: &Manifest, to: &Manifest) -> bool {
    let has_ids = blueprint(&from.source).is_ok_and(Blueprint::has_ids);
    has_ids && from.environment != to.environment && !is_same_workspace(from, to)
}

/// Compares them. What no API brings back, and what appears by itself, is no difference.
///
/// # Errors
/// As [`decide`].
pub async fn across(
    store: &SharedStore,
    from: &Manifest,
    to: &Manifest,
    kinds: &[Kind],
    mapping: Mapping,
) -> Result<Diff> {
    let blueprint = blueprint(&from.source)?;
    let sides =
        (Side::read(store, from.clone(), blueprint).await?, Side::read(store, to.clone(), blueprint).await?);
    let mut ask = Ask {
        wanted: Wanted { kinds: kinds.to_vec(), ..Wanted::default() },
        crossing: Crossing { mapping, ..Crossing::default() },
        delete_extra: true,
        // Nothing is made: whether it could be is not asked.
        warehouse: Some(String::new()),
        shared: false,
        no_compute: false,
    };
    cross(&mut ask, from, to);
    let decided = decide(store, blueprint, &sides.0, &sides.1, &ask, &IdMap::new()).await?;
    let mut changes = Vec::new();
    for item in decided.items.sorted()?.iter() {
        changes.extend(change(item?));
    }
    let standing =
        |manifest: &Manifest, kind: &Kind| manifest.by_kind().get(kind).map(|report| report.standing);
    let unknown = |kind: &Kind| {
        let (a, b) = (standing(from, kind), standing(to, kind));
        let known = a == Some(Standing::Captured) && b == Some(Standing::Captured);
        (!known && (a != b || a.is_some_and(Standing::is_gap))).then(|| KindUnknown {
            kind: kind.clone(),
            from: a,
            to: b,
        })
    };
    let compared =
        from.kinds.iter().map(|report| &report.kind).filter(|kind| kinds.is_empty() || kinds.contains(kind));
    let mut diff = Diff {
        schema: DIFF_SCHEMA,
        from: Told::of(from, kinds),
        to: Told::of(to, kinds),
        differs: false,
        unknown: false,
        kinds_unknown: compared.filter_map(unknown).collect(),
        changes,
    };
    diff.retain(|_| true);
    Ok(diff)
}

/// What a decision says of a difference, seen from the other side.
fn change(planned: Planned) -> Option<Change> {
    let change = match planned.action {
        Action::Create => What::Removed,
        Action::Delete => What::Added,
        Action::Replace | Action::Adopt => What::Changed,
        Action::Blocked if planned.target.is_none() => What::Unknown,
        Action::Blocked => What::Gap,
        Action::Unchanged | Action::Shared | Action::Left => return None,
    };
    let turned = |field: FieldChange| FieldChange { from: field.to, to: field.from, ..field };
    // Bodies are told by their sizes.
    let fields = planned.changes.into_iter().map(turned).filter(|field| field.part != Role::Data).collect();
    Some(Change {
        kind: planned.kind,
        name: planned.name,
        key: planned.target.unwrap_or(planned.key),
        change,
        old_name: None,
        old_key: None,
        fields,
        gaps: Vec::new(),
    })
}
