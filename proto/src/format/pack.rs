//! Packs: many sealed item bodies in one store object, each in frames that can be read alone with one ranged GET.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ZSTD_LEVEL, damaged};
use crate::fault::Result;
use crate::ids::Hash;
use crate::store::{Key, Store, missing};

/// The eight bytes every pack begins with.
pub const PACK_MAGIC: &[u8; 8] = b"LHPACK1\n";

/// The most plain bytes a frame may hold. Readers refuse more, so that a hostile index cannot make them allocate.
pub const MAX_FRAME: u64 = 16 * 1024 * 1024;

/// Where some bytes of a body lie, seen from the index that names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Which pack: a position in the index header's `packs`.
    pub pack: u32,
    /// Where the frame begins in the pack.
    pub offset: u64,
    /// How many bytes it has there.
    pub length: u64,
    /// How many bytes it has when opened.
    pub size: u64,
    /// The hash of the opened bytes.
    pub sha256: Hash,
}

/// The most bytes a frame may have in its pack: what does not compress grows a little.
const MAX_SEALED: u64 = MAX_FRAME + 1024 * 1024;

impl Frame {
    /// Checks what can be checked before anything is read or allocated.
    ///
    /// # Errors
    /// `Integrity` when it claims what no writer writes.
    pub fn check(&self) -> Result<()> {
        let sound = self.offset >= PACK_MAGIC.len() as u64
            && (1..=MAX_SEALED).contains(&self.length)
            && self.size <= MAX_FRAME
            && self.offset.checked_add(self.length).is_some();
        let Self { offset, length, size, .. } = self;
        let lies =
            || damaged("read an index", format!("a frame claims {size} bytes from {length} at {offset}"));
        sound.then_some(()).ok_or_else(lies)
    }

    /// The same frame, with its object named in full.
    pub fn located(&self, object: Hash) -> Located {
        Located { object, offset: self.offset, length: self.length, size: self.size, sha256: self.sha256 }
    }
}

/// Where some bytes lie, wherever they are named from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Located {
    /// The hash that names the object.
    pub object: Hash,
    /// Where the frame begins in it.
    pub offset: u64,
    /// How many bytes it has there.
    pub length: u64,
    /// How many bytes it has when opened.
    pub size: u64,
    /// The hash of the opened bytes.
    pub sha256: Hash,
}

/// A finished pack: its bytes, and the hash that names it.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The hash of `bytes`.
    pub hash: Hash,
    /// The pack.
    pub bytes: Bytes,
}

impl Sealed {
    fn of(bytes: Bytes) -> Self {
        Self { hash: Hash::of(&bytes), bytes }
    }

    /// The same frames in an object with another name: a byte behind the last frame, which no index names. For when an
    /// equal object lies damaged in the store.
    #[must_use]
    pub fn vary(&self) -> Self {
        Self::of([&self.bytes[..], b"\n"].concat().into())
    }
}

/// The bytes of a frame that has no place in a pack yet.
#[derive(Debug)]
pub struct SealedFrame {
    bytes: Vec<u8>,
    /// How many bytes it has when opened.
    pub size: u64,
    /// The hash of the opened bytes.
    pub sha256: Hash,
}

impl SealedFrame {
    /// Its memory, for the next.
    pub fn into_room(self) -> Vec<u8> {
        self.bytes
    }
}

/// Seals frames one after the other in the same memory: what the compressor needs is as much as a frame.
pub struct FrameSealer(zstd::bulk::Compressor<'static>);

impl FrameSealer {
    /// One that has sealed nothing yet.
    ///
    /// # Errors
    /// `Integrity` when there is no memory for it.
    pub fn new() -> Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self).map_err(|e| damaged("compress a frame", e))
    }

    /// Seals `plain`, whose hash is known, in the memory of `room`.
    ///
    /// # Errors
    /// `Integrity` when it is larger than [`MAX_FRAME`].
    pub fn seal(&mut self, plain: &[u8], sha256: Hash, room: Vec<u8>) -> Result<SealedFrame> {
        let size = plain.len() as u64;
        if size > MAX_FRAME {
            return Err(damaged(
                "seal a frame",
                format!("{size} bytes do not fit into a frame of {MAX_FRAME}"),
            ));
        }
        let mut bytes = room;
        bytes.clear();
        bytes.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.0.compress_to_buffer(plain, &mut bytes).map_err(|e| damaged("compress a frame", e))?;
        Ok(SealedFrame { bytes, size, sha256 })
    }
}

