//! One `pg_restore` under way: an archive flows into it from the store, or lies before it in memory.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Located, read_located};
use lakehold_proto::ids::Hash;
use lakehold_proto::restore::StepPart;
use lakehold_proto::store::Key;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::super::names::literal;
use super::super::programs::Programs;
use super::super::session::{Session, begin, last_words};
use crate::capture::Reader;
use crate::source::steps::is_whole;

/// How often is looked whether something has ended, and how many times.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 300;
/// Frames that are read ahead.
const AHEAD: usize = 2;

/// Lets an archive flow into `pg_restore`: its `head`, if that was read before, and its parts, one after the other.
///
/// # Errors
/// The store's; `Integrity` when a part is hurt; `Unavailable` (`pg.restore-failed`) when the program does not end well. Then
/// nothing of it is there, if `arguments` ask for one transaction.
pub(super) async fn feed(
    programs: &Programs,
    database: &str,
    label: &str,
    arguments: &[&str],
    reader: &Reader,
    head: &[u8],
    parts: &[&StepPart],
) -> Result<()> {
    let mut command = programs.command("pg_restore", Some(database));
    command.arg("--exit-on-error").args(arguments).stdin(Stdio::piped()).env("PGAPPNAME", label);
    let (mut child, words) = spawn(&mut command)?;
    let mut input = child.stdin.take().ok_or_else(|| begin("pg_restore", &"it has no pipes"))?;
    // When it reads no more, its own words tell why.
    let mut reads = input.write_all(head).await.is_ok();
    for part in parts {
        reads = reads && pour(part, reader, &mut input).await?;
    }
    drop(input);
    ended((child, words)).await
}

/// What a program tells the server to be called that works for `item`, so that it can be found.
pub(super) fn label(item: &str) -> String {
    // The server takes 63 bytes.
    format!("lakehold {}", &Hash::of(item).to_string()[..32])
}

/// Ends what another attempt at the same left behind, and waits until it is gone: nothing of it may come to be any more.
///
/// # Errors
/// Those of [`Session::rows`]; `Unavailable` (`pg.in-use`) when it does not go.
pub(super) async fn end_others(session: &mut Session, label: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Left {
        left: u64,
    }
    let others = format!(
        "select count(pg_terminate_backend(pid)) as left from pg_stat_activity \
         where application_name = {} and pid <> pg_backend_pid()",
        literal(label)
    );
    for _ in 0..LOOKS {
        if session.row::<Left>(&others).await?.left == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    let detail = "what an attempt before began does not end";
    Err(Fault::new(Class::Unavailable, "pg.in-use", "restore into a database", detail))
}

/// Whether all of a part was taken.
async fn pour(part: &StepPart, reader: &Reader, input: &mut ChildStdin) -> Result<bool> {
    let mut hasher = Sha256::new();
    let frames = part.frames.iter().cloned();
    let read =
        |frame: Located| async move { read_located(&*reader.store, &Key::pack(frame.object), &frame).await };
    let mut frames = std::pin::pin!(futures::stream::iter(frames).map(read).buffered(AHEAD));
    while let Some(plain) = frames.try_next().await? {
        hasher.update(&plain);
        if input.write_all(&plain).await.is_err() {
            return Ok(false);
        }
    }
    is_whole(part, Hash::finish(hasher))?;
    Ok(input.flush().await.is_ok())
}

/// An archive that lies in memory, so that it can be read from more than one place.
#[derive(Debug)]
pub(super) struct Lying(File);

impl Lying {
    /// Puts it there.
    ///
    /// # Errors
    /// `Unavailable` when there is no room.
    pub(super) fn new(bytes: &[u8]) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Fault::new(Class::Unavailable, "pg.archive-memory", "hand an archive to pg_restore", e)
        };
        let memory = memfd_create("lakehold-archive", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut file = File::from(memory);
        file.write_all(bytes).map_err(failed)?;
        Ok(Self(file))
    }

    /// By which programs of this process find it.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// What it holds, a line each, as `pg_restore` itself tells it and takes it again.
    ///
    /// # Errors
    /// As [`feed`].
    pub(super) async fn list(&self, programs: &Programs) -> Result<Vec<String>> {
        let mut command = programs.command("pg_restore", None);
        let said = command.arg("--list").arg(self.path()).output().await;
        let said = said.map_err(|e| begin("pg_restore", &e))?;
        if !said.status.success() {
            return Err(failed(&String::from_utf8_lossy(&said.stderr)));
        }
        let lines = String::from_utf8_lossy(&said.stdout);
        Ok(lines.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect())
    }

    /// Restores those of its entries that `list` has.
    ///
    /// # Errors
    /// As [`feed`].
    pub(super) async fn restore(
        &self,
        programs: &Programs,
        database: &str,
        label: &str,
        arguments: &[&str],
        list: &[&str],
    ) -> Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        let list = Self::new(format!("{}\n", list.join("\n")).as_bytes())?;
        let mut command = programs.command("pg_restore", Some(database));
        command.args(["--exit-on-error", "-L", &list.path()]).args(arguments).arg(self.path());
        command.env("PGAPPNAME", label);
        ended(spawn(&mut command)?).await
    }
}

/// The program, and what it says last.
fn spawn(command: &mut Command) -> Result<(Child, JoinHandle<Vec<u8>>)> {
    let mut child = command.stdout(Stdio::null()).spawn().map_err(|e| begin("pg_restore", &e))?;
    let errors = child.stderr.take().ok_or_else(|| begin("pg_restore", &"it has no pipes"))?;
    Ok((child, tokio::spawn(last_words(errors))))
}

async fn ended((mut child, words): (Child, JoinHandle<Vec<u8>>)) -> Result<()> {
    let status = child.wait().await.map_err(|e| begin("pg_restore", &e))?;
    if status.success() {
        return Ok(());
    }
    let said = words.await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    Err(failed(if said.trim().is_empty() { "it ended badly and said nothing" } else { said.trim() }))
}

fn failed(said: &str) -> Fault {
    Fault::new(Class::Unavailable, "pg.restore-failed", "run pg_restore", said)
}

/// What of a part is held in memory, at most.
const LARGEST: u64 = 256 << 20;

/// All of a part, which is small.
///
/// # Errors
/// The store's; `Unsupported` when it is not small.
pub(super) async fn whole(reader: &Reader, part: &StepPart) -> Result<Bytes> {
    if part.size > LARGEST {
        let detail = format!("a schema of {} bytes", part.size);
        return Err(Fault::new(Class::Unsupported, "pg.large-schema", "read a schema", detail));
    }
    crate::source::steps::body(reader, part).await
}
