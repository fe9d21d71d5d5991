//! Sources: the code that reads from one type of environment. The engine knows them by this trait only.

pub mod blueprint;
pub mod databricks;
pub mod postgres;
mod steps;

use std::sync::Arc;

use async_trait::async_trait;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Estimate, Probe, Selection};
use lakehold_proto::task::{Assignment, TaskSpec};
use serde_json::Value;

use crate::capture::Capture;

/// What a source says it would do: the pure half of planning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourcePlan {
    /// The tasks to begin with.
    pub roots: Vec<TaskSpec>,
    /// Kinds left out by what was asked for, with the rule that says so.
    pub excluded: std::collections::BTreeMap<Kind, String>,
    /// What it will probably take.
    pub estimate: Estimate,
}

/// One environment, as the engine sees it. An instance belongs to one environment and holds its client; it is shared by
/// all tasks of that environment in this process.
#[async_trait]
pub trait Source: Send + Sync + std::fmt::Debug {
    /// The type of environment, such as `databricks`.
    fn name(&self) -> &'static str;

    /// Every kind of this source, in the order of the table. All of them appear in every manifest.
    fn kinds(&self) -> Vec<Kind>;

    /// Finds out who we are and what the environment is. Few calls, each with a short deadline.
    ///
    /// # Errors
    /// Those that make a backup of this environment pointless: unreachable, denied, not what it should be.
    async fn probe(&self) -> Result<Probe>;

    /// Says where to begin. Pure: no call, no clock.
    ///
    /// # Errors
    /// `Config` when the selection names what this source does not have.
    fn plan(&self, selection: &Selection, probe: &Probe, base: Option<&Manifest>) -> Result<SourcePlan>;

    /// Carries out one task: lists, fetches, and hands everything it finds to `capture`: items, gaps, slices that could not
    /// be listed, child tasks. Safe to run twice, also at the same time. Dropping the future stops it; whatever was
    /// uploaded until then is unreferenced and harmless.
    ///
    /// # Errors
    /// Only when nothing can be said about the task's shard: the engine tries again where the class allows it, and after
    /// the last attempt writes a gap for all the task may yield. A failure of one item or slice is *not* an error but a
    /// gap handed to `capture`.
    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()>;

    /// Carries out one task of a restore: the steps that are its input, each of which ends as a record or a gap of
    /// `capture`. Safe to run twice: what an item became is written down, and what may have been made unheard of is looked
    /// for.
    ///
    /// # Errors
    /// As [`Source::work`].
    async fn restore(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let _ = (assignment, capture);
        let detail = format!("{} has no restore", self.name());
        Err(Fault::new(Class::Unsupported, "restore.unsupported", "bring items back", detail))
    }
}

/// What of a captured JSON part is compared: takes away what changes without anybody changing the item, and puts what has no
/// order into one. Pure, and needs no environment: snapshots are compared long after their environment is gone.
pub type Comparable = fn(&Kind, Role, &mut Value);

/// By which fields of an item's object it is told that such a part of it differs: then the part itself is not told besides. None
/// where a part says what the object does not.
pub type ToldIn = fn(&Kind, Role) -> &'static [&'static str];

/// A shared [`Source`].
pub type SharedSource = Arc<dyn Source>;