impl std::fmt::Debug for FrameSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameSealer")
    }
}

/// Puts frames one behind the other.
#[derive(Debug)]
pub struct PackBuilder {
    bytes: Vec<u8>,
}

impl PackBuilder {
    /// An empty pack.
    pub fn new() -> Self {
        Self::within(Vec::new())
    }

    /// An empty pack in the memory of `room`.
    pub fn within(room: Vec<u8>) -> Self {
        let mut bytes = room;
        bytes.clear();
        bytes.extend_from_slice(PACK_MAGIC);
        Self { bytes }
    }

    /// Seals `plain` as the next frame; `pack` is the number by which the index will know this pack.
    ///
    /// # Errors
    /// As [`FrameSealer::seal`].
    pub fn add(&mut self, pack: u32, plain: &[u8]) -> Result<Frame> {
        Ok(self.put(pack, &FrameSealer::new()?.seal(plain, Hash::of(plain), Vec::new())?))
    }

    /// Puts what was sealed elsewhere behind the last frame.
    pub fn put(&mut self, pack: u32, sealed: &SealedFrame) -> Frame {
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&sealed.bytes);
        let length = sealed.bytes.len() as u64;
        Frame { pack, offset, length, size: sealed.size, sha256: sealed.sha256 }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == PACK_MAGIC.len()
    }

    /// Ends the pack.
    pub fn finish(self) -> Sealed {
        Sealed::of(self.bytes.into())
    }
}

impl Default for PackBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens a frame: `sealed` are its bytes in the pack.
///
/// # Errors
/// `Integrity` when they are not what `frame` says.
pub fn open_frame(frame: &Located, sealed: &[u8]) -> Result<Bytes> {
    let context = || format!("open a frame of {}", frame.object);
    if frame.size > MAX_FRAME {
        return Err(damaged(
            context(),
            format!("it claims {} bytes, more than any frame may have", frame.size),
        ));
    }
    let plain = zstd::bulk::decompress(sealed, frame.size as usize).map_err(|e| damaged(context(), e))?;
    let found = Hash::of(&plain);
    if plain.len() as u64 != frame.size || found != frame.sha256 {
        return Err(damaged(
            context(),
            format!("{} bytes hash to {found}, not {}", plain.len(), frame.sha256),
        ));
    }
    Ok(plain.into())
}

/// Reads and opens one frame of the object `key`.
///
/// # Errors
/// `Integrity` when the object is absent or damaged, and the store's own.
pub async fn read_located(store: &dyn Store, key: &Key, frame: &Located) -> Result<Bytes> {
    let sealed = store.get_range(key, frame.offset, frame.length).await?.ok_or_else(|| missing(key))?;
    open_frame(frame, &sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_to_what_was_sealed_and_to_nothing_else() {
        let mut pack = PackBuilder::new();
        let first = pack.add(0, b"first").unwrap();
        let second = pack.add(0, &vec![7; 100_000]).unwrap();
        let sealed = pack.finish();
        assert_eq!(first.offset, PACK_MAGIC.len() as u64);
        let at = |f: &Frame| &sealed.bytes[f.offset as usize..(f.offset + f.length) as usize];
        assert_eq!(open_frame(&second.located(sealed.hash), at(&second)).unwrap(), vec![7; 100_000]);
        assert!(open_frame(&first.located(sealed.hash), at(&second)).is_err());
        let lies = Located { size: u64::MAX, ..first.located(sealed.hash) };
        assert!(
            open_frame(&lies, at(&first)).is_err(),
            "a size that lies is refused before anything is allocated"
        );
    }

    #[test]
    fn no_flipped_bit_passes() {
        let mut pack = PackBuilder::new();
        let frame = pack.add(0, b"some notebook\nwith two lines").unwrap();
        let sealed = pack.finish();
        let body = &sealed.bytes[frame.offset as usize..];
        for bit in 0..body.len() * 8 {
            let mut hurt = body.to_vec();
            hurt[bit / 8] ^= 1 << (bit % 8);
            let opened = open_frame(&frame.located(sealed.hash), &hurt);
            assert!(opened.is_err() || opened.unwrap().as_ref() == b"some notebook\nwith two lines");
        }
    }
}
