//! Seals bodies into packs and uploads the packs as they fill.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Frame, Index, IndexDraft, IndexRef, PackBuilder, PackRef, Part, Role};
use lakehold_proto::ids::Hash;
use lakehold_proto::killpoint::{during, killpoint};
use lakehold_proto::outcome::Figures;
use lakehold_proto::store::{Key, PutHashed, SharedStore, put_hashed};
use lakehold_proto::telemetry::metrics;
use sha2::{Digest as _, Sha256};

use super::Meter;
use super::chunks::{CHUNK_AVERAGE, Chunker, chunks};
use super::sealing::{Chunk, Sealing, emptied, seal};

/// A pack is uploaded when it has reached this size. It bounds what a slot holds in memory; a bucket still sees few writes.
const PACK_FULL: usize = 768 * 1024;
/// The same for chunks of large bodies, of which one may be as large: there are few such bodies at once, and the store would
/// flush a file for each one or two.
const PACK_OF_CHUNKS: usize = 2 * 1024 * 1024;
/// Bytes of memory that are kept for the next pack. See [`emptied`].
const PACK_ROOM: usize = PACK_OF_CHUNKS + CHUNK_AVERAGE / 2;

/// A part of the base snapshot, with the index that knows its packs.
pub(super) type Known = (Arc<Index>, Part);

#[derive(Debug)]
pub(super) struct Packer {
    store: SharedStore,
    /// What a frame's pack number means: `None` for the open pack.
    packs: Vec<Option<PackRef>>,
    numbers: HashMap<PackRef, u32>,
    open: Option<(u32, PackBuilder)>,
    /// Memory of the pack before, and of the frame before.
    room: Vec<u8>,
    spare: Vec<u8>,
    /// Bodies sealed by this task, so that equal ones are stored once.
    sealed: HashMap<Hash, Frame>,
    bytes_stored: u64,
    bytes_reused: u64,
    written: u64,
    gaps: u64,
}

impl Packer {
    pub(super) fn new(store: SharedStore) -> Self {
        Self {
            store,
            packs: Vec::new(),
            numbers: HashMap::new(),
            open: None,
            room: Vec::new(),
            spare: Vec::new(),
            sealed: HashMap::new(),
            bytes_stored: 0,
            bytes_reused: 0,
            written: 0,
            gaps: 0,
        }
    }

    pub(super) fn note_gap(&mut self) {
        self.gaps += 1;
    }

    pub(super) fn hurt(&self) -> bool {
        self.gaps > 0
    }

    pub(super) fn count(&self, figures: &mut Figures) {
        figures.bytes_stored += self.bytes_stored;
        figures.bytes_reused += self.bytes_reused;
        figures.packs += self.written;
    }

    /// Points at the frames that the base snapshot has.
    pub(super) fn take_over(&mut self, index: &Index, part: &Part) -> Result<Part> {
        let mut part = part.clone();
        for frame in &mut part.frames {
            *frame = self.take_over_frame(index, frame)?;
        }
        self.bytes_reused += part.size;
        Ok(part)
    }

    fn take_over_frame(&mut self, index: &Index, frame: &Frame) -> Result<Frame> {
        let pack = index.pack(frame)?;
        let packs = &mut self.packs;
        let number = *self.numbers.entry(pack.clone()).or_insert_with(|| {
            packs.push(Some(pack.clone()));
            packs.len() as u32 - 1
        });
        Ok(Frame { pack: number, ..*frame })
    }

    pub(super) async fn seal(
        &mut self,
        role: Role,
        format: Option<String>,
        bytes: &[u8],
        known: Option<&Known>,
    ) -> Result<Part> {
        let (chunks, whole, mut frames) = (chunks(bytes), Hash::of(bytes), Vec::new());
        for chunk in &chunks {
            let sha256 = if chunks.len() == 1 { whole } else { Hash::of(chunk) };
            frames.push(self.frame(chunk, sha256, known).await?);
        }
        Ok(Part { role, size: bytes.len() as u64, sha256: whole, canonical: None, format, frames })
    }

