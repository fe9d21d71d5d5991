//! Decides what is done with each item of a snapshot, from two snapshots alone: the one that is brought back, and the target
//! as it is now. Reads bodies, changes nothing.
//!
//! An item of the target is *it* when an earlier restore made it of this item, or (in the same workspace) when it has its
//! key, or when it alone has its natural key. What cannot be told apart is blocked, never guessed.

mod steps;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Role, canonical_json};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::restore::{Crossing, Meant, Pointer, Step};
use lakehold_proto::store::SharedStore;
use lakehold_worker::source::blueprint::{Blueprint, By, Concern, Point, Renamed};
use lakehold_worker::source::databricks::FACT_WORKSPACE_ID;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fact;
use super::select::{Select, Wanted};
use super::side::{Documents, Held, Side, id};
use super::steps::Steps;
use crate::diff::{FieldChange, compare};
use crate::spill::Spill;
pub(super) use steps::on_target;

/// Items looked at together.
const AT_ONCE: usize = 16;
/// Fields that are told of one item.
const FIELDS: usize = 20;
/// Steps kept in memory before they are written aside.
const DRAFTS: usize = 512;

/// What became of each item in earlier restores from one environment into another: source kind and key to target key.
pub type IdMap = HashMap<(Kind, String), String>;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Which items.
    pub wanted: Wanted,
    /// How they are changed on the way.
    pub crossing: Crossing,
    /// Whether what source and target share may be changed, where it is named.
    #[serde(default)]
    pub shared: bool,
    /// Leave out what can only be made running.
    #[serde(default)]
    pub no_compute: bool,
    /// Take away what the snapshot does not have, of the kinds asked for.
    #[serde(default)]
    pub delete_extra: bool,
    /// The target's warehouse for SQL.
    #[serde(default)]
    pub warehouse: Option<String>,
}

/// What is done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The target does not have it: it is made.
    Create,
    /// The target has it, and it differs: it is changed.
    Replace,
    /// As `replace`, of an item that no restore made and that has another key: found by its name.
    Adopt,
    /// The target has it as it is.
    Unchanged,
    /// Source and target share it: left alone.
    Shared,
    /// Somebody else makes it.
    Left,
    /// It cannot be brought back.
    Blocked,
    /// The snapshot does not have it: it is taken away.
    Delete,
}

impl Action {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Adopt => "adopt",
            Self::Unchanged => "unchanged",
            Self::Shared => "shared",
            Self::Left => "left",
            Self::Blocked => "blocked",
            Self::Delete => "delete",
        }
    }

    /// Whether something of the snapshot comes with it.
    pub const fn comes(self) -> bool {
        matches!(self, Self::Create | Self::Replace | Self::Adopt)
    }
}

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its kind.
    pub kind: Kind,
    /// Its name in the snapshot.
    pub name: Arc<str>,
    /// Its key in the snapshot; of what is taken away, in the target.
    pub key: Arc<str>,
    /// What is done with it.
    pub action: Action,
    /// Its key in the target, where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The content the target has of it now: whether it moved since is told by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Hash>,
    /// What it will lack, or be less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// Why it cannot be brought back, or is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a person must do for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<String>,
    /// Whether making it starts it, until it is stopped at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts: bool,
    /// What differs, by part and path: from what the target has to what it gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

impl Planned {
    fn new(item: &Held, action: Action) -> Self {
        Self {
            kind: item.kind.clone(),
            name: Arc::clone(item.name()),
            key: Arc::clone(item.key()),
            action,
            target: None,
            was: None,
            degraded: Vec::new(),
            why: None,
            by_hand: Vec::new(),
            starts: false,
            changes: Vec::new(),
        }
    }

    /// Something that is done with an item of the target, whatever the snapshot has.
    pub(super) fn on_target(item: &Held, entry: &Entry, action: Action) -> Self {
        let target = Some(item.key().to_string());
        Self { target, was: entry.content, ..Self::new(item, action) }
    }
}

/// All decisions.
#[derive(Debug, Default)]
pub struct Decisions {
    /// One for each item asked for, in the order of the snapshot; then what is taken away.
    pub items: Vec<Planned>,
    /// What is done.
    pub steps: Steps,
    /// Words that met no item.
    pub unmet: Vec<String>,
}

