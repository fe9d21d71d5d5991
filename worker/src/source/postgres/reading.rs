//! An archive that is read whole as it flows by: `pg_restore` restores it into nothing. What it cannot read to the end is no
//! archive, whatever its hash is. A list of what is in it (`pg_restore --list`) would pass one that breaks off.

use std::process::Stdio;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use lakehold_proto::fault::{Class, Fault, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

use super::programs::{Programs, widen};
use super::session::{begin, last_words};

/// See the module.
#[derive(Debug)]
pub(super) struct Reading {
    child: Child,
    input: ChildStdin,
    words: JoinHandle<Vec<u8>>,
}

impl Reading {
    /// Begins to read one, of which `head` is the beginning.
    ///
    /// # Errors
    /// `Unavailable` (`pg.program`) when the program cannot be begun; those of [`Self::end`].
    pub(super) async fn begin(programs: &Programs, head: &Bytes) -> Result<Self> {
        let mut command = programs.offline("pg_restore");
        command.args(["-f", "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(|e| begin("pg_restore", &e))?;
        let (Some(input), Some(errors)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(begin("pg_restore", &"it has no pipes"));
        };
        widen(&input);
        let mut reading = Self { child, input, words: tokio::spawn(last_words(errors)) };
        reading.take(head).await;
        Ok(reading)
    }

    /// Lets a piece flow by. One that is not taken is told at the end.
    async fn take(&mut self, piece: &Bytes) {
        _ = self.input.write_all(piece).await;
    }

    /// Whether all of it could be read.
    ///
    /// # Errors
    /// `Unavailable` (`pg.unreadable-archive`) when not.
    pub(super) async fn end(self) -> Result<()> {
        let Self { mut child, input, words } = self;
        drop(input);
        let status = child.wait().await.map_err(|e| begin("pg_restore", &e))?;
        if status.success() {
            return Ok(());
        }
        let said = words.await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        Err(Fault::new(Class::Unavailable, "pg.unreadable-archive", "read a dump back", said.trim()))
    }

    /// The same pieces; at their end it is told whether all could be read.
    pub(super) fn of(self, pieces: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold((pieces, Some(self)), |(mut pieces, reading)| async move {
            let Some(mut reading) = reading else { return Ok(None) };
            match pieces.next().await.transpose()? {
                Some(piece) => {
                    reading.take(&piece).await;
                    Ok(Some((piece, (pieces, Some(reading)))))
                }
                None => reading.end().await.map(|()| None),
            }
        })
        .boxed()
    }
}
