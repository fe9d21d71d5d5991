//! Activate: what a passive restore held goes again, and only that.
//!
//! The item stays as it is in the target now; only the fields that the restore held become what the snapshot has.

use std::collections::BTreeMap;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Act, Step};
use lakehold_proto::store::Key;
use lakehold_worker::configured::blueprint;
use tokio::sync::watch;

use super::document::{Document, Head};
use super::planner::{Action, Ask, Decisions, Planned, parts};
use super::side::Side;
use super::{Prepared, Restore, became, cross, may_change, named};
use crate::diff::FieldChange;
use crate::engine::view::RunView;
use crate::snapshot::read_at;

impl Restore<'_> {
    /// Decides what is let go.
    ///
    /// # Errors
    /// As [`Restore::plan`]; `Config` when the restore held nothing.
    pub async fn plan_activation(
        &self,
        record: &Manifest,
        share: f64,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Prepared> {
        let Some(restored) = record.restore.as_ref().filter(|restored| restored.crossing.passive) else {
            let detail = format!("the restore {} was not passive: it held nothing", record.snapshot.short());
            return Err(Fault::new(
                Class::Config,
                "activate.nothing",
                "activate what a restore held",
                detail,
            ));
        };
        let store = self.store();
        let blueprint = blueprint(&record.source)?;
        let was = &restored.from;
        let (from, from_hash) =
            read_at(&**store, &Key::manifest(&was.environment, &was.time, was.snapshot)).await?;
        let now = self.look(&record.environment, Vec::new(), view, stop).await?;
        let (now, now_hash) = read_at(&**store, &now.key()).await?;
        may_change(&now)?;
        let from = Side::read(store, from, blueprint).await?;
        let to = Side::read(store, now.clone(), blueprint).await?;
        let mut ask = Ask::default();
        cross(&mut ask, &now, &now);
        let mut decisions = Decisions { items: Vec::new(), steps: BTreeMap::new(), unmet: Vec::new() };
        for (kind, key, became) in became(&**store, record).await? {
            let places = (from.keyed(&kind, &key), to.keyed(&kind, &became));
            let (Some(source), Some(target)) = places else { continue };
            let (source, target) = (&from.items[source], &to.items[target]);
            let object = source.documents(store, blueprint).await?.object.unwrap_or_default();
            let is = target.documents(store, blueprint).await?.object.unwrap_or_default();
            let now_held = blueprint.held(&kind, &is);
            let set: Vec<_> = blueprint
                .held(&kind, &object)
                .into_iter()
                .filter(|field| !now_held.contains(field))
                .collect();
            if set.is_empty() {
                continue;
            }
            let change = |(path, value): &(String, serde_json::Value)| FieldChange {
                part: lakehold_proto::format::Role::Object,
                path: path.clone(),
                from: is.pointer(&format!("/{}", path.replace('.', "/"))).cloned(),
                to: Some(value.clone()),
            };
            decisions.items.push(Planned {
                kind: kind.clone(),
                name: target.entry().name.clone(),
                key: became.clone(),
                action: Action::Replace,
                target: Some(became.clone()),
                was: target.entry().content,
                degraded: Vec::new(),
                why: None,
                by_hand: Vec::new(),
                starts: false,
                changes: set.iter().map(change).collect(),
            });
            let step = Step {
                act: Act::Activate,
                key: became.clone(),
                name: target.entry().name.clone(),
                target: Some(became),
                others: Vec::new(),
                parts: parts(target)?,
                pointers: Vec::new(),
                set,
            };
            decisions.steps.entry((stage(blueprint.layer(&kind)), kind)).or_default().push(step);
        }
        let head = Head {
            created: self.backup.engine.clock.now(),
            from: named(&from.manifest, from_hash),
            target: record.environment.clone(),
            before: named(&now, now_hash),
        };
        let document = Document::new(head, ask, &decisions, blueprint, share);
        Ok(Prepared { document, steps: decisions.steps, before: now, undoes: None })
    }
}

/// What others lean on goes first.
fn stage(layer: Option<u8>) -> u16 {
    u16::from(layer.unwrap_or_default())
}