/// Decides.
///
/// # Errors
/// The store's; `Integrity` when a body that is needed is damaged; `Config` when a pattern is none.
pub async fn decide(
    store: &SharedStore,
    blueprint: &dyn Blueprint,
    from: &Side,
    to: &Side,
    ask: &Ask,
    known: &IdMap,
) -> Result<Decisions> {
    let select = Select::new(&ask.wanted)?;
    let mut planner = Planner {
        store,
        blueprint,
        from,
        to,
        ask,
        select,
        matched: vec![None; from.items.len()],
        sure: vec![false; from.items.len()],
        twins: HashMap::new(),
        selected: vec![false; from.items.len()],
        looks: Vec::new(),
        drafts: Spill::new(DRAFTS),
    };
    planner.select().await?;
    planner.pair(known);
    (planner.looks, planner.drafts) = planner.look().await?;
    planner.block_what_hangs_on_it();
    planner.conclude().await
}

struct Planner<'a> {
    store: &'a SharedStore,
    blueprint: &'a dyn Blueprint,
    from: &'a Side,
    to: &'a Side,
    ask: &'a Ask,
    select: Select<'a>,
    /// Of each item of the source, the target's item that is it.
    matched: Vec<Option<usize>>,
    /// Whether it is known to be it by more than its name.
    sure: Vec<bool>,
    /// Of an item of the source, other items of the target that have its natural key.
    twins: HashMap<usize, Vec<usize>>,
    selected: Vec<bool>,
    looks: Vec<Look>,
    /// The steps of those that come, as text, by their number among the looks.
    drafts: Spill<(usize, String)>,
}

/// What was found out about one item that is asked for.
#[derive(Clone, Debug)]
struct Look {
    item: usize,
    planned: Planned,
    pointers: Vec<Pointer>,
    /// Items of the source that it refers to.
    needs: Vec<usize>,
    /// Those that it cannot be without.
    firm: Vec<usize>,
    /// Whether object or content differ, and whether access does.
    body: bool,
    access: bool,
    order: Option<i64>,
}

