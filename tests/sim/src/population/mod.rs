//! What is in a workspace at the start, and how its users change it: one row per kind, in the order
//! in which things may refer to one another.
//!
//! A row makes its n-th item from (seed, kind, n) alone, so the same seed gives the same workspace.

mod catalog;
mod compute;
mod identity;
pub(crate) mod names;
mod secrets;
mod sql;
mod tables;
mod tree;
mod workloads;

pub(crate) use compute::node_type;
pub(crate) use tree::home;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::scim_base;
use crate::rng::Rng;
use crate::sim::{Cloud, SimError};
use crate::state::{Workspace, World};

/// What a workspace holds besides what a new one has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Population {
    /// Only what a new workspace has.
    Empty,
    /// So many items, in realistic proportions.
    Items(usize),
    /// So many of each kind, by name; kinds not named get none.
    Counts(BTreeMap<String, usize>),
    /// One for each workspace; the last one also for all that come after it.
    Each(Vec<Self>),
}

impl Population {
    /// What the workspace with this index holds.
    fn of(&self, index: usize) -> &Self {
        match self {
            Self::Each(all) => all.get(index).or(all.last()).map_or(&Self::Empty, |one| one.of(index)),
            one => one,
        }
    }
}

/// Changes by the users of a workspace, chosen by a seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Name of the kind in the population (`job`, `notebook`, `instance_pool`, …).
    pub kind: String,
    /// How many are created.
    #[serde(default)]
    pub create: usize,
    /// How many are edited.
    #[serde(default)]
    pub edit: usize,
    /// How many are deleted.
    #[serde(default)]
    pub delete: usize,
    /// Chooses which.
    #[serde(default)]
    pub seed: u64,
}

/// The ids of what a [`Mutation`] changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutationReport {
    /// Created.
    pub created: Vec<String>,
    /// Edited.
    pub edited: Vec<String>,
    /// Deleted.
    pub deleted: Vec<String>,
}

/// One kind of thing that can be generated.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Its part of 10 000 items.
    pub(crate) share: usize,
    /// At least so many in any population of 50 items or more.
    pub(crate) least: usize,
    /// At least so many in a hostile one, so that each hostile name occurs; twice where names may be twins.
    pub(crate) hostile: usize,
    /// Makes the n-th and returns its id.
    pub(crate) create: fn(&Maker<'_>, u64) -> String,
    /// Changes one so that its canonical form differs; false if it is gone.
    pub(crate) edit: fn(&Maker<'_>, &str, &mut Rng) -> bool,
    /// Deletes one; false if it is gone.
    pub(crate) delete: fn(&Maker<'_>, &str) -> bool,
    /// The ids of those that [`Mutation`]s may choose from.
    pub(crate) ids: fn(&Workspace) -> Vec<String>,
}

/// What a generator works with.
pub(crate) struct Maker<'a> {
    pub(crate) ws: &'a Workspace,
    pub(crate) hostile: bool,
    pub(crate) cloud: Cloud,
    /// Time of creations: fixed at the start, the clock's for later changes.
    pub(crate) now_ms: i64,
    /// True in the first workspace of a metastore: only it fills the metastore.
    pub(crate) first_of_metastore: bool,
}

/// The beginning of time for generated things: 2026-01-05.
pub(crate) const EPOCH_MS: i64 = 1_767_571_200_000;

impl Maker<'_> {
    /// The generator for the n-th item of a kind.
    pub(crate) fn rng(&self, kind: &str, n: u64) -> Rng {
        Rng::of(self.ws.seed, kind, n)
    }
}

/// All rows, referred-to kinds first: workloads, which refer to warehouses, queries and all else, stay last.
const KINDS: &[&[Kind]] = &[
    identity::KINDS,
    tree::KINDS,
    secrets::KINDS,
    compute::KINDS,
    sql::WAREHOUSES,
    catalog::KINDS,
    sql::KINDS,
    workloads::KINDS,
];

