//! Decides what is done with each item of a snapshot, from two snapshots alone: the one that is brought back, and the target
//! as it is now. Reads bodies, changes nothing.
//!
//! An item of the target is *it* when an earlier restore made it of this item, or (in the same workspace) when it has its
//! key, or when it alone has its natural key. What cannot be told apart is blocked, never guessed.
//!
//! There may be very many items. Memory holds numbers: which are asked for, which are pairs, what becomes of each, and what
//! refers to what. Everything else lies on disk, in the order of the items.

mod look;
mod pair;
mod references;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::restore::Crossing;
use lakehold_proto::store::SharedStore;
use lakehold_worker::source::blueprint::Blueprint;
use serde::{Deserialize, Serialize};

use super::decisions::{Action, Decisions};
use super::select::{Select, Wanted};
use super::side::Side;
use super::stages::Needs;
use crate::shelf::{Filling, Shelf};
use look::Look;
use pair::{Pairs, pair};
use references::meant;
pub(super) use steps::{on_target, parts};

/// Items looked at together.
const AT_ONCE: usize = 16;

/// What became of items in earlier restores from one environment into another: the number of the source's item, and that of
/// the target's.
pub type IdMap = HashMap<u32, u32>;

/// Of items that are made as part of a whole: the whole's number, by theirs.
type Wholes = HashMap<usize, usize>;

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

/// Decides.
///
/// # Errors
/// The store's; `Integrity` when a body that is needed is damaged; `Config` when a pattern is none; `Unavailable` when there is
/// no room for temporary files.
pub async fn decide(
    store: &SharedStore,
    blueprint: &dyn Blueprint,
    from: &Side,
    to: &Side,
    ask: &Ask,
    known: &IdMap,
) -> Result<Decisions> {
    let select = Select::new(&ask.wanted)?;
    let (selected, unmet) = by_name(&select, from)?;
    let wholes = wholes(blueprint, from)?;
    let pairs = pair(blueprint, (from, to), &ask.crossing, known, &wholes)?;
    let mut planner = Planner { store, blueprint, from, to, ask, select, pairs, wholes, selected };
    planner.select_parts();
    if ask.wanted.with_dependencies {
        planner.selected = planner.with_dependencies().await?;
        planner.select_parts();
    }
    let mut found = planner.look().await?;
    found.block_what_hangs_on_it();
    planner.conclude(found, unmet).await
}

struct Planner<'a> {
    store: &'a SharedStore,
    blueprint: &'a dyn Blueprint,
    from: &'a Side,
    to: &'a Side,
    ask: &'a Ask,
    select: Select<'a>,
    /// Of each item of the source, the target's item that is it.
    pairs: Pairs,
    /// Of each item of the source that is made as part of a whole: that whole, which may be itself.
    wholes: Wholes,
    /// Whether an item of the source is asked for.
    selected: Vec<bool>,
}

/// What was found out about the items that are asked for.
struct Found {
    /// By item.
    actions: Vec<Option<Action>>,
    /// What each refers to, of what may be made.
    needs: Needs,
    /// Which of these cannot be without which: what is needed, and what needs it.
    leaning: Vec<(u32, u32)>,
    /// What is blocked because something does not come, and because of what.
    hanging: HashMap<u32, u32>,
    /// Everything else, in the order of the items.
    looks: Shelf<Look>,
}

/// Which items the words of the request mean, and the words that mean none.
fn by_name(select: &Select<'_>, from: &Side) -> Result<(Vec<bool>, Vec<String>)> {
    let mut selected = vec![false; from.len()];
    let mut unmet = select.unmet();
    for (selected, item) in selected.iter_mut().zip(from.all()) {
        let item = item?;
        *selected = select.takes(&item.kind, item.key(), item.name());
        unmet.show(&item.kind, item.key(), item.name());
    }
    Ok((selected, unmet.words()))
}

fn wholes(blueprint: &dyn Blueprint, from: &Side) -> Result<Wholes> {
    let mut wholes = Wholes::new();
    if from.manifest.kinds.iter().all(|report| blueprint.whole(&report.kind, "").is_none()) {
        return Ok(wholes);
    }
    for (number, item) in from.all().enumerate() {
        let item = item?;
        let whole = blueprint.whole(&item.kind, item.key());
        if let Some(whole) = whole.and_then(|(kind, key)| from.keyed(&kind, &key)) {
            wholes.insert(number, whole);
        }
    }
    Ok(wholes)
}

