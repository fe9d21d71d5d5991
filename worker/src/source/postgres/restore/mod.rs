//! Bringing items back, by `pg_restore` and `psql`.
//!
//! A database is made **beside** what is there, under a name that no other run has: its tables first, then their rows, each
//! table by itself and several at once, then indexes, keys and all else. It is **checked**, and only then takes its name;
//! a database that had the name is kept under another. Whoever is killed in between leaves a database with a name of its run, and the
//! next attempt goes on: what was made is known by the server's id of it, and what was loaded is written down in the database
//! itself.

mod alone;
mod check;
mod database;
mod feed;
mod globals;
mod known;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use lakehold_proto::config::Hooks;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::restore::{Act, Restoring, Step, StepPart};
use lakehold_proto::task::{Assignment, MAX_ATTEMPTS};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::kinds::{DATABASE, LOOSE_DATA, ROLE, TABLE, TABLESPACE};
use super::programs::Programs;
use super::settings::Settings;
use crate::capture::{Capture, Reader};
use crate::source::steps::{self, Became};

pub use known::Postgres;

/// What became of a step: the key that its item has now, and what else is told of it.
type Done = Result<(Option<String>, Option<Value>)>;

/// A task under way.
struct Bringing {
    programs: Programs,
    /// Programs that may be at work at once.
    jobs: Arc<Semaphore>,
    most: usize,
    restoring: Box<Restoring>,
    /// What environments want to be asked of a database that is tried.
    hooks: Arc<BTreeMap<EnvName, Hooks>>,
    reader: Reader,
    became: Became,
    sessions: rows::Sessions,
}

/// Carries out the steps of one task.
///
/// # Errors
/// The store's; what may pass, until the last attempt. What one step fails at is its item's gap.
pub(super) async fn bring(
    settings: &Settings,
    programs: Programs,
    jobs: &Arc<Semaphore>,
    assignment: &Assignment,
    capture: &mut Capture,
) -> Result<()> {
    let kind = assignment.task.kind.clone();
    let work = Bringing {
        programs,
        jobs: Arc::clone(jobs),
        most: settings.jobs,
        restoring: steps::restoring(capture)?,
        hooks: Arc::clone(&settings.hooks),
        reader: capture.reader(),
        became: Became::of(capture.reader()),
        sessions: rows::Sessions::default(),
    };
    let is_last = assignment.attempt >= MAX_ATTEMPTS;
    for frame in 0.. {
        let Some(lines) = capture.input(frame).await? else { break };
        let steps: Vec<Step> = lines.iter().map(|line| steps::read(line)).collect::<Result<_>>()?;
        let mut done = futures::stream::iter(steps)
            .map(|step| async {
                let done = work.carry_out(&kind, &step).await;
                (step, done)
            })
            .buffer_unordered(work.most);
        while let Some((step, done)) = done.next().await {
            let (ended, told) = match done {
                Ok((key, told)) => (Ok(key), told),
                Err(fault) if fault.class.may_retry() && !is_last => return Err(fault),
                Err(fault) => (Err(fault), None),
            };
            capture.add(&kind, steps::recorded(&step, ended, told)).await?;
        }
    }
    work.sessions.close().await;
    Ok(())
}

impl Bringing {
    async fn carry_out(&self, kind: &Kind, step: &Step) -> Done {
        match (kind.as_str(), step.act) {
            (ROLE, Act::Create | Act::Replace | Act::Complete) => globals::role(self, step).await,
            (TABLESPACE, Act::Create | Act::Replace) => globals::tablespace(self, step).await,
            (ROLE | TABLESPACE, Act::Delete) => globals::take_away(self, kind, step).await,
            (DATABASE, Act::Create) => database::begin(self, step).await,
            (DATABASE, Act::Complete) => database::finish(self, step).await,
            (DATABASE, Act::Delete) => database::take_away(self, step).await,
            (TABLE, Act::Create) if !step.whole.is_empty() => alone::bring(self, step).await,
            (TABLE, Act::Delete) => alone::take_away(self, step).await,
            (TABLE, Act::Create) => rows::table(self, step).await,
            (LOOSE_DATA, Act::Create) => rows::loose(self, step).await,
            (_, act) => {
                let detail = format!("there is no way to {} a {kind}", act.word());
                Err(Fault::new(Class::Unsupported, "task.unknown-step", "carry out a step", detail)
                    .hint("the run was planned by another version: let all workers run the same one"))
            }
        }
    }

    /// The document of an item.
    async fn document(&self, step: &Step) -> Result<Value> {
        let body = steps::body(&self.reader, part(step, Role::Object)?).await?;
        serde_json::from_slice(&body).map_err(|e| {
            let detail = format!("its object is no JSON: {e}");
            Fault::new(Class::Integrity, "item.no-document", "read what is to be brought back", detail)
        })
    }

    /// Waits until another program may begin.
    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.jobs).acquire_owned().await;
        permit.map_err(|e| Fault::new(Class::Bug, "pg.jobs", "wait for a connection", e))
    }

    /// Arguments that every `pg_restore` of this restore has.
    fn owners(&self) -> &'static [&'static str] {
        if self.restoring.crossing.no_owner { &["--no-owner", "--no-acl"] } else { &[] }
    }
}

/// A part that an item cannot be without.
fn part(step: &Step, role: Role) -> Result<&StepPart> {
    step.parts.iter().find(|part| part.role == role).ok_or_else(|| {
        let detail = format!("the snapshot lacks its {}", role.word());
        Fault::new(Class::Absent, "item.no-part", "read what is to be brought back", detail)
    })
}
