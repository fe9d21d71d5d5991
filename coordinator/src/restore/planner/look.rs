//! What is found out about one item that is asked for: what is to be done with it, whatever becomes of the others.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Role, canonical_json};
use lakehold_proto::restore::{Crossing, Meant, Pointer, StepPart};
use lakehold_worker::source::blueprint::{Alone, Concern, Point, Renamed};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::decisions::{Action, Planned};
use super::super::side::{Documents, Held};
use super::{Planner, parts};
use crate::diff::{FieldChange, compare};

/// Fields that are told of one item.
const FIELDS: usize = 20;

/// What was found out about one item that is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Look {
    /// Its number.
    pub(super) item: usize,
    /// What is decided, as far as it itself goes.
    pub(super) planned: Planned,
    /// Where it comes without the whole that it is part of: what it needs of that.
    pub(super) whole: Vec<StepPart>,
    /// What its references become.
    pub(super) pointers: Vec<Pointer>,
    /// Items of the source that it refers to and that may be made; and those of them that it cannot be without.
    #[serde(skip)]
    pub(super) needs: Vec<u32>,
    #[serde(skip)]
    pub(super) firm: Vec<u32>,
    /// Whether object or content differ, and whether access does.
    pub(super) body: bool,
    pub(super) access: bool,
    /// Where the order of its kind matters: its place.
    pub(super) order: Option<i64>,
}

