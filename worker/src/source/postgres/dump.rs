//! One `pg_dump` under way: what it writes flows through, and only its exit status makes it count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use lakehold_proto::fault::{Class, Fault, Result};
use tokio::process::{Child, ChildStdout};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::JoinHandle;

use super::archive::{Archive, Block, Entry};
use super::programs::{Programs, widen};
use super::session::{begin, last_words};

/// Seconds that it waits for a lock. Who waits to change a table waits for us, and we must not wait for them.
const LOCK_WAIT: &str = "--lock-wait-timeout=10000";

/// A dump that streams of its pieces share.
pub(super) type SharedDump = Arc<Mutex<Dump>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Dump {
    archive: Archive<ChildStdout>,
    child: Child,
    words: Option<JoinHandle<Vec<u8>>>,
    ended: Option<Result<()>>,
    /// Of how many connections may be open at once it has one.
    _permit: OwnedSemaphorePermit,
}

impl Dump {
    /// Begins `pg_dump -Fc` of `database`, and reads its table of contents.
    ///
    /// # Errors
    /// `Unavailable` (`pg.dump-failed`) when it ends before; those of [`Archive::open`].
    pub(super) async fn begin(
        programs: &Programs,
        database: &str,
        arguments: &[String],
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        let mut command = programs.command("pg_dump", Some(database));
        command.args(["-Fc", "-Z0", LOCK_WAIT]).args(arguments);
        let mut child = command.spawn().map_err(|e| begin("pg_dump", &e))?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(begin("pg_dump", &"it has no pipes"));
        };
        widen(&output);
        let mut words = Some(tokio::spawn(last_words(errors)));
        match Archive::open(output).await {
            Ok(archive) => Ok(Self { archive, child, words, ended: None, _permit: permit }),
            Err(fault) => Err(why(&mut child, &mut words, Some(fault)).await),
        }
    }

    /// The table of contents.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.archive.entries
    }

    /// See [`Archive::head`].
    pub(super) fn head(
        &self,
        block: Option<&Block>,
        wanted: impl Fn(&Entry) -> bool,
    ) -> (Bytes, lakehold_proto::ids::Hash) {
        self.archive.head(block, wanted)
    }

    /// The next block; `None` at the end, when the program ended well.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub(super) async fn block(&mut self) -> Result<Option<Block>> {
        match self.archive.block().await {
            Ok(None) => self.end(None).await.map(|()| None),
            Ok(block) => Ok(block),
            Err(fault) => Err(self.fail(fault).await),
        }
    }

    /// Waits for the program's end. Called again, it tells the same.
    ///
    /// # Errors
    /// `Unavailable` (`pg.dump-failed`) unless it ended well; `broken` when it did and its archive is broken all the same.
    pub(super) async fn end(&mut self, broken: Option<Fault>) -> Result<()> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let status = self.child.wait().await;
        let well = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        let ended = match broken {
            None if well => Ok(()),
            broken => Err(why(&mut self.child, &mut self.words, broken.filter(|_| well)).await),
        };
        self.ended = Some(ended.clone());
        ended
    }

    /// Why it ended badly, if it did.
    pub(super) fn broke(&self) -> Option<Fault> {
        self.ended.clone()?.err()
    }

    async fn fail(&mut self, fault: Fault) -> Fault {
        match self.end(Some(fault.clone())).await {
            Err(fault) => fault,
            Ok(()) => fault,
        }
    }

    async fn rows(&mut self, is_last: bool, count: &AtomicU64) -> Result<Option<Bytes>> {
        match self.archive.rows().await {
            Ok(Some(piece)) => {
                count.store(self.archive.counted(), Relaxed);
                Ok(Some(piece))
            }
            // Of the last block nothing counts before the program ended well.
            Ok(None) if is_last => match self.archive.block().await {
                Ok(None) => self.end(None).await.map(|()| None),
                Ok(Some(_)) => Err(self.fail(unexpected("it has more blocks than tables")).await),
                Err(fault) => Err(self.fail(fault).await),
            },
            Ok(None) => Ok(None),
            Err(fault) => Err(self.fail(fault).await),
        }
    }

    async fn rest(&mut self) -> Result<Option<Bytes>> {
        match self.archive.rest().await {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) => self.end(None).await.map(|()| None),
            Err(fault) => Err(self.fail(fault).await),
        }
    }
}

/// The rows of the block that was begun. `count` has their number when the stream ended.
pub(super) fn rows(
    dump: &SharedDump,
    is_last: bool,
    count: &Arc<AtomicU64>,
) -> BoxStream<'static, Result<Bytes>> {
    let (dump, count) = (Arc::clone(dump), Arc::clone(count));
    stream::try_unfold((dump, count), move |(dump, count)| async move {
        let piece = dump.lock().await.rows(is_last, &count).await?;
        Ok(piece.map(|piece| (piece, (dump, count))))
    })
    .boxed()
}

/// All that is left.
pub(super) fn rest(dump: &SharedDump) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(Arc::clone(dump), |dump| async move {
        let piece = dump.lock().await.rest().await?;
        Ok(piece.map(|piece| (piece, dump)))
    })
    .boxed()
}

/// What is wrong with a dump that is not what was asked for.
pub(super) fn unexpected(detail: &str) -> Fault {
    Fault::new(Class::Unavailable, "pg.archive", "read a dump", detail)
}

/// What a program's end means: its own last words, where it said any. `broken` is what was seen of it.
async fn why(child: &mut Child, words: &mut Option<JoinHandle<Vec<u8>>>, broken: Option<Fault>) -> Fault {
    if let Some(fault) = broken.as_ref().filter(|fault| fault.class == Class::Unsupported) {
        return fault.clone();
    }
    // What cannot be read any more is not worth writing.
    _ = child.start_kill();
    let status = child.wait().await;
    let said = match words.take() {
        Some(words) => words.await.unwrap_or_default(),
        None => Vec::new(),
    };
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    match (broken, status) {
        (Some(fault), _) if said.is_empty() => fault,
        (_, Ok(status)) if said.is_empty() => failed(&format!("it ended with {status} and said nothing")),
        _ => failed(said),
    }
}

fn failed(said: &str) -> Fault {
    Fault::new(Class::Unavailable, "pg.dump-failed", "run pg_dump", said)
}