impl Planner<'_> {
    /// A whole comes with all that it is made of.
    fn select_parts(&mut self) {
        for (part, whole) in &self.wholes {
            self.selected[*part] |= self.selected[*whole];
        }
    }

    /// The whole that an item is part of and comes without.
    fn alone(&self, number: usize) -> Option<usize> {
        self.wholes.get(&number).copied().filter(|&whole| whole != number && !self.selected[whole])
    }

    /// Whether an item comes in the whole that it is part of.
    fn is_in_whole(&self, number: usize) -> bool {
        self.wholes.get(&number).is_some_and(|&whole| whole != number && self.selected[whole])
    }

    /// Whether an item is made anew, whatever the target has of its name.
    fn is_made_anew(&self, number: usize) -> bool {
        self.wholes.contains_key(&number)
    }

    /// Whether others are made as part of an item.
    fn is_whole(&self, number: usize) -> bool {
        self.wholes.get(&number) == Some(&number)
    }

    /// What is asked for, and all that it refers to.
    async fn with_dependencies(&self) -> Result<Vec<bool>> {
        let mut selected = self.selected.clone();
        let mut open: Vec<_> = (0..selected.len()).filter(|&number| selected[number]).collect();
        while !open.is_empty() {
            let needs = open.into_iter().map(|number| self.needs(number));
            let mut needs = futures::stream::iter(needs).buffered(AT_ONCE);
            open = Vec::new();
            while let Some(needed) = needs.try_next().await? {
                open.extend(needed.into_iter().filter(|&item| !std::mem::replace(&mut selected[item], true)));
            }
        }
        Ok(selected)
    }

    async fn needs(&self, number: usize) -> Result<Vec<usize>> {
        let item = self.from.item(number)?;
        let documents = match item.documents(self.store, self.blueprint).await {
            // It is blocked when it is looked at.
            Err(fault) if fault.class == Class::Integrity => return Ok(Vec::new()),
            documents => documents?,
        };
        let points = self.blueprint.points(&item.seen(&documents));
        // Everybody whom a list of permissions names would be half of the workspace.
        let wanted = points.iter().filter(|point| !point.principal);
        let needed = wanted.filter_map(|point| meant(self.from, point)).map(|(needed, ..)| needed);
        // A part comes without its whole, where it can, unless that is asked for.
        Ok(needed.filter(|needed| self.wholes.get(&number) != Some(needed)).collect())
    }

    /// Looks at each item that is asked for.
    async fn look(&self) -> Result<Found> {
        let wanted = (0..self.from.len()).filter(|&number| self.selected[number]);
        let looks = futures::stream::iter(wanted.map(|number| self.look_at(number))).buffered(AT_ONCE);
        let mut looks = std::pin::pin!(looks);
        let mut actions = vec![None; self.from.len()];
        let (mut needs, mut leaning, mut shelf) = (Needs::default(), Vec::new(), Filling::new()?);
        while let Some(look) = looks.try_next().await? {
            actions[look.item] = Some(look.planned.action);
            needs.push(look.item, &look.needs);
            leaning.extend(look.firm.iter().map(|needed| (*needed, look.item as u32)));
            shelf.push(&look)?;
        }
        Ok(Found { actions, needs, leaning, hanging: HashMap::new(), looks: shelf.filled()? })
    }
}

impl Found {
    /// What cannot be without an item that does not come, does not come either.
    fn block_what_hangs_on_it(&mut self) {
        let mut leaning = std::mem::take(&mut self.leaning);
        leaning.sort_unstable();
        let is_absent =
            |action: &Option<Action>| matches!(action, Some(Action::Blocked | Action::Left | Action::Shared));
        let mut open: Vec<_> =
            (0..self.actions.len() as u32).filter(|&item| is_absent(&self.actions[item as usize])).collect();
        while let Some(absent) = open.pop() {
            let first = leaning.partition_point(|(needed, _)| *needed < absent);
            for (_, item) in leaning[first..].iter().take_while(|(needed, _)| *needed == absent) {
                let action = &mut self.actions[*item as usize];
                if *action == Some(Action::Create) {
                    *action = Some(Action::Blocked);
                    self.hanging.insert(*item, absent);
                    open.push(*item);
                }
            }
        }
    }
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
