//! Seals bodies into packs and uploads the packs as they fill.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::FastCDC;
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

/// A pack is uploaded when it has reached this size. It bounds what a slot holds in memory; a bucket still sees few writes.
const PACK_FULL: usize = 768 * 1024;
/// Most frames are far smaller than this: what the last one adds to a full pack.
const LAST_FRAME: usize = 256 * 1024;

/// Bodies up to this size are one frame; larger ones are cut where their content says.
const WHOLE: usize = 1024 * 1024;
const CHUNK_MIN: usize = 256 * 1024;
const CHUNK_AVERAGE: usize = 1024 * 1024;
const CHUNK_MAX: usize = 4 * 1024 * 1024;

/// A part of the base snapshot, with the index that knows its packs.
pub(super) type Known = (Arc<Index>, Part);

#[derive(Debug)]
pub(super) struct Packer {
    store: SharedStore,
    /// What a frame's pack number means: `None` for the open pack.
    packs: Vec<Option<PackRef>>,
    numbers: HashMap<PackRef, u32>,
    open: Option<(u32, PackBuilder)>,
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
        let mut frames = Vec::new();
        for chunk in chunks(bytes) {
            frames.push(self.frame(chunk, known).await?);
        }
        Ok(Part { role, size: bytes.len() as u64, sha256: Hash::of(bytes), canonical: None, format, frames })
    }

    /// Seals a body as it flows, holding at most one chunk and what came with its end. The inner error is the stream's.
    pub(super) async fn seal_stream(
        &mut self,
        role: Role,
        format: Option<String>,
        mut stream: BoxStream<'static, Result<Bytes>>,
        known: Option<&Known>,
        meter: &Meter,
    ) -> Result<Result<Part>> {
        let (mut held, mut whole, mut size) = (BytesMut::new(), Sha256::new(), 0);
        let mut frames = Vec::new();
        let mut ended = false;
        while !ended {
            match stream.next().await {
                Some(Ok(bytes)) => {
                    meter.read(bytes.len() as u64);
                    whole.update(&bytes);
                    size += bytes.len() as u64;
                    held.extend_from_slice(&bytes);
                }
                Some(Err(fault)) => return Ok(Err(fault)),
                None => ended = true,
            }
            // A cut is certain only when a whole chunk's reach lies before us, or the end does.
            while held.len() >= CHUNK_MAX || (ended && !held.is_empty()) {
                let small = ended && frames.is_empty() && held.len() <= WHOLE;
                let cut = if small { held.len() } else { first_cut(&held) };
                let chunk = held.split_to(cut);
                frames.push(self.frame(&chunk, known).await?);
            }
        }
        if frames.is_empty() {
            frames.push(self.frame(&[], known).await?);
        }
        Ok(Ok(Part { role, size, sha256: Hash::finish(whole), canonical: None, format, frames }))
    }

    async fn frame(&mut self, chunk: &[u8], known: Option<&Known>) -> Result<Frame> {
        let sha256 = Hash::of(chunk);
        if let Some((index, part)) = known
            && let Some(frame) = part.frames.iter().find(|f| f.sha256 == sha256)
        {
            self.bytes_reused += frame.size;
            return self.take_over_frame(index, frame);
        }
        if let Some(&frame) = self.sealed.get(&sha256) {
            self.bytes_reused += frame.size;
            return Ok(frame);
        }
        let (number, pack) = self.open.get_or_insert_with(|| {
            self.packs.push(None);
            (self.packs.len() as u32 - 1, PackBuilder::with_room(PACK_FULL + LAST_FRAME))
        });
        let frame = pack.add(*number, chunk)?;
        self.sealed.insert(sha256, frame);
        if pack.len() >= PACK_FULL {
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

/// The chunks of a whole body; an empty body is one empty chunk.
fn chunks(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.len() <= WHOLE {
        return vec![bytes];
    }
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(first_cut(rest));
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}

/// Where the first chunk of `bytes` ends. Depends on no more than [`CHUNK_MAX`] bytes, so a stream is cut like a whole.
fn first_cut(bytes: &[u8]) -> usize {
    let reach = &bytes[..bytes.len().min(CHUNK_MAX)];
    FastCDC::new(reach, CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX).next().map_or(reach.len(), |chunk| chunk.length)
}