impl Planner<'_> {
    pub(super) async fn look_at(&self, number: usize) -> Result<Look> {
        let item = self.from.item(number)?;
        let target = self.pairs.of(number).filter(|_| !self.is_in_whole(number));
        let target = target.map(|target| self.to.item(target)).transpose()?;
        let mut look = Look::new(number, &item, target.as_ref());
        let documents = match item.documents(self.store, self.blueprint).await {
            Err(fault) if fault.class == Class::Integrity => return Ok(hurt(look, &fault)),
            documents => documents?,
        };
        let there = match &target {
            Some(target) => Some((target, target.documents(self.store, self.blueprint).await?)),
            None => None,
        };
        let there = there.as_ref().map(|(target, documents)| (*target, documents));
        let seen = item.seen(&documents);
        look.order = documents.object.as_ref().and_then(|object| self.blueprint.order(&item.kind, object));
        if let Some(why) = self.left_alone(&item, &documents, target.is_some())? {
            (look.planned.action, look.planned.why) = why;
            return Ok(look);
        }
        let meanings = self.meanings(&self.blueprint.points(&seen), &mut look)?;
        let mut rename = |point: &Point| meanings.get(point).cloned().unwrap_or(Renamed::Same);
        let crossing = &self.ask.crossing;
        let mut across = |role: Role, document: &Option<Value>| {
            document
                .clone()
                .map(|document| self.blueprint.portable(&item.kind, role, document, crossing, &mut rename))
        };
        let object = across(Role::Object, &documents.object);
        let content = across(Role::Content, &documents.content);
        let access = across(Role::Permissions, &documents.access);
        self.compare(
            &mut look,
            &item,
            there,
            [
                (Role::Object, object.as_ref()),
                (Role::Content, content.as_ref()),
                (Role::Permissions, access.as_ref()),
            ],
        );
        self.owner(&mut look, &documents, there);
        let made = target.is_none();
        look.planned.action = match target {
            // It cannot be without something that it refers to.
            _ if look.planned.action == Action::Blocked => Action::Blocked,
            None => Action::Create,
            Some(_) if self.is_made_anew(number) => Action::Replace,
            Some(_) if !look.body && !look.access => Action::Unchanged,
            Some(_) if self.pairs.is_sure(number) => Action::Replace,
            Some(_) => Action::Adopt,
        };
        if let Some(gap) = item.gap(Role::Permissions) {
            look.planned.degraded.push(gap);
        }
        if let Some(plainer) = self.blueprint.plainly(&seen) {
            // It has the permissions of what it lies in.
            look.access = false;
            let identity = self.blueprint.identity_across(&item.kind, item.identity(), crossing);
            if made && !self.to.identified(&plainer, &identity).is_empty() {
                look.planned.action = Action::Unchanged;
            }
        }
        let portable = object.unwrap_or_default();
        let is = there.map(|(target, documents)| target.seen(documents));
        for concern in self.blueprint.concerns(&seen, is.as_ref(), &portable, crossing) {
            match concern {
                Concern::Degraded(why) => look.planned.degraded.push(why),
                Concern::Blocked(why) => {
                    (look.planned.action, look.planned.why) = (Action::Blocked, Some(why));
                }
                Concern::ByHand(what) => look.planned.by_hand.push(what),
                Concern::Starts => look.planned.starts = true,
            }
        }
        if let Some(whole) = self.alone(number) {
            match self.blueprint.alone(&seen, is.as_ref(), crossing) {
                Alone::Never(why) => {
                    (look.planned.action, look.planned.why) = (Action::Blocked, Some(why.into()));
                }
                Alone::With { of_whole, by_hand } => {
                    let whole = self.from.item(whole)?;
                    look.whole = parts(&whole.entry, &whole.index, |part| part.role == of_whole)?;
                    look.planned.by_hand.extend(by_hand);
                    if let Some(gap) = whole.gap(of_whole) {
                        (look.planned.action, look.planned.why) = (Action::Blocked, Some(gap));
                    }
                }
            }
        }
        for role in [Role::Object, Role::Content] {
            if let Some(gap) = item.gap(role) {
                (look.planned.action, look.planned.why) = (Action::Blocked, Some(gap));
            }
        }
        if made && look.planned.action == Action::Create {
            if look.planned.starts && self.ask.no_compute {
                let why = "it can only be made running, and --no-compute asks for nothing of that sort";
                (look.planned.action, look.planned.why) = (Action::Left, Some(why.into()));
            } else if let twins = self.twins_of(&item, number)
                && !twins.is_empty()
                && !self.is_whole(number)
            {
                let why = format!(
                    "the target has {} of this name, and nothing tells which is it: rename them, or the one in the snapshot's place",
                    twins.len()
                );
                (look.planned.action, look.planned.why) = (Action::Blocked, Some(why));
            }
        }
        let sql = self.blueprint.needs_warehouse(&item.kind) && self.ask.warehouse.is_none();
        if sql && look.planned.action.comes() && (made || look.body) {
            let why = "it is made by SQL, and the target names no warehouse: set restore_warehouse: in its databricks: block";
            (look.planned.action, look.planned.why) = (Action::Blocked, Some(why.into()));
        }
        Ok(look)
    }

    /// Other items of the target that have its natural key.
    pub(super) fn twins_of(&self, item: &Held, number: usize) -> Vec<usize> {
        let identity = self.blueprint.identity_across(&item.kind, item.identity(), &self.ask.crossing);
        let there = self.to.identified(&item.kind, &identity).iter().map(|twin| *twin as usize);
        there.filter(|twin| self.pairs.of(number) != Some(*twin)).collect()
    }

    /// Why an item is neither made nor changed, whatever it is.
    fn left_alone(
        &self,
        item: &Held,
        documents: &Documents,
        is_there: bool,
    ) -> Result<Option<(Action, Option<String>)>> {
        let seen = item.seen(documents);
        let named = self.ask.shared && self.select.names(&item.kind, item.key(), item.name());
        if !named
            && let Some(why) =
                self.blueprint.shared(&seen, &self.from.manifest.probe, &self.to.manifest.probe)
        {
            return Ok(Some((Action::Shared, Some(why))));
        }
        if is_there {
            return Ok(None);
        }
        if let Some(why) = self.blueprint.left(&seen) {
            return Ok(Some((Action::Left, Some(why))));
        }
        let maker = self.blueprint.maker(&seen);
        let Some((kind, maker)) =
            maker.and_then(|(kind, key)| self.from.keyed(&kind, &key).map(|maker| (kind, maker)))
        else {
            return Ok(None);
        };
        let maker = self.from.item(maker)?;
        let why = format!("the {kind} {:?} makes it: it appears when that has run", maker.name());
        Ok(Some((Action::Left, Some(why))))
    }

    fn compare(
        &self,
        look: &mut Look,
        item: &Held,
        target: Option<(&Held, &Documents)>,
        parts: [(Role, Option<&Value>); 3],
    ) {
        let Some((target, documents)) = target else {
            look.body = true;
            look.access = parts[2].1.is_some_and(|access| {
                !access.is_null() && !self.blueprint.is_granted_anyway(&item.kind, access)
            });
            return;
        };
        // The target is in its own words already.
        let at_home = Crossing { same: true, passive: self.ask.crossing.passive, ..Crossing::default() };
        let is = |role: Role| match role {
            Role::Object => documents.object.clone(),
            Role::Content => documents.content.clone(),
            _ => documents.access.clone(),
        };
        for (role, wanted) in parts {
            let Some(wanted) = wanted else { continue };
            let comparable = |value: Value| self.blueprint.comparable(&item.kind, role, value, &at_home);
            let wanted = comparable(wanted.clone());
            let is = is(role).map(|is| {
                comparable(self.blueprint.portable(&item.kind, role, is, &at_home, &mut |_| Renamed::Same))
            });
            let is = is.unwrap_or_default();
            if canonical_json(&is) == canonical_json(&wanted) {
                continue;
            }
            compare(role, &is, &wanted, &mut look.planned.changes);
            if role == Role::Permissions {
                look.access = true;
            } else {
                look.body = true;
            }
        }
        look.planned.changes.truncate(FIELDS);
        if self.blueprint.has_document(&item.kind) {
            return;
        }
        let content =
            |entry: &Entry| entry.part(Role::Content).map(|part| (part.sha256, part.format.clone()));
        if let Some(wanted) = content(&item.entry)
            && Some(wanted) != content(&target.entry)
        {
            look.body = true;
            let size = |entry: &Entry| entry.part(Role::Content).map(|part| part.size);
            look.planned.changes.push(FieldChange {
                part: Role::Content,
                path: String::new(),
                from: size(&target.entry).map(Value::from),
                to: size(&item.entry).map(Value::from),
            });
        }
    }

    /// Whose it is, where a field of the object says so: set with the permissions.
    fn owner(&self, look: &mut Look, documents: &Documents, target: Option<(&Held, &Documents)>) {
        let of = |documents: &Documents| {
            documents.object.as_ref().and_then(|object| self.blueprint.owner(&look.planned.kind, object))
        };
        let Some(owner) = of(documents) else { return };
        let meant = look.pointers.iter().find(|pointer| pointer.text == owner).map(|pointer| &pointer.meant);
        let owned = match meant {
            None => owner,
            Some(Meant::Text(text)) => text.clone(),
            Some(Meant::Nothing) => return,
            Some(Meant::Made { key, .. } | Meant::Later { key }) => key.clone(),
        };
        let is = target.and_then(|(_, documents)| of(documents));
        if is.as_deref() == Some(owned.as_str()) {
            return;
        }
        look.access = true;
        if target.is_some() {
            look.planned.changes.push(FieldChange {
                part: Role::Permissions,
                path: "owner".into(),
                from: is.map(Value::from),
                to: Some(Value::from(owned)),
            });
        }
    }
}

impl Look {
    pub(super) fn new(number: usize, item: &Held, target: Option<&Held>) -> Self {
        let target = target.map(|target| &target.entry);
        let planned = Planned {
            degraded: item.entry.degraded.clone(),
            ..Planned::new(&item.entry, &item.kind, target, Action::Unchanged)
        };
        Self {
            item: number,
            planned,
            whole: Vec::new(),
            pointers: Vec::new(),
            needs: Vec::new(),
            firm: Vec::new(),
            body: false,
            access: false,
            order: None,
        }
    }
}

/// An item whose bytes are damaged in the store.
fn hurt(mut look: Look, fault: &Fault) -> Look {
    let why =
        format!("it is hurt in the store: {fault}; `lakehold verify` tells which snapshot has it whole");
    (look.planned.action, look.planned.why) = (Action::Blocked, Some(why));
    look
}
