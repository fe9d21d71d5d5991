//! Activate: what a passive restore held goes again, and only that.
//!
//! The item stays as it is in the target now; only the fields that the restore held become what the snapshot has.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Act, Step};
use lakehold_proto::store::Key;
use lakehold_worker::configured::blueprint;
use tokio::sync::watch;

use super::decisions::{Action, Decisions, Planned};
use super::earlier::each_became;
use super::planner::{Ask, on_target};
use super::side::Side;
use super::{Prepared, Restore, cross, named};
use crate::diff::FieldChange;
use crate::engine::view::RunView;

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
        let snapshot = self.read(&Key::manifest(&was.environment, &was.time, was.snapshot)).await?;
        let now = self.target_now(&record.environment, Vec::new(), view, stop).await?;
        let from = Side::read(store, snapshot.manifest.clone(), blueprint).await?;
        let to = Side::read(store, now.manifest.clone(), blueprint).await?;
        let mut ask = Ask::default();
        cross(&mut ask, &now.manifest, &now.manifest);
        let mut brought = Vec::new();
        each_became(&**store, record, |act, kind, key, became| {
            let places = from.keyed(kind, key).zip(to.keyed(kind, became));
            brought.extend(places.filter(|_| matches!(act, "create" | "replace")));
        })
        .await?;
        let mut decisions = Decisions::new()?;
        for (source, target) in brought {
            let (source, target) = (from.item(source)?, to.item(target)?);
            let kind = &target.kind;
            let object = source.documents(store, blueprint).await?.object.unwrap_or_default();
            let is = target.documents(store, blueprint).await?.object.unwrap_or_default();
            let now_held = blueprint.held(kind, &is);
            let set: Vec<_> =
                blueprint.held(kind, &object).into_iter().filter(|field| !now_held.contains(field)).collect();
            if set.is_empty() {
                continue;
            }
            let change = |(path, value): &(String, serde_json::Value)| FieldChange {
                part: lakehold_proto::format::Role::Object,
                path: path.clone(),
                from: is.pointer(&format!("/{}", path.replace('.', "/"))).cloned(),
                to: Some(value.clone()),
            };
            let changes = set.iter().map(change).collect();
            decisions.items.push(&Planned { changes, ..Planned::on_target(&target, Action::Replace) })?;
            let step = Step { set, ..on_target(Act::Activate, &target)? };
            decisions.steps.push(stage(blueprint.layer(kind)), kind, None, &step)?;
        }
        self.prepared(named(&snapshot), now, ask, decisions, blueprint, share)
    }
}

/// What others lean on goes first.
fn stage(layer: Option<u8>) -> u16 {
    u16::from(layer.unwrap_or_default())
}
