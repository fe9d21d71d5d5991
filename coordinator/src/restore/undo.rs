//! Undo: what a restore made is taken away, what it changed becomes what it was.
//!
//! Only what the restore's own record names is touched, and only after a fresh look at the environment has read it back: an
//! item that somebody else made meanwhile has another key.

use std::collections::BTreeMap;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Act, Step};
use lakehold_worker::configured::blueprint;
use tokio::sync::watch;

use super::document::{Document, Head};
use super::planner::{Action, Ask, Decisions, IdMap, Planned, decide, parts};
use super::select::Wanted;
use super::side::Side;
use super::{Prepared, Restore, cross, may_change, named, touched};
use crate::engine::view::RunView;
use crate::snapshot::read_at;
use lakehold_proto::store::Key;

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
        let (before, before_hash) =
            read_at(&**store, &Key::manifest(&was.environment, &was.time, was.snapshot)).await?;
        let touched = touched(&**store, record).await?;
        let looked_at: Vec<Kind> = before
            .kinds
            .iter()
            .filter(|report| {
                !before.selection.kinds.is_empty() && before.selection.kinds.contains(&report.kind)
            })
            .map(|report| report.kind.clone())
            .collect();
        let now = self.look(&record.environment, looked_at, view, stop).await?;
        let (now, now_hash) = read_at(&**store, &now.key()).await?;
        may_change(&now)?;
        let (from, to) =
            (Side::read(store, before, blueprint).await?, Side::read(store, now.clone(), blueprint).await?);
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
        cross(&mut ask, &from.manifest, &now);
        let mut decisions = if ask.wanted.items.is_empty() {
            Decisions { items: Vec::new(), steps: BTreeMap::new(), unmet: Vec::new() }
        } else {
            decide(store, blueprint, &from, &to, &ask, &IdMap::new()).await?
        };
        let first = decisions.steps.keys().map(|(stage, _)| stage + 1).max().unwrap_or(0);
        for item in &to.items {
            // Of the workspace tree the record may have the path alone, which is the natural key.
            let of = |key: &str| touched.get(&(item.kind.clone(), key.to_owned())) == Some(&"create");
            let made = of(&item.entry().key) || of(&item.identity);
            if !made || from.keyed(&item.kind, &item.entry().key).is_some() {
                continue;
            }
            let layer = blueprint.layer(&item.kind).unwrap_or_default();
            let (key, name) = (item.entry().key.clone(), item.entry().name.clone());
            let step = Step {
                act: Act::Delete,
                key: key.clone(),
                name: name.clone(),
                target: Some(key.clone()),
                others: Vec::new(),
                parts: parts(item)?.into_iter().filter(|part| part.role == Role::Object).collect(),
                pointers: Vec::new(),
                set: Vec::new(),
            };
            // Longer names first: what lies in a folder goes before the folder.
            let depth = name.matches(['/', '.']).count().min(200) as u16;
            let stage = first + u16::from(u8::MAX - layer) * 201 + (200 - depth);
            decisions.steps.entry((stage, item.kind.clone())).or_default().push(step);
            decisions.items.push(Planned {
                kind: item.kind.clone(),
                name,
                key: key.clone(),
                action: Action::Delete,
                target: Some(key),
                was: item.entry().content,
                degraded: Vec::new(),
                why: Some("the restore made it".into()),
                by_hand: Vec::new(),
                starts: false,
                changes: Vec::new(),
            });
        }
        let head = Head {
            created: self.backup.engine.clock.now(),
            from: named(&from.manifest, before_hash),
            target: record.environment.clone(),
            before: named(&now, now_hash),
        };
        let document = Document::new(head, ask, &decisions, blueprint, share);
        Ok(Prepared { document, steps: decisions.steps, before: now, undoes: Some(record.snapshot) })
    }
}
