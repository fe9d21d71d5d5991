//! A database held still: its tables are locked, and then the snapshot is taken that all of its dumps work in.
//!
//! The locks come first. A `TRUNCATE` or a rewriting `ALTER TABLE` after the snapshot would leave the table empty in it, and
//! every dump would say so with success. They are the weakest there are: they hinder nobody but who changes a table itself.

use std::time::Duration;

use lakehold_proto::fault::{Class, Fault, Result};
use tracing::warn;

use super::super::catalog::{LOCKABLE, Lockable, QUEUED, SNAPSHOT, Snapshot, Yes};
use super::super::programs::Programs;
use super::super::session::Session;

/// How often it is tried anew because tables came or went while they were locked.
const TRIES: u32 = 5;
/// How often it is asked whether the session lives and is in nobody's way.
const LOOK: Duration = Duration::from_secs(2);
/// Tables locked by one command.
const TOGETHER: usize = 200;

/// See the module. Dropped, it lets go.
#[derive(Debug)]
pub(super) struct Held {
    /// The session that holds it, in whose transaction everything is asked.
    pub(super) session: Session,
    /// The snapshot.
    pub(super) snapshot: Snapshot,
    /// Tables that somebody else holds in a way that lets nobody read, by id, with what the server said.
    pub(super) busy: Vec<(String, Fault)>,
}

impl Held {
    /// Holds a database. A table that cannot be locked costs the attempt, unless it is the `last`: then only the table.
    ///
    /// # Errors
    /// Those of the session; `pg.locked` when a table cannot be locked in time; `pg.changing` when tables come and go too
    /// fast.
    pub(super) async fn take(programs: &Programs, database: &str, last: bool) -> Result<Self> {
        let mut session = Session::open(programs, Some(database)).await?;
        for _ in 0..TRIES {
            let tables: Vec<Lockable> = session.rows(LOCKABLE).await?;
            session.anew("repeatable read").await?;
            let busy = lock(&mut session, &tables, last).await?;
            let snapshot: Snapshot = session.row(SNAPSHOT).await?;
            // What is there in the snapshot, and what was locked, must be the same tables.
            if session.rows::<Lockable>(LOCKABLE).await? == tables {
                return Ok(Self { session, snapshot, busy });
            }
            warn!("tables came or went while they were locked; once more");
            session.anew("read committed").await?;
        }
        let detail = format!("tables came or went while they were locked, {TRIES} times in a row");
        Err(Fault::new(Class::Unavailable, "pg.changing", "hold a database still", detail))
    }

    /// Asks now and then, so that it is seen when the session ends, and when it is in the way: somebody waits to change a
    /// table and a dump of ours waits behind them, so that all wait for each other. The `last` time that is borne: the dump
    /// gives up by itself. Does not return before.
    pub(super) async fn until_lost(&mut self, last: bool) -> Fault {
        let mut was_queued = false;
        loop {
            tokio::time::sleep(LOOK).await;
            let queued = match self.queued().await {
                Ok(queued) => queued.yes && !last,
                Err(fault) => return fault,
            };
            if queued && was_queued {
                return in_the_way();
            }
            was_queued = queued;
        }
    }

    async fn queued(&mut self) -> Result<Yes> {
        // Within a transaction the server shows what it showed before.
        self.session.run("select pg_stat_clear_snapshot()").await?;
        self.session.row(QUEUED).await
    }

    /// Lets go.
    pub(super) async fn release(mut self) -> Result<()> {
        self.session.run("commit").await
    }
}

/// What all who hold a database must not be.
pub(super) fn in_the_way() -> Fault {
    let detail =
        "somebody waits to change a table, and our dump waits behind them: letting go, to try again later";
    Fault::new(Class::Unavailable, "pg.in-the-way", "hold a database still", detail)
}

/// Locks the tables; returns those that cannot be.
async fn lock(session: &mut Session, tables: &[Lockable], last: bool) -> Result<Vec<(String, Fault)>> {
    let mut busy = Vec::new();
    for batch in tables.chunks(TOGETHER) {
        if !last {
            session.run(&lock_of(batch, "")).await?;
            continue;
        }
        for table in batch {
            session.run("savepoint one").await?;
            let locked = session.run(&lock_of(std::slice::from_ref(table), "nowait")).await;
            match locked {
                Ok(()) => session.run("release savepoint one").await?,
                Err(fault) if fault.code == "pg.locked" => {
                    // It is open still, and from within it no snapshot is handed on.
                    session.run("rollback to savepoint one; release savepoint one").await?;
                    busy.push((table.oid.clone(), fault));
                }
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(busy)
}

fn lock_of(tables: &[Lockable], how: &str) -> String {
    let names: Vec<_> = tables.iter().map(|table| format!("only {}", table.sql)).collect();
    format!("lock table {} in access share mode {how}", names.join(", "))
}