    /// Seals a body as it flows. Of one that is cut, chunks are sealed on other threads while the next is read; it holds
    /// those, one that fills, and what came with its end. The inner error is the stream's.
    pub(super) async fn seal_stream(
        &mut self,
        role: Role,
        format: Option<String>,
        mut stream: BoxStream<'static, Result<Bytes>>,
        known: Option<&Known>,
        meter: &Meter,
    ) -> Result<Result<Part>> {
        let (mut chunker, mut whole, mut size) = (Chunker::new(), Sha256::new(), 0);
        let mut sealing = Sealing::new(frames_of(known));
        let mut frames = Vec::new();
        while let Some(bytes) = stream.next().await {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(fault) => return Ok(Err(fault)),
            };
            meter.read(bytes.len() as u64);
            whole.update(&bytes);
            size += bytes.len() as u64;
            chunker.push(&bytes);
            while let Some(chunk) = chunker.next(|| sealing.room()) {
                if let Some(sealed) = sealing.put(chunk).await? {
                    frames.push(self.take_in(&sealed, known).await?);
                    sealing.done(sealed);
                }
            }
        }
        let sha256 = Hash::finish(whole);
        let (is_cut, last) = chunker.rest();
        if !is_cut {
            frames.push(self.frame(&last, sha256, known).await?);
        } else if !last.is_empty()
            && let Some(sealed) = sealing.put(last).await?
        {
            frames.push(self.take_in(&sealed, known).await?);
        }
        while let Some(sealed) = sealing.next().await? {
            frames.push(self.take_in(&sealed, known).await?);
        }
        Ok(Ok(Part { role, size, sha256, canonical: None, format, frames }))
    }

    async fn frame(&mut self, chunk: &[u8], sha256: Hash, known: Option<&Known>) -> Result<Frame> {
        if let Some((index, part)) = known
            && let Some(frame) = part.frames.iter().find(|f| f.sha256 == sha256)
        {
            self.bytes_reused += frame.size;
            return self.take_over_frame(index, frame);
        }
        if let Some(frame) = self.sealed_before(sha256) {
            return Ok(frame);
        }
        let sealed = seal(chunk, sha256, std::mem::take(&mut self.spare))?;
        let (number, pack) = self.open();
        let frame = pack.put(number, &sealed);
        self.spare = sealed.into_room();
        self.added(frame, PACK_FULL).await
    }

    /// Takes in what was sealed on another thread.
    async fn take_in(&mut self, chunk: &Chunk, known: Option<&Known>) -> Result<Frame> {
        let sealed = match (chunk, known) {
            (Chunk::New(sealed), _) => sealed,
            (Chunk::Known(frame), Some((index, _))) => {
                self.bytes_reused += frame.size;
                return self.take_over_frame(index, frame);
            }
            (Chunk::Known(_), None) => {
                return Err(Fault::new(
                    Class::Bug,
                    "capture.no-base",
                    "take a chunk over",
                    "there is no base",
                ));
            }
        };
        if let Some(frame) = self.sealed_before(sealed.sha256) {
            return Ok(frame);
        }
        let (number, pack) = self.open();
        let frame = pack.put(number, sealed);
        self.added(frame, PACK_OF_CHUNKS).await
    }

    fn sealed_before(&mut self, sha256: Hash) -> Option<Frame> {
        let frame = *self.sealed.get(&sha256)?;
        self.bytes_reused += frame.size;
        Some(frame)
    }

    fn open(&mut self) -> (u32, &mut PackBuilder) {
        let (number, pack) = self.open.get_or_insert_with(|| {
            self.packs.push(None);
            (self.packs.len() as u32 - 1, PackBuilder::within(std::mem::take(&mut self.room)))
        });
        (*number, pack)
    }

    async fn added(&mut self, frame: Frame, full: usize) -> Result<Frame> {
        self.sealed.insert(frame.sha256, frame);
        if self.open.as_ref().is_some_and(|(_, pack)| pack.len() >= full) {
            self.close().await?;
        }
        Ok(frame)
    }

    fn stored(&mut self, bytes: u64) {
        metrics().stored(bytes);
        self.bytes_stored += bytes;
    }

    async fn close(&mut self) -> Result<()> {
        let Some((number, pack)) = self.open.take() else { return Ok(()) };
        let mut sealed = pack.finish();
        loop {
            let key = Key::pack(sealed.hash);
            let put = put_hashed(&*self.store, &key, sealed.bytes.clone(), false);
            match during("worker.mid-pack", put).await? {
                PutHashed::Created => {
                    self.written += 1;
                    self.stored(sealed.bytes.len() as u64);
                    break;
                }
                PutHashed::Existed => break,
                PutHashed::Damaged => sealed = sealed.vary(),
            }
        }
        killpoint("worker.after-pack");
        self.packs[number as usize] = Some(PackRef::plain(sealed.hash));
        // Unless the store still has it in hand.
        if sealed.bytes.is_unique() {
            self.room = emptied(sealed.bytes.into(), PACK_ROOM);
        }
        Ok(())
    }

    /// Uploads the last pack, and tells what the frames' numbers mean.
    pub(super) async fn finish(&mut self) -> Result<Vec<PackRef>> {
        self.close().await?;
        let open = || Fault::new(Class::Bug, "capture.open-pack", "finish a capture", "a pack is still open");
        self.packs.iter().cloned().collect::<Option<Vec<_>>>().ok_or_else(open)
    }

    /// Writes an index. `sound` are those that were read and checked a moment ago.
    pub(super) async fn put_index(
        &mut self,
        mut draft: IndexDraft,
        sound: &HashSet<Hash>,
    ) -> Result<IndexRef> {
        loop {
            let (index, bytes) = draft.write()?;
            let known_sound = sound.contains(&index.sha256);
            match put_hashed(&*self.store, &Key::index(index.sha256), bytes, known_sound).await? {
                PutHashed::Created => {
                    self.stored(index.size);
                    return Ok(index);
                }
                PutHashed::Existed => return Ok(index),
                PutHashed::Damaged => draft.vary(),
            }
        }
    }
}

/// The frames of what is known, by their hash.
fn frames_of(known: Option<&Known>) -> HashMap<Hash, Frame> {
    let frames = known.into_iter().flat_map(|(_, part)| &part.frames);
    frames.map(|frame| (frame.sha256, *frame)).collect()
}
