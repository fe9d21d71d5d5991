//! A session with a database: one `psql` that is asked question after question, and may hold a transaction meanwhile.
//!
//! Every answer is a row of JSON on a line of its own, and ends with a mark that tells the SQLSTATE. When `psql` is gone, so
//! is the session, its transaction and its locks.

use std::process::Stdio;

use lakehold_proto::fault::{Class, Fault, Result};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::fault::of_state;
use super::programs::Programs;

/// A line between rows and what became of the question. No row of JSON begins so.
const ASKED: &str = "\u{1e}asked";
/// The line behind it.
const ANSWERED: &str = "\u{1e}answered";

/// Tells `psql` whether the server knows the limit of a whole transaction.
const VERSION: &str = "select :SERVER_VERSION_NUM >= 170000 as has_limit \\gset";
/// Limits of whatever is asked: how long a question may take, and may wait for a lock. They end with the transaction: should a
/// pooler hand the connection on, nobody else finds them. None of them takes a snapshot.
const LIMITS: &str = "set local statement_timeout = '5min'; set local lock_timeout = '30s';
    set local idle_in_transaction_session_timeout = 0; set local search_path = pg_catalog; set local row_security = off;
    \\if :has_limit
    set local transaction_timeout = 0;
    \\endif
    ";

/// The same for a session that changes things, where building an index may take as long as it takes. What it commits outlives a
/// crash of the server, also of one whose commits usually do not wait for the disk
/// (<https://www.postgresql.org/docs/17/wal-async-commit.html>), and with it all that others committed before.
const TO_CHANGE: &str = "set statement_timeout = 0; set lock_timeout = '30s'; set search_path = pg_catalog; set client_min_messages = error;
    select set_config('synchronous_commit', 'local', false) where current_setting('synchronous_commit') = 'off'";

/// What is kept of its last words.
const WORDS: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    words: Option<JoinHandle<Vec<u8>>>,
}

impl Session {
    /// Opens one with `database`, in a transaction that only reads; `None` is the one where lists are asked for.
    ///
    /// # Errors
    /// `Unavailable` (`pg.unreachable`) when no session is to be had, with libpq's own words.
    pub(super) async fn open(programs: &Programs, database: Option<&str>) -> Result<Self> {
        let mut session = Self::begin(programs, database).await?;
        session.anew("read committed").await?;
        Ok(session)
    }

    /// Opens one that changes things: each command is a transaction of its own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn to_change(programs: &Programs, database: Option<&str>) -> Result<Self> {
        let mut session = Self::begin(programs, database).await?;
        session.run(TO_CHANGE).await?;
        Ok(session)
    }

    async fn begin(programs: &Programs, database: Option<&str>) -> Result<Self> {
        let mut command = programs.command("psql", database);
        command.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=terse", "-f", "-"]);
        command.env("PGCLIENTENCODING", "UTF8").stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|e| begin("psql", &e))?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(begin("psql", &"it has no pipes"));
        };
        let words = Some(tokio::spawn(last_words(errors)));
        let mut session = Self { child, input, output: BufReader::new(output).lines(), words };
        session.run(VERSION).await.map_err(|fault| match fault.code {
            "pg.connection-lost" => Fault { code: "pg.unreachable", ..fault },
            _ => fault,
        })?;
        Ok(session)
    }

    /// Gives up the transaction there is, and begins one that only reads.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(super) async fn anew(&mut self, isolation: &str) -> Result<()> {
        self.run(&format!("rollback; begin isolation level {isolation} read only; {LIMITS}")).await
    }

    /// Ends it as the server likes it, so that a pooler keeps the connection.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(super) async fn close(mut self) -> Result<()> {
        self.run("commit").await?;
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait().await.map(drop).map_err(|e| begin("psql", &e))
    }

    /// Runs SQL that answers nothing.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(super) async fn run(&mut self, sql: &str) -> Result<()> {
        self.ask(sql).await.map(drop)
    }

    /// The rows of a query, each as a JSON object with its columns.
    ///
    /// # Errors
    /// What the server said, by its SQLSTATE; `Unavailable` (`pg.connection-lost`) when it is gone.
    pub(super) async fn rows<T: DeserializeOwned>(&mut self, query: &str) -> Result<Vec<T>> {
        let lines = self.ask(&format!("select row_to_json(answer) from ({query}) answer")).await?;
        let read = |line: &String| {
            serde_json::from_str(line).map_err(|e| {
                // The answer may hold anything; the query is ours.
                Fault::new(Class::Bug, "pg.answer", format!("read the answer of {query:?}"), e)
            })
        };
        lines.iter().map(read).collect()
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// As [`Self::rows`]; `Unavailable` when there is none.
    pub(super) async fn row<T: DeserializeOwned>(&mut self, query: &str) -> Result<T> {
        self.rows(query).await?.pop().ok_or_else(|| {
            Fault::new(Class::Unavailable, "pg.no-row", "ask the server", format!("{query:?} gave no row"))
        })
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<String>> {
        let asked = format!(
            "{sql}\n;\n\\echo '{ASKED}'\n\\echo :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo '{ANSWERED}'\n"
        );
        if self.input.write_all(asked.as_bytes()).await.is_err() || self.input.flush().await.is_err() {
            return Err(self.lost().await);
        }
        let (mut rows, mut about) = (Vec::new(), None::<Vec<String>>);
        loop {
            let Ok(Some(line)) = self.output.next_line().await else { return Err(self.lost().await) };
            match &mut about {
                None if line == ASKED => about = Some(Vec::new()),
                None => rows.push(line),
                Some(_) if line == ANSWERED => break,
                Some(about) => about.push(line),
            }
        }
        let about = about.unwrap_or_default();
        match about.split_first() {
            Some((state, _)) if state == "00000" => Ok(rows),
            Some((state, said)) => Err(of_state(state, "ask the server", &said.join(" "))),
            None => Err(self.lost().await),
        }
    }

    async fn lost(&mut self) -> Fault {
        // It has ended, or is of no use any more: nothing is left to wait for but its last words.
        _ = self.child.start_kill();
        let said = match self.words.take() {
            Some(words) => words.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let said = String::from_utf8_lossy(&said);
        let said = match said.trim() {
            "" => "the connection is gone",
            said => said,
        };
        Fault::new(Class::Unavailable, "pg.connection-lost", "talk to the server", said)
    }
}

/// What a program says last, in bytes: the end of it.
pub(super) async fn last_words(mut errors: ChildStderr) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = errors.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(WORDS));
    }
    kept
}

/// A program that cannot be begun.
pub(super) fn begin(program: &str, why: &dyn std::fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "pg.program", format!("begin {program}"), why)
}
