//! Chunks of one body on their way into frames: hashed and compressed on other threads while the next one is read, and handed
//! back in their order. **Memory** is bounded: of each chunk under way itself and what it becomes, and no more of them than
//! [`AT_ONCE`]. What is under way when nobody waits any more ends by itself, and is lost.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Frame, FrameSealer, SealedFrame};
use lakehold_proto::ids::Hash;
use tokio::task::JoinHandle;

use super::chunks::CHUNK_AVERAGE;

/// Chunks of one body under way: while one is sealed another waits, so that no thread stands still until the next is read. A
/// database is dumped by several programs at once, and each has its own.
const AT_ONCE: usize = 2;

/// Bytes of memory that are kept for the next chunk. See [`emptied`].
const ROOM: usize = CHUNK_AVERAGE + CHUNK_AVERAGE / 2;
/// The same for what it becomes.
const FRAME_ROOM: usize = CHUNK_AVERAGE / 2;

/// The memory of what is done with, for the next one: no more of it than `most`, which is what most need. With one of the
/// largest size now and then, all would come to have room for it after some gigabytes; with much less, most would ask the system
/// for the rest anew.
pub(super) fn emptied(mut room: Vec<u8>, most: usize) -> Vec<u8> {
    room.clear();
    room.shrink_to(most);
    room
}

/// A chunk that was looked at.
#[derive(Debug)]
pub(super) enum Chunk {
    /// The base snapshot has it.
    Known(Frame),
    /// It is new, as far as the base knows.
    New(SealedFrame),
}

thread_local! {
    /// One for each thread that seals, whosever chunk it is: what it needs is as large as a core's cache, and stays there.
    static SEALER: RefCell<Option<FrameSealer>> = const { RefCell::new(None) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sealing {
    known: Arc<HashMap<Hash, Frame>>,
    under_way: VecDeque<JoinHandle<(Result<Chunk>, Vec<u8>)>>,
    /// Memory of chunks that are sealed.
    rooms: Vec<Vec<u8>>,
    /// Memory of frames that are in their packs.
    spare: Vec<Vec<u8>>,
}

impl Sealing {
    /// Seals what is not among `known`.
    pub(super) fn new(known: HashMap<Hash, Frame>) -> Self {
        Self { known: Arc::new(known), under_way: VecDeque::new(), rooms: Vec::new(), spare: Vec::new() }
    }

    /// Room for the next chunk.
    pub(super) fn room(&mut self) -> Vec<u8> {
        self.rooms.pop().unwrap_or_default()
    }

    /// Takes the memory of a chunk back that is in its pack.
    pub(super) fn done(&mut self, chunk: Chunk) {
        if let Chunk::New(sealed) = chunk {
            self.spare.push(emptied(sealed.into_room(), FRAME_ROOM));
        }
    }

    /// Begins with a chunk. Where as many are under way as may be, it waits for the first and hands it back.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn put(&mut self, chunk: Vec<u8>) -> Result<Option<Chunk>> {
        let first = if self.under_way.len() < AT_ONCE { None } else { self.next().await? };
        let (known, room) = (Arc::clone(&self.known), self.spare.pop().unwrap_or_default());
        self.under_way.push_back(tokio::task::spawn_blocking(move || (look_at(&chunk, &known, room), chunk)));
        Ok(first)
    }

    /// The first of those under way; `None` when none is.
    ///
    /// # Errors
    /// `Integrity` when a chunk cannot be sealed.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let Some(first) = self.under_way.pop_front() else { return Ok(None) };
        let ended = first.await;
        let (sealed, room) =
            ended.map_err(|e| Fault::new(Class::Bug, "capture.thread", "seal a chunk", e))?;
        self.rooms.push(emptied(room, ROOM));
        sealed.map(Some)
    }
}

fn look_at(chunk: &[u8], known: &HashMap<Hash, Frame>, room: Vec<u8>) -> Result<Chunk> {
    let sha256 = Hash::of(chunk);
    match known.get(&sha256) {
        Some(frame) => Ok(Chunk::Known(*frame)),
        None => seal(chunk, sha256, room).map(Chunk::New),
    }
}

/// Seals a frame on this thread, in the memory of `room`.
pub(super) fn seal(plain: &[u8], sha256: Hash, room: Vec<u8>) -> Result<SealedFrame> {
    SEALER.with_borrow_mut(|sealer| {
        let sealer = match sealer {
            Some(sealer) => sealer,
            none => none.insert(FrameSealer::new()?),
        };
        sealer.seal(plain, sha256, room)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_come_back_in_their_order_and_what_is_known_is_not_sealed() {
        let chunks: Vec<_> = (0..20_u8).map(|n| vec![n; 1 + 5_000_000 / (1 + usize::from(n))]).collect();
        let at = |n: u8| Frame { pack: 0, offset: 8, length: 1, size: u64::from(n), sha256: Hash::of([n]) };
        let known = [3, 11].map(|n| (Hash::of(&chunks[usize::from(n)]), at(n)));
        let mut sealing = Sealing::new(known.into());
        let mut sealed = Vec::new();
        for chunk in &chunks {
            let mut room = sealing.room();
            room.clear();
            room.extend_from_slice(chunk);
            sealed.extend(sealing.put(room).await.unwrap());
            assert!(sealing.under_way.len() <= AT_ONCE);
        }
        while let Some(chunk) = sealing.next().await.unwrap() {
            sealed.push(chunk);
        }
        assert_eq!(sealed.len(), chunks.len());
        for (n, (found, chunk)) in sealed.iter().zip(&chunks).enumerate() {
            match found {
                Chunk::Known(frame) => assert_eq!(frame.size, n as u64),
                Chunk::New(new) => assert_eq!((new.size, new.sha256), (chunk.len() as u64, Hash::of(chunk))),
            }
            assert_eq!(matches!(found, Chunk::Known(_)), n == 3 || n == 11);
        }
    }
}
