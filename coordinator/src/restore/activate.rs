//! Activate: what a passive restore held goes again, and only that.
//!
//! The item stays as it is in the target now; only the fields that the restore held become what the snapshot has.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Act, Step};
use lakehold_proto::store::Key;
use lakehold_worker::configured::blueprint;
use tokio::sync::watch;

use super::planner::{Action, Ask, Decisions, Planned, on_target};
use super::side::{Looked, Side};
use super::{Prepared, Restore, became, cross, named};
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
        let from = Side::read(store, snapshot.manifest.clone(), blueprint, Looked::InOrder).await?;
        let to = Side::read(store, now.manifest.clone(), blueprint, Looked::AnyOrder).await?;
        let mut ask = Ask::default();
        cross(&mut ask, &now.manifest, &now.manifest);
        let mut decisions = Decisions::default();
        for (kind, key, became) in became(&**store, record).await? {
            let places = (from.keyed(&kind, &key), to.keyed(&kind, &became));
            let (Some(source), Some(target)) = places else { continue };
            let (source, target) = (&from.items[source], &to.items[target]);
            let object = source.documents(store, blueprint).await?.object.unwrap_or_default();
            let documents = target.documents(store, blueprint).await?;
            let (entry, is) = (documents.entry, documents.object.unwrap_or_default());
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
            let changes = set.iter().map(change).collect();
            decisions.items.push(Planned { changes, ..Planned::on_target(target, &entry, Action::Replace) });
            let step = Step { set, ..on_target(Act::Activate, target, &entry)? };
            decisions.steps.push(stage(blueprint.layer(&kind)), &kind, None, &step)?;
        }
        Ok(self.prepared(named(&snapshot), now, ask, decisions, blueprint, share))
    }
}

/// What others lean on goes first.
fn stage(layer: Option<u8>) -> u16 {
    u16::from(layer.unwrap_or_default())
}
