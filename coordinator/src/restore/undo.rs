//! Undo: what a restore made is taken away, what it changed becomes what it was.
//!
//! Only what the restore's own record names is touched, and only after a fresh look at the environment has read it back: an
//! item that somebody else made meanwhile has another key.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::Act;
use lakehold_proto::store::Key;
use lakehold_worker::configured::blueprint;
use tokio::sync::watch;

use super::planner::{Action, Ask, Decisions, IdMap, Planned, decide, on_target};
use super::select::Wanted;
use super::side::{Looked, Side};
use super::{Prepared, Restore, cross, named, touched};
use crate::engine::view::RunView;

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
        let touched = touched(&**store, record).await?;
        // As much of it as was looked at then.
        let kinds = before.manifest.selection.kinds.clone();
        let now = self.target_now(&record.environment, kinds, view, stop).await?;
        let from = Side::read(store, before.manifest.clone(), blueprint, Looked::InOrder).await?;
        let to = Side::read(store, now.manifest.clone(), blueprint, Looked::AnyOrder).await?;
        let items = touched
            .iter()
            .filter(|(_, act)| **act == "replace")
            .map(|((kind, key), _)| format!("{kind}/#{key}"));
        let mut ask = Ask {
            wanted: Wanted { items: items.collect(), ..Wanted::default() },
            shared: true,
            warehouse,
            ..Ask::default()
        };
        cross(&mut ask, &from.manifest, &now.manifest);
        let mut decisions = if ask.wanted.items.is_empty() {
            Decisions::default()
        } else {
            decide(store, blueprint, &from, &to, &ask, &IdMap::new()).await?
        };
        let first = decisions.steps.end();
        for item in &to.items {
            // Of the workspace tree the record may have the path alone, which is the natural key.
            let of = |key: &str| touched.get(&(item.kind.clone(), key.to_owned())) == Some(&"create");
            let made = of(item.key()) || of(item.identity());
            if !made || from.keyed(&item.kind, item.key()).is_some() {
                continue;
            }
            let layer = blueprint.layer(&item.kind).unwrap_or_default();
            // Longer names first: what lies in a folder goes before the folder.
            let depth = item.name().matches(['/', '.']).count().min(200) as u16;
            let stage = first + u16::from(u8::MAX - layer) * 201 + (200 - depth);
            let entry = item.entry(store).await?;
            decisions.steps.push(stage, &item.kind, None, &on_target(Act::Delete, item, &entry)?)?;
            let why = Some("the restore made it".to_owned());
            decisions.items.push(Planned { why, ..Planned::on_target(item, &entry, Action::Delete) });
        }
        let prepared = self.prepared(named(&before), now, ask, decisions, blueprint, share);
        Ok(Prepared { undoes: Some(record.snapshot), ..prepared })
    }
}