impl Planner<'_> {
    async fn select(&mut self) -> Result<()> {
        for (number, item) in self.from.items.iter().enumerate() {
            self.selected[number] = self.select.takes(&item.kind, item.key(), item.name());
        }
        if !self.ask.wanted.with_dependencies {
            return Ok(());
        }
        let mut open: Vec<_> = (0..self.selected.len()).filter(|&number| self.selected[number]).collect();
        while !open.is_empty() {
            let found = futures::stream::iter(open.iter().map(|&number| self.needs(number)))
                .buffered(AT_ONCE)
                .try_collect::<Vec<_>>()
                .await?;
            open = found
                .into_iter()
                .flatten()
                .filter(|&needed| !std::mem::replace(&mut self.selected[needed], true))
                .collect();
            open.dedup();
        }
        Ok(())
    }

    async fn needs(&self, number: usize) -> Result<Vec<usize>> {
        let item = &self.from.items[number];
        let documents = match item.documents(self.store, self.blueprint).await {
            // It is blocked when it is looked at.
            Err(fault) if fault.class == Class::Integrity => return Ok(Vec::new()),
            documents => documents?,
        };
        let points = self.blueprint.points(&documents.seen(&item.kind));
        // Everybody whom a list of permissions names would be half of the workspace.
        let wanted = points.iter().filter(|point| !point.principal);
        Ok(wanted.filter_map(|point| meant(self.from, point)).map(|(needed, ..)| needed).collect())
    }

    /// Finds each item of the source in the target.
    fn pair(&mut self, known: &IdMap) {
        let mut taken = HashSet::new();
        let crossing = &self.ask.crossing;
        for (number, item) in self.from.items.iter().enumerate() {
            let mapped = known.get(&(item.kind.clone(), item.key().to_string())).map(String::as_str);
            let by_key = if crossing.same { Some(&**item.key()) } else { mapped };
            let found = by_key.and_then(|key| self.to.keyed(&item.kind, key));
            if let Some(found) = found.filter(|found| taken.insert(*found)) {
                (self.matched[number], self.sure[number]) = (Some(found), true);
            }
        }
        let mut claims: HashMap<_, u32> = HashMap::new();
        let identity = |item: &Held| self.blueprint.identity_across(&item.kind, item.identity(), crossing);
        for (number, item) in self.from.items.iter().enumerate() {
            if self.matched[number].is_none() {
                *claims.entry(id(&item.kind, &identity(item))).or_default() += 1;
            }
        }
        for (number, item) in self.from.items.iter().enumerate() {
            let identity = identity(item);
            let there = self.to.identified(&item.kind, &identity);
            let free: Vec<_> = there.iter().copied().filter(|found| !taken.contains(found)).collect();
            if self.matched[number].is_none()
                && let [one] = free.as_slice()
                && claims.get(&id(&item.kind, &identity)) == Some(&1)
            {
                self.matched[number] = Some(*one);
                taken.insert(*one);
            }
            let twins: Vec<_> =
                there.into_iter().filter(|found| self.matched[number] != Some(*found)).collect();
            if !twins.is_empty() {
                self.twins.insert(number, twins);
            }
        }
    }

    /// Looks at each item that is asked for; the steps of those that come are written aside.
    async fn look(&self) -> Result<(Vec<Look>, Spill<(usize, String)>)> {
        let wanted = (0..self.from.items.len()).filter(|&number| self.selected[number]);
        let looks = futures::stream::iter(wanted.map(|number| self.look_and_step(number))).buffered(AT_ONCE);
        // There may be very many: room that is doubled would be half as much again.
        let most = self.selected.iter().filter(|selected| **selected).count();
        let (mut found, mut drafts) = (Vec::with_capacity(most), Spill::new(DRAFTS));
        let mut looks = std::pin::pin!(looks);
        while let Some((mut look, step)) = looks.try_next().await? {
            if let Some(step) = step {
                let text = serde_json::to_string(&step)
                    .map_err(|e| Fault::new(Class::Bug, "restore.encode", "write down a step", e))?;
                drafts.push((found.len(), text))?;
            }
            look.needs.shrink_to_fit();
            look.firm.shrink_to_fit();
            found.push(look);
        }
        Ok((found, drafts))
    }

    /// Both together: whoever takes the looks from the stream must wait for nothing that another look holds.
    async fn look_and_step(&self, number: usize) -> Result<(Look, Option<Step>)> {
        let mut look = self.look_at(number).await?;
        let step = if look.planned.action.comes() { Some(self.step(&mut look).await?) } else { None };
        Ok((look, step))
    }

    async fn look_at(&self, number: usize) -> Result<Look> {
        let (item, target) =
            (&self.from.items[number], self.matched[number].map(|found| &self.to.items[found]));
        let entry = item.entry(self.store).await?;
        let was = match target {
            Some(target) => Some(target.entry(self.store).await?),
            None => None,
        };
        let mut look = self.begin(number, &entry, was.as_deref());
        let documents = match item.documents(self.store, self.blueprint).await {
            Err(fault) if fault.class == Class::Integrity => return Ok(hurt(look, &fault)),
            documents => documents?,
        };
        let there = match target {
            Some(target) => Some((target, target.documents(self.store, self.blueprint).await?)),
            None => None,
        };
        let there = there.as_ref().map(|(target, documents)| (*target, documents));
        let seen = documents.seen(&item.kind);
        look.order = documents.object.as_ref().and_then(|object| self.blueprint.order(&item.kind, object));
        if let Some(why) = self.left_alone(number, &documents) {
            (look.planned.action, look.planned.why) = why;
            return Ok(look);
        }
        let meanings = self.meanings(&self.blueprint.points(&seen), &mut look);
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
            &entry,
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
            None => Action::Create,
            Some(_) if !look.body && !look.access => Action::Unchanged,
            Some(_) if self.sure[number] => Action::Replace,
            Some(_) => Action::Adopt,
        };
        if let Some(gap) = Side::gap(&entry, Role::Permissions) {
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
        let is = there.map(|(target, documents)| documents.seen(&target.kind));
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
        for role in [Role::Object, Role::Content] {
            if let Some(gap) = Side::gap(&entry, role) {
                (look.planned.action, look.planned.why) = (Action::Blocked, Some(gap));
            }
        }
        if made && look.planned.action == Action::Create {
            if look.planned.starts && self.ask.no_compute {
                let why = "it can only be made running, and --no-compute asks for nothing of that sort";
                (look.planned.action, look.planned.why) = (Action::Left, Some(why.into()));
            } else if let twins = self.twins_of(number)
                && !twins.is_empty()
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

    fn twins_of(&self, number: usize) -> &[usize] {
        self.twins.get(&number).map_or(&[], Vec::as_slice)
    }

    fn begin(&self, number: usize, entry: &Entry, was: Option<&Entry>) -> Look {
        let item = &self.from.items[number];
        Look {
            item: number,
            planned: Planned {
                target: was.map(|was| was.key.clone()),
                was: was.and_then(|was| was.content),
                degraded: entry.degraded.clone(),
                ..Planned::new(item, Action::Unchanged)
            },
            pointers: Vec::new(),
            needs: Vec::new(),
            firm: Vec::new(),
            body: false,
            access: false,
            order: None,
        }
    }

    /// Why an item is neither made nor changed, whatever it is.
    fn left_alone(&self, number: usize, documents: &Documents) -> Option<(Action, Option<String>)> {
        let item = &self.from.items[number];
        let seen = documents.seen(&item.kind);
        let named = self.ask.shared && self.select.names(&item.kind, item.key(), item.name());
        if !named
            && let Some(why) =
                self.blueprint.shared(&seen, &self.from.manifest.probe, &self.to.manifest.probe)
        {
            return Some((Action::Shared, Some(why)));
        }
        if self.matched[number].is_some() {
            return None;
        }
        if let Some(why) = self.blueprint.left(&seen) {
            return Some((Action::Left, Some(why)));
        }
        let (kind, key) = self.blueprint.maker(&seen)?;
        let maker = &self.from.items[self.from.keyed(&kind, &key)?];
        let why = format!("the {kind} {:?} makes it: it appears when that has run", maker.name());
        Some((Action::Left, Some(why)))
    }

    /// What each reference becomes, and what it hangs on.
    fn meanings(&self, points: &[Point], look: &mut Look) -> HashMap<Point, Renamed> {
        let mut meanings = HashMap::new();
        for point in points {
            if meanings.contains_key(point) {
                continue;
            }
            let (renamed, pointer) = self.meaning(point, look);
            look.pointers.extend(pointer);
            meanings.insert(point.clone(), renamed);
        }
        look.pointers.sort_unstable();
        look.pointers.dedup();
        meanings
    }

    fn meaning(&self, point: &Point, look: &mut Look) -> (Renamed, Option<Pointer>) {
        let crossing = &self.ask.crossing;
        let first = point.to.first().map(|(kind, _)| kind.clone());
        let pointer =
            |kind: &Kind, meant: Meant| Some(Pointer { kind: kind.clone(), text: point.text.clone(), meant });
        let text = |kind: &Kind, text: String| {
            let same = text == point.text;
            let renamed = if same { Renamed::Same } else { Renamed::Text(text.clone()) };
            (renamed, if same { None } else { pointer(kind, Meant::Text(text)) })
        };
        let Some((needed, kind, by)) = meant(self.from, point) else {
            return self.meaning_elsewhere(point, first, look);
        };
        let item = &self.from.items[needed];
        if needed != look.item {
            look.needs.push(needed);
            if point.firm && !point.principal {
                look.firm.push(needed);
            }
        }
        if let Some(target) = self.matched[needed].map(|found| &self.to.items[found]) {
            return match by {
                By::Key => text(&kind, target.key().to_string()),
                By::Alias => text(&kind, target.alias().unwrap_or_default().to_owned()),
                By::Place => (Renamed::Same, None),
                By::Identity if point.principal => text(&kind, target.name().to_string()),
                By::Identity => text(&kind, self.blueprint.identity_across(&kind, &point.text, crossing)),
            };
        }
        let comes = self.selected[needed];
        if by == By::Place && comes {
            return (Renamed::Same, None);
        }
        match by {
            By::Identity if comes || !point.principal && !point.firm => {
                text(&kind, self.blueprint.identity_across(&kind, &point.text, crossing))
            }
            By::Key | By::Alias if comes => {
                let key = item.key().to_string();
                let meant = Meant::Made { key: key.clone(), alias: by == By::Alias };
                // Nothing of the target has this key: whatever is compared with it differs.
                (Renamed::Text(format!("\u{0}{key}")), pointer(&kind, meant))
            }
            _ => self.missing(point, &kind, item.name(), look),
        }
    }

    /// A reference to nothing that the snapshot has.
    fn meaning_elsewhere(
        &self,
        point: &Point,
        kind: Option<Kind>,
        look: &mut Look,
    ) -> (Renamed, Option<Pointer>) {
        let crossing = &self.ask.crossing;
        let Some(kind) = kind else { return (Renamed::Same, None) };
        if crossing.same {
            return (Renamed::Same, None);
        }
        let is_workspace = point.to.iter().all(|(kind, _)| self.blueprint.layer(kind).is_none());
        if is_workspace {
            return self.workspace(point, &kind);
        }
        if point.principal {
            let mapped = crossing.mapping.principal(&point.text);
            let there = point.to.iter().find_map(|(kind, by)| self.to.meant(kind, *by, &mapped));
            return match there {
                Some(_) if mapped == point.text => (Renamed::Same, None),
                Some(_) => {
                    let meant = Meant::Text(mapped.clone());
                    (Renamed::Text(mapped), Some(Pointer { kind, text: point.text.clone(), meant }))
                }
                None => self.missing(point, &kind, &point.text, look),
            };
        }
        if point.firm && point.to.iter().all(|(_, by)| *by != By::Identity) {
            return self.missing(point, &kind, &point.text, look);
        }
        (Renamed::Same, None)
    }

    /// A binding to the source's own workspace becomes one to the target's; others mean nothing there.
    fn workspace(&self, point: &Point, kind: &Kind) -> (Renamed, Option<Pointer>) {
        let of = |side: &Side| fact(&side.manifest, FACT_WORKSPACE_ID);
        let pointer = |meant| Some(Pointer { kind: kind.clone(), text: point.text.clone(), meant });
        match (of(self.from), of(self.to)) {
            (Some(from), Some(to)) if from == point.text => {
                (Renamed::Text(to.clone()), pointer(Meant::Text(to)))
            }
            _ => (Renamed::Missing, pointer(Meant::Nothing)),
        }
    }

    fn missing(&self, point: &Point, kind: &Kind, name: &str, look: &mut Look) -> (Renamed, Option<Pointer>) {
        let said = if point.principal {
            format!(
                "the target has no {name:?}: what it may do with this item, and its ownership, is left out"
            )
        } else {
            format!("it refers to the {kind} {name:?}, which neither comes along nor is in the target")
        };
        if point.firm && !point.principal {
            (look.planned.action, look.planned.why) = (Action::Blocked, Some(said));
        } else if !look.planned.degraded.contains(&said) {
            look.planned.degraded.push(said);
        }
        let pointer = Pointer { kind: kind.clone(), text: point.text.clone(), meant: Meant::Nothing };
        (Renamed::Missing, Some(pointer))
    }

    fn compare(
        &self,
        look: &mut Look,
        entry: &Entry,
        target: Option<(&Held, &Documents)>,
        parts: [(Role, Option<&Value>); 3],
    ) {
        let item = &self.from.items[look.item];
        let Some((_, documents)) = target else {
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
        if let Some(wanted) = content(entry)
            && Some(wanted) != content(&documents.entry)
        {
            look.body = true;
            let size = |entry: &Entry| entry.part(Role::Content).map(|part| part.size);
            look.planned.changes.push(FieldChange {
                part: Role::Content,
                path: String::new(),
                from: size(&documents.entry).map(Value::from),
                to: size(entry).map(Value::from),
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

    /// What cannot be without an item that does not come, does not come either.
    fn block_what_hangs_on_it(&mut self) {
        let at: HashMap<usize, usize> =
            self.looks.iter().enumerate().map(|(at, look)| (look.item, at)).collect();
        let mut leaning: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, look) in self.looks.iter().enumerate() {
            for needed in look.firm.iter().filter_map(|needed| at.get(needed)) {
                leaning.entry(*needed).or_default().push(number);
            }
        }
        let is_absent = |&number: &usize| {
            let Planned { target, action, .. } = &self.looks[number].planned;
            target.is_none() && matches!(action, Action::Blocked | Action::Left | Action::Shared)
        };
        let mut open: Vec<_> = (0..self.looks.len()).filter(is_absent).collect();
        while let Some(absent) = open.pop() {
            let Planned { kind, name, .. } = &self.looks[absent].planned;
            let why = format!("it needs the {kind} {name:?}, which does not come back");
            for &number in leaning.get(&absent).into_iter().flatten() {
                let planned = &mut self.looks[number].planned;
                if planned.action == Action::Create {
                    (planned.action, planned.why) = (Action::Blocked, Some(why.clone()));
                    open.push(number);
                }
            }
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

/// The item that a reference means, and as which of the kinds that it may point to.
fn meant(side: &Side, point: &Point) -> Option<(usize, Kind, By)> {
    point.to.iter().find_map(|(kind, by)| Some((side.meant(kind, *by, &point.text)?, kind.clone(), *by)))
}

/// The fault of words that met nothing.
pub fn nothing_met(unmet: &[String], snapshot: &str) -> Fault {
    Fault::new(
        Class::Config,
        "restore.nothing",
        "choose what to bring back",
        format!("{snapshot} has nothing that fits {}", unmet.join(", ")),
    )
    .hint(format!("`lakehold ls {snapshot}` lists what there is"))
}
