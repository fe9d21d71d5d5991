//! What lies in a database: the rows of its tables, large objects, and where sequences stand. Each archive is loaded in one
//! transaction; that it was is written down in the database, so that nobody loads it twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::restore::{Made, Meant, Step};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::kinds::{DATABASE, LOOSE_DATA, TABLE};
use super::super::names::{identifier, literal};
use super::super::programs::Programs;
use super::super::session::Session;
use super::known::called;
use super::{Bringing, Done, database, feed, part};
use crate::source::steps::not_made;

/// The schema of what was loaded, while a database is restored.
const SCHEMA: &str = "lakehold_restore";

/// How many rows.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Count {
    rows: u64,
}

/// Makes room in a database to write down what was loaded.
///
/// # Errors
/// Those of [`Session::run`].
pub(super) async fn expect(programs: &Programs, database: &str) -> Result<()> {
    let mut session = Session::to_change(programs, Some(database)).await?;
    let sql =
        format!("create schema {SCHEMA}; create table {SCHEMA}.loaded (item text primary key, rows bigint)");
    session.run(&sql).await?;
    session.close().await
}

/// Whether all items are loaded that were to be, seen for the first time. From then on the database is what the snapshot has:
/// nothing of ours is left in it. `false` when that was so already.
///
/// # Errors
/// `Conflict` (`pg.incomplete`) when some are missing.
pub(super) async fn are_all_there(programs: &Programs, database: &str, expected: u64) -> Result<bool> {
    let mut session = Session::to_change(programs, Some(database)).await?;
    let ours = format!("select 1 as rows from pg_namespace where nspname = {}", literal(SCHEMA));
    if session.rows::<Count>(&ours).await?.is_empty() {
        return Ok(false);
    }
    let loaded: Count = session.row(&format!("select count(*) as rows from {SCHEMA}.loaded")).await?;
    if loaded.rows < expected {
        let detail =
            format!("{} of the {expected} items that lie in it could not be loaded", expected - loaded.rows);
        return Err(Fault::new(Class::Conflict, "pg.incomplete", "complete a database", detail).hint(format!(
            "see why those failed; what was restored so far is the database {database:?}, and nothing else was changed"
        )));
    }
    session.run(&format!("drop schema {SCHEMA} cascade")).await?;
    session.close().await?;
    Ok(true)
}

/// Loads the rows of a table.
///
/// # Errors
/// `Integrity` (`pg.row-count`) when there are not as many as the snapshot says; those of [`feed`].
pub(super) async fn table(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    let table = format!("{}.{}", identifier(text("schema")), identifier(text("name")));
    let count = format!("select count(*) as rows from only {table}");
    load(work, step, TABLE, &count, document["rows"]["count"].as_u64()).await
}

/// Loads large objects, and sets sequences.
///
/// # Errors
/// As [`table`].
pub(super) async fn loose(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let count = "select count(*) as rows from pg_largeobject_metadata";
    load(work, step, LOOSE_DATA, count, document["large_objects"].as_u64()).await
}

async fn load(work: &Bringing, step: &Step, kind: &'static str, count: &str, expected: Option<u64>) -> Done {
    let made = database_of(work, step).await?;
    let permit = work.permit().await?;
    let mut within = work.sessions.take(&work.programs, made).await?;
    let session = &mut within.session;
    let item = literal(&format!("{kind}/{}", step.key));
    // Held while it is loaded: of two who were sent with it, one waits, and finds it loaded.
    session.run(&format!("select pg_advisory_lock(hashtextextended({item}, 0))")).await?;
    let loaded: Vec<Count> =
        session.rows(&format!("select rows from {SCHEMA}.loaded where item = {item}")).await?;
    let rows = match loaded.first() {
        Some(loaded) => loaded.rows,
        None => {
            let label = feed::label(&item);
            feed::end_others(session, &label).await?;
            let there: Count = session.row(count).await?;
            // In one transaction all of it comes, or nothing: what is there came by an attempt that was not heard of again.
            if there.rows == 0 || Some(there.rows) != expected {
                let parts: Vec<_> = [
                    Some(part(step, Role::Content)?),
                    step.parts.iter().find(|part| part.role == Role::Data),
                ]
                .into_iter()
                .flatten()
                .collect();
                let mut arguments = vec!["--single-transaction"];
                arguments.extend(work.owners());
                feed::feed(&work.programs, &within.name, &label, &arguments, &work.reader, &[], &parts)
                    .await?;
            }
            killpoint("worker.after-load");
            let there: Count = session.row(count).await?;
            if expected.is_some_and(|expected| expected != there.rows) {
                let expected = expected.unwrap_or_default();
                let detail = format!("it has {} rows, and the snapshot has {expected}", there.rows);
                return Err(Fault::new(Class::Integrity, "pg.row-count", "load a table", detail));
            }
            let sql =
                format!("insert into {SCHEMA}.loaded values ({item}, {}) on conflict do nothing", there.rows);
            session.run(&sql).await?;
            there.rows
        }
    };
    session.run("select pg_advisory_unlock_all()").await?;
    work.sessions.put(within);
    drop(permit);
    let key = called(kind, &step.name, &work.restoring.crossing);
    let told: Value = json!({"rows": rows});
    Ok((Some(key), Some(told)))
}

/// Sessions that wait for the next item: to begin one takes longer than to load a small table.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Vec<Within>>);

/// A session within a database that is being restored.
#[derive(Debug)]
struct Within {
    /// The server's id of the database, and what it is called.
    id: String,
    name: String,
    session: Session,
}

impl Sessions {
    /// One that waits, or a new one.
    async fn take(&self, programs: &Programs, made: Made) -> Result<Within> {
        let id = made.alias.unwrap_or_default();
        let waiting = {
            let mut waiting = self.lock();
            let at = waiting.iter().position(|within| within.id == id);
            at.map(|at| waiting.swap_remove(at))
        };
        if let Some(within) = waiting {
            return Ok(within);
        }
        let mut lists = Session::open(programs, None).await?;
        let Some(name) = database::name_of(&mut lists, &id).await? else {
            return Err(not_made(&Kind::of(DATABASE), &made.from));
        };
        lists.close().await?;
        let session = Session::to_change(programs, Some(&name)).await?;
        Ok(Within { id, name, session })
    }

    /// Lets one wait.
    fn put(&self, within: Within) {
        self.lock().push(within);
    }

    /// Ends those that wait.
    pub(super) async fn close(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        for within in waiting {
            // What it did is done, whether or not it hears so.
            _ = within.session.close().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Within>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database of this run that an item lies in.
async fn database_of(work: &Bringing, step: &Step) -> Result<Made> {
    let kind = Kind::of(DATABASE);
    let pointed = step.pointers.iter().find_map(|pointer| match &pointer.meant {
        Meant::Made { key, .. } if pointer.kind == kind => Some(key),
        _ => None,
    });
    let key = pointed.ok_or_else(|| {
        let detail = "the plan does not say in which database it comes";
        Fault::new(Class::Bug, "pg.no-whole", "load a table", detail)
    })?;
    work.became.made(&kind, key).await?.ok_or_else(|| not_made(&kind, key))
}
