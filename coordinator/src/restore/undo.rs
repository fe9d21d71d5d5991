//! Undo: what a restore made is taken away, what it changed becomes what it was.
//!
//! Only what the restore's own record names is touched, and only after a fresh look at the environment has read it back: an
//! item that somebody else made meanwhile has another key.

use std::collections::HashSet;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Entry;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Act, Step};
use lakehold_proto::store::{Key, Store};
use lakehold_worker::configured::blueprint;
use lakehold_worker::source::blueprint::Blueprint;
use tokio::sync::watch;

use super::decisions::{Action, Decisions, Planned};
use super::earlier::touched;
use super::planner::{Ask, IdMap, decide, on_target, parts};
use super::select::Wanted;
use super::side::{Side, id};
use super::{Prepared, Restore, cross, named};
use crate::engine::view::RunView;
use crate::snapshot::items::each_index;

impl Restore<'_> {
    /// Decides how a restore is undone.
    ///
    /// # Errors
    /// As [`Restore::plan`]; `Integrity` when the snapshot that was taken before it is damaged.
    pub async fn plan_undo(
        &self,
        record: &Manifest,
        warehouse: Option<String>,
        share: f64,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Prepared> {
        let Some(restored) = &record.restore else {
            let detail = format!("{} is no record of a restore", record.key());
            return Err(Fault::new(Class::Config, "restore.no-record", "undo a restore", detail));
        };
        let store = self.store();
        let blueprint = blueprint(&record.source)?;
        let was = &restored.before;
        let before = self.read(&Key::manifest(&was.environment, &was.time, was.snapshot)).await?;
        let (made, changed) = touched(&**store, record).await?;
        // As much of it as was looked at then.
        let kinds = before.manifest.selection.kinds.clone();
        let now = self.target_now(&record.environment, kinds, view, stop).await?;
        let from = Side::read(store, before.manifest.clone(), blueprint).await?;
        let to = Side::read(store, now.manifest.clone(), blueprint).await?;
        let mut ask = Ask {
            wanted: Wanted { items: changed.into_iter().collect(), ..Wanted::default() },
            shared: true,
            warehouse,
            ..Ask::default()
        };
        cross(&mut ask, &from.manifest, &now.manifest);
        let mut decisions = if ask.wanted.items.is_empty() {
            Decisions::new()?
        } else {
            decide(store, blueprint, &from, &to, &ask, &IdMap::new()).await?
        };
        let first = decisions.steps.end();
        for item in to.all() {
            let item = item?;
            // Of the workspace tree the record may have the path alone, which is the natural key.
            let of_it = [item.key(), item.identity()].iter().any(|key| made.contains(&id(&item.kind, key)));
            let is_part = blueprint.whole(&item.kind, item.key()).is_some();
            if !of_it || is_part || from.keyed(&item.kind, item.key()).is_some() {
                continue;
            }
            let layer = blueprint.layer(&item.kind).unwrap_or_default();
            // Longer names first: what lies in a folder goes before the folder.
            let depth = item.name().matches(['/', '.']).count().min(200) as u16;
            let stage = first + u16::from(u8::MAX - layer) * 201 + (200 - depth);
            decisions.steps.push(stage, &item.kind, None, &on_target(Act::Delete, &item)?)?;
            let why = Some("the restore made it".to_owned());
            decisions.items.push(&Planned { why, ..Planned::on_target(&item, Action::Delete) })?;
        }
        for (kind, became, step) in made_anew(&**store, record, blueprint).await? {
            let stage = first + u16::from(u8::MAX - blueprint.layer(&kind).unwrap_or_default()) * 201;
            decisions.steps.push(stage, &kind, None, &step)?;
            let why = "the restore made it; what it took the place of has its name again";
            decisions.items.push(&Planned::taken_away(kind, &became, why))?;
        }
        let prepared = self.prepared(named(&before), now, ask, decisions, blueprint, share)?;
        Ok(Prepared { undoes: Some(record.snapshot), ..prepared })
    }
}

/// The wholes that a restore made, and the parts that it made without theirs, by what they are called, with the steps that take
/// them away: each has what the restore wrote down of it.
async fn made_anew(
    store: &dyn Store,
    record: &Manifest,
    blueprint: &dyn Blueprint,
) -> Result<Vec<(Kind, String, Step)>> {
    let whole_of = |kind: &Kind, entry: &Entry| {
        let key = entry.key.strip_prefix("create/")?;
        blueprint.whole(kind, key).map(|whole| (whole == (kind.clone(), key.to_owned()), whole))
    };
    let mut wholes = HashSet::new();
    each_index(store, record, &|_| true, |named, index| {
        let found = index.entries.iter().filter_map(|entry| whole_of(&named.kind, entry));
        wholes.extend(found.filter_map(|(is_whole, whole)| is_whole.then_some(whole)));
        Ok(true)
    })
    .await?;
    let mut found = Vec::new();
    each_index(store, record, &|_| true, |named, index| {
        for entry in &index.entries {
            let Some((is_whole, whole)) = whole_of(&named.kind, entry) else { continue };
            let is_by_itself = is_whole || !wholes.contains(&whole);
            let Some(became) = entry.became.clone().filter(|_| is_by_itself) else { continue };
            let step = Step {
                act: Act::Delete,
                key: became.clone(),
                name: became.clone(),
                target: Some(became.clone()),
                others: Vec::new(),
                parts: parts(entry, &index, |_| true)?,
                whole: Vec::new(),
                pointers: Vec::new(),
                set: Vec::new(),
                parts_of_it: 0,
                bytes_of_it: 0,
            };
            found.push((named.kind.clone(), became, step));
        }
        Ok(true)
    })
    .await?;
    Ok(found)
}