/// What every workspace has, also an empty one.
const BASES: &[fn(&Maker<'_>)] =
    &[|m| scim_base::base(m.ws), tree::base, compute::base, catalog::base, sql::base];

/// What `--hostile` adds besides hostile names of generated items.
const HOSTILE: &[fn(&Maker<'_>)] = &[tree::hostile];

pub(crate) fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().flat_map(|k| k.iter())
}

/// The row of a kind, or the error that names all kinds.
pub(crate) fn known(name: &str) -> Result<&'static Kind, SimError> {
    kinds().find(|k| k.name == name).ok_or_else(|| SimError::NoKind {
        name: name.to_owned(),
        known: kinds().map(|k| k.name).collect::<Vec<_>>().join(", "),
    })
}

/// Refuses a population that names an unknown kind.
pub(crate) fn check(population: &Population) -> Result<(), SimError> {
    match population {
        Population::Empty | Population::Items(_) => Ok(()),
        Population::Counts(counts) => counts.keys().try_for_each(|name| known(name).map(|_| ())),
        Population::Each(all) => all.iter().try_for_each(check),
    }
}

/// Fills one workspace.
pub(crate) fn populate(world: &World, ws: &Arc<Workspace>) {
    let maker = maker(world, ws, EPOCH_MS);
    for base in BASES {
        base(&maker);
    }
    let population = world.config.population.of(ws.index);
    if world.config.hostile && *population != Population::Empty {
        for hostile in HOSTILE {
            hostile(&maker);
        }
    }
    for kind in kinds() {
        for n in 0..count(population, world.config.hostile, kind) {
            (kind.create)(&maker, n as u64);
        }
    }
}

/// Applies a change; unknown kinds change nothing.
pub(crate) fn mutate(world: &World, ws: &Arc<Workspace>, mutation: &Mutation) -> MutationReport {
    let mut report = MutationReport::default();
    let Ok(kind) = known(&mutation.kind) else { return report };
    let maker = maker(world, ws, world.clock.now_ms());
    let mut rng = Rng::of(ws.seed, &mutation.kind, mutation.seed ^ 0x6d75_7461_7465);
    let mut ids = (kind.ids)(ws);
    let mut draw = |rng: &mut Rng| {
        let i = usize::try_from(rng.below(ids.len() as u64)).unwrap_or(0);
        (i < ids.len()).then(|| ids.swap_remove(i))
    };
    for _ in 0..mutation.delete {
        report.deleted.extend(draw(&mut rng).filter(|id| (kind.delete)(&maker, id)));
    }
    for _ in 0..mutation.edit {
        report.edited.extend(draw(&mut rng).filter(|id| (kind.edit)(&maker, id, &mut rng.clone())));
    }
    for _ in 0..mutation.create {
        // Far above any population, and never the same twice.
        report.created.push((kind.create)(&maker, 1_000_000_000 + ws.fresh().below(1 << 40)));
    }
    report
}

fn maker<'a>(world: &World, ws: &'a Arc<Workspace>, now_ms: i64) -> Maker<'a> {
    let first = world.workspaces.iter().find(|w| Arc::ptr_eq(&w.metastore, &ws.metastore));
    Maker {
        ws,
        hostile: world.config.hostile,
        cloud: world.config.cloud,
        now_ms,
        first_of_metastore: first.is_none_or(|w| w.index == ws.index),
    }
}

fn count(population: &Population, hostile: bool, kind: &Kind) -> usize {
    match population {
        Population::Empty | Population::Each(_) => 0,
        Population::Items(items) => {
            let least = if *items >= 50 { kind.least } else { kind.least.min(1) };
            let hostile = if hostile { kind.hostile } else { 0 };
            (items * kind.share / 10_000).max(least).max(hostile)
        }
        Population::Counts(counts) => counts.get(kind.name).copied().unwrap_or(0),
    }
}
