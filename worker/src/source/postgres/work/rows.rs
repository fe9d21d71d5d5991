//! The rows of tables: one `pg_dump` for all tables of a task, and of what it writes an item for each.
//!
//! A dump that failed is not trusted in any of its tables: the attempt is given up, and the next one dumps each table by itself,
//! so that one that cannot be read costs itself alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::super::archive::Entry;
use super::super::catalog::{Snapshot, Table, Yes, waited_for};
use super::super::dump::{self, Dump, SharedDump, unexpected};
use super::super::kinds::TABLE;
use super::super::names::identifier;
use super::super::reading::Reading;
use super::super::session::Session;
use super::held::in_the_way;
use super::{Work, document};
use crate::capture::{Body, Capture};

/// What a task is told that dumps in a snapshot which another holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Within {
    /// The database.
    pub(super) database: String,
    /// What is imported.
    pub(super) snapshot: String,
    /// The encoding of names and rows.
    pub(super) encoding: String,
}

impl Within {
    /// Works in `snapshot`. Names and rows come in one encoding, whatever the database's own is; but what has none cannot be
    /// put into another.
    pub(super) fn of(database: String, snapshot: &Snapshot) -> Self {
        let encoding = if snapshot.encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
        Self { database, snapshot: snapshot.snapshot.clone(), encoding: encoding.to_owned() }
    }

    /// The arguments that every dump in it has.
    pub(super) fn arguments(&self) -> [String; 3] {
        [format!("--snapshot={}", self.snapshot), "-E".to_owned(), self.encoding.clone()]
    }
}

/// Captures the tables that a database's task wrote down, in its snapshot.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn capture_handed_out(work: &Work, capture: &mut Capture) -> Result<()> {
    let (within, tables) = read::<Table>(capture).await?;
    dump(work, capture, &within, &tables).await
}

/// Reads a listing: in which snapshot, and what.
///
/// # Errors
/// The store's.
pub(super) async fn read<T: serde::de::DeserializeOwned>(capture: &Capture) -> Result<(Within, Vec<T>)> {
    let damaged = |e: serde_json::Error| {
        Fault::new(Class::Integrity, "pg.listing", "read what a database's task wrote down", e)
    };
    let (mut within, mut found) = (None, Vec::new());
    for frame in 0.. {
        let Some(lines) = capture.input(frame).await? else { break };
        for line in lines {
            match within {
                None => within = Some(serde_json::from_slice(&line).map_err(damaged)?),
                Some(_) => found.push(serde_json::from_slice(&line).map_err(damaged)?),
            }
        }
    }
    let empty = || {
        Fault::new(Class::Integrity, "pg.listing", "read what a database's task wrote down", "it is empty")
    };
    Ok((within.ok_or_else(empty)?, found))
}

/// Dumps tables, together at first.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn dump(
    work: &Work,
    capture: &mut Capture,
    within: &Within,
    tables: &[Table],
) -> Result<()> {
    if work.attempt == 1 {
        return together(work, capture, within, tables).await;
    }
    for table in tables {
        let Err(fault) = together(work, capture, within, std::slice::from_ref(table)).await else { continue };
        // Where the snapshot is there still, it is the table that cannot be dumped.
        still_holds(work, within, Some(table)).await?;
        capture.add(&Kind::of(TABLE), document::missing(&within.database, table, fault)).await?;
    }
    Ok(())
}

/// Dumps tables by one program. Nothing is said of any of them unless it ended well, but where it is one alone.
async fn together(work: &Work, capture: &mut Capture, within: &Within, tables: &[Table]) -> Result<()> {
    let mut arguments = within.arguments().to_vec();
    arguments.push("-a".to_owned());
    for table in tables {
        arguments.push(format!("-t{}.{}", identifier(&table.schema), identifier(&table.name)));
    }
    let permit = work.permit().await?;
    let dump = Dump::begin(&work.programs, &within.database, &arguments, permit).await?;
    let parts = Parts::of(dump.entries(), tables)?;
    let dump: SharedDump = Arc::new(Mutex::new(dump));
    let mut left: HashMap<&str, &Table> = tables.iter().map(|table| (table.oid.as_str(), table)).collect();
    while !left.is_empty() {
        let Some(block) = dump.lock().await.block().await? else {
            return Err(unexpected(&format!("{} of its tables are not in it", left.len())));
        };
        let table = parts.table_of(block.id).and_then(|oid| left.remove(oid));
        let Some(table) = table.filter(|_| block.is_rows()) else {
            return Err(unexpected("it has a block that belongs to none of its tables"));
        };
        let (head, lasting) = dump.lock().await.head(Some(&block), |entry| parts.belongs(entry, table));
        let count = Arc::new(AtomicU64::new(0));
        let rows = dump::rows(&dump, left.is_empty(), &count);
        let rows = Reading::begin(&work.programs, &head).await?.of(rows);
        let about = table.clone();
        let document = move || document::body(&document::table(&about, Some(count.load(Relaxed))));
        let draft = document::draft(&within.database, table)
            .part_as(Role::Data, document::BLOCKS, Body::Stream(rows))
            .part_as(Role::Content, document::HEAD, Body::compared(head, lasting))
            .part(Role::Object, Body::Later(Box::new(document)));
        if let Err(fault) = capture.add_whole(&Kind::of(TABLE), draft).await? {
            return Err(dump.lock().await.broke().unwrap_or(fault));
        }
    }
    Ok(())
}

/// Whether the snapshot can be worked in still, and nobody waits to change the table that could not be dumped.
///
/// # Errors
/// `Unavailable`: `pg.snapshot-lost`, `pg.in-the-way`, or what keeps us from asking.
pub(super) async fn still_holds(work: &Work, within: &Within, table: Option<&Table>) -> Result<()> {
    let mut session = Session::open(&work.programs, Some(&within.database)).await?;
    session.anew("repeatable read").await?;
    let snapshot = within.snapshot.replace('\'', "''");
    session.run(&format!("set transaction snapshot '{snapshot}'")).await.map_err(|fault| Fault {
        class: Class::Unavailable,
        code: "pg.snapshot-lost",
        ..fault
    })?;
    match table {
        Some(table) if !work.is_last() && session.row::<Yes>(&waited_for(&table.oid)).await?.yes => {
            Err(in_the_way())
        }
        _ => Ok(()),
    }
}

/// Which entries of a dump belong to which table.
struct Parts {
    /// By the number of the entry: the table's id.
    rows: HashMap<i32, String>,
    /// By the number of the entry: the id of the table whose sequence it is.
    sequences: HashMap<i32, String>,
}

impl Parts {
    fn of(entries: &[Entry], tables: &[Table]) -> Result<Self> {
        let rows = entries.iter().filter(|entry| entry.is_rows()).map(|entry| (entry.id, entry.oid.clone()));
        let mut sequences = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.is_sequence()) {
            let owns = |table: &&Table| {
                table.sequences.iter().any(|(schema, name)| *schema == entry.schema && *name == entry.tag)
            };
            let owner = tables.iter().find(owns);
            let owner =
                owner.ok_or_else(|| unexpected("it has a sequence that belongs to none of its tables"))?;
            sequences.insert(entry.id, owner.oid.clone());
        }
        Ok(Self { rows: rows.collect(), sequences })
    }

    fn table_of(&self, id: i32) -> Option<&str> {
        self.rows.get(&id).map(String::as_str)
    }

    fn belongs(&self, entry: &Entry, table: &Table) -> bool {
        self.rows.get(&entry.id).or_else(|| self.sequences.get(&entry.id)) == Some(&table.oid)
    }
}
