//! Carries out tasks. What belongs to no database is one task. The databases are listed by another, which asks for a long
//! one for each; each has a stage of its own, so that one snapshot at a time is held open. A database's task locks its
//! tables, takes the snapshot, keeps its schema, and hands out what dumps the rows; it ends when they have ended.

mod database;
mod document;
mod globals;
mod held;
mod listing;
mod loose;
mod rows;
pub(super) mod schema;

use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::outcome::Standing;
use lakehold_proto::task::{Assignment, MAX_ATTEMPTS, Shard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::kinds::{DATABASE, GLOBALS, LOOSE_DATA, TABLE, wanted};
use super::patterns::Pattern;
use super::programs::Programs;
use super::settings::Settings;
use crate::capture::Capture;

pub(super) use document::comparable;
pub use document::told_in;

/// One task under way.
#[derive(Clone, Debug)]
struct Work {
    settings: Arc<Settings>,
    programs: Programs,
    jobs: Arc<Semaphore>,
    /// What is to be captured.
    wanted: Vec<Kind>,
    paths: Vec<Pattern>,
    /// Which try it is, from 1.
    attempt: u32,
}

/// Carries out one task.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn carry_out(
    settings: &Arc<Settings>,
    programs: Programs,
    jobs: &Arc<Semaphore>,
    assignment: &Assignment,
    capture: &mut Capture,
) -> Result<()> {
    let plan = capture.plan();
    let excluded = &plan.excluded;
    let work = Work {
        settings: Arc::clone(settings),
        programs,
        jobs: Arc::clone(jobs),
        wanted: [GLOBALS, DATABASE].iter().flat_map(|root| wanted(excluded, root)).collect(),
        paths: plan.selection.paths.iter().map(|path| Pattern::of_path(path)).collect::<Result<_>>()?,
        attempt: assignment.attempt,
    };
    let shard = &assignment.task.shard;
    match assignment.task.kind.as_str() {
        GLOBALS => globals::capture(&work, capture).await,
        DATABASE if shard.scope.is_empty() => listing::capture(&work, capture).await,
        DATABASE => database::capture(&work, capture, &shard.scope).await,
        TABLE => rows::capture_handed_out(&work, capture).await,
        LOOSE_DATA => loose::capture_handed_out(&work, capture).await,
        kind => {
            let detail = format!("there is no kind {kind}");
            Err(Fault::new(Class::Unsupported, "task.unknown-kind", "carry out a task", detail)
                .hint("the run was planned by another version: let all workers run the same one"))
        }
    }
}

impl Work {
    fn wants(&self, kind: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.as_str() == kind)
    }

    /// Those of these kinds that are wanted.
    fn of(&self, kinds: &[&str]) -> Vec<Kind> {
        self.wanted.iter().filter(|kind| kinds.contains(&kind.as_str())).cloned().collect()
    }

    /// Whether what these parts lead to is asked for.
    fn takes(&self, name: &[&str; 3]) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| path.means(name))
    }

    /// Waits until another dump may begin.
    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.jobs).acquire_owned().await;
        permit.map_err(|e| Fault::new(Class::Bug, "pg.jobs", "wait for a connection", e))
    }

    /// Whether it is the last time that it is tried.
    fn is_last(&self) -> bool {
        self.attempt >= MAX_ATTEMPTS
    }

    /// Notes that these kinds could not be listed in `shard`. What may pass is tried again.
    ///
    /// # Errors
    /// `fault`, where it may pass.
    fn not_listed(
        &self,
        capture: &mut Capture,
        kinds: &[&str],
        shard: Shard,
        fault: Fault,
        permission: Option<String>,
    ) -> Result<()> {
        if fault.class.may_retry() && !self.is_last() {
            return Err(fault);
        }
        let standing = if fault.class == Class::Denied { Standing::Forbidden } else { Standing::Failed };
        capture.unlisted(self.of(kinds), shard, standing, &fault, permission);
        Ok(())
    }
}
