//! Which databases there are: a long task for each, in a stage of its own.

use lakehold_proto::config::Databases;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::task::{Shard, TaskSpec};

use super::super::catalog::{DATABASES, Database};
use super::super::kinds::{DATABASE, LOOSE_DATA, TABLE};
use super::super::names::join;
use super::super::session::Session;
use super::Work;
use crate::capture::Capture;

/// All that lies in a database.
pub(super) const WITHIN: &[&str] = &[DATABASE, TABLE, LOOSE_DATA];

/// Lists them.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn capture(work: &Work, capture: &mut Capture) -> Result<()> {
    let found: Vec<Database> = Session::open(&work.programs, None).await?.rows(DATABASES).await?;
    // The first waits for nothing: what belongs to no database may be read beside it.
    let mut stage = 0;
    for database in &found {
        let named = match &work.settings.databases {
            Databases::All => false,
            Databases::Named(names) if names.contains(&database.name) => true,
            Databases::Named(_) => {
                capture.leave_out(&Kind::of(DATABASE), "not among the `databases` of the configuration");
                continue;
            }
        };
        if !work.paths.is_empty() && !work.paths.iter().any(|path| path.may_mean(&database.name)) {
            continue;
        }
        if database.is_template && !named {
            capture.leave_out(&Kind::of(DATABASE), "a template");
            continue;
        }
        let shard = Shard::under(join(&[&database.name]));
        if let Some((fault, permission)) = refused(database) {
            work.not_listed(capture, WITHIN, shard, fault, permission)?;
            continue;
        }
        capture.child(TaskSpec {
            kind: Kind::of(DATABASE),
            shard,
            stage,
            yields: work.of(WITHIN).into(),
            long: true,
            input: Vec::new(),
        });
        stage += 1;
    }
    if let Databases::Named(names) = &work.settings.databases {
        for name in names.iter().filter(|name| !found.iter().any(|database| database.name == **name)) {
            let detail = "the configuration names it, and the server does not have it";
            let fault =
                Fault::new(Class::Absent, "pg.no-database", format!("find the database {name:?}"), detail);
            work.not_listed(capture, WITHIN, Shard::under(join(&[name])), fault, None)?;
        }
    }
    Ok(())
}

/// Why nobody, or not we, may connect to it.
pub(super) fn refused(database: &Database) -> Option<(Fault, Option<String>)> {
    let context = format!("connect to the database {:?}", database.name);
    if !database.is_open {
        let detail = "it allows no connections";
        return Some((Fault::new(Class::Unsupported, "pg.no-connections", context, detail), None));
    }
    if !database.is_allowed {
        let fault = Fault::new(Class::Denied, "pg.denied", context, "permission denied");
        return Some((fault, Some(format!("CONNECT on database {}", database.name))));
    }
    None
}
