//! Where a body is cut: where its content says, so that what changes at one place moves no cut at another.

use std::borrow::Cow;

use fastcdc::v2020::{FastCDC, Normalization, get_gear_with_seed, select_masks};

/// Bodies up to this size are one frame; larger ones are cut.
const WHOLE: usize = 1024 * 1024;
const CHUNK_MIN: usize = 256 * 1024;
pub(super) const CHUNK_AVERAGE: usize = 1024 * 1024;
const CHUNK_MAX: usize = 4 * 1024 * 1024;

/// The chunks of a whole body; an empty body is one empty chunk.
pub(super) fn chunks(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.len() <= WHOLE {
        return vec![bytes];
    }
    let cut = FastCDC::new(bytes, CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX);
    cut.map(|chunk| &bytes[chunk.offset..chunk.offset + chunk.length]).collect()
}

/// Cuts a body as it flows, into the same chunks. Looks at each byte once, and holds no more than one chunk and what came
/// with its end.
#[derive(Debug)]
pub(super) struct Chunker {
    held: Vec<u8>,
    /// How many of them were looked at.
    seen: usize,
    hash: u64,
    is_cut: bool,
    gear: Cow<'static, [u64]>,
    /// What must be zero for a cut: before the average size, and behind it.
    masks: (u64, u64),
}

impl Chunker {
    pub(super) fn new() -> Self {
        let (gear, _) = get_gear_with_seed(0);
        let masks = select_masks(CHUNK_AVERAGE, Normalization::Level1);
        Self { held: Vec::new(), seen: CHUNK_MIN, hash: 0, is_cut: false, gear, masks }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next chunk whose end is certain; what is behind it goes on in `room`.
    pub(super) fn next(&mut self, room: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        if !self.is_cut && self.held.len() <= WHOLE {
            return None;
        }
        let cut = self.cut()?;
        self.is_cut = true;
        let mut behind = room();
        behind.clear();
        behind.extend_from_slice(&self.held[cut..]);
        self.held.truncate(cut);
        (self.seen, self.hash) = (CHUNK_MIN, 0);
        Some(std::mem::replace(&mut self.held, behind))
    }

    /// What is left when all was pushed and nothing more is certain: whether the body was cut at all, and its last chunk, or
    /// the whole of it.
    pub(super) fn rest(self) -> (bool, Vec<u8>) {
        (self.is_cut, self.held)
    }

    /// The library begins at the beginning of what it is given. Like it, this looks at two bytes at a time, so that a last
    /// one without another behind it is no place to cut.
    fn cut(&mut self) -> Option<usize> {
        let Ok(gear) = <&[u64; 256]>::try_from(&*self.gear) else { return None };
        let end = self.held.len().min(CHUNK_MAX) & !1;
        let mut hash = self.hash;
        for (until, mask) in [(CHUNK_AVERAGE, self.masks.0), (CHUNK_MAX, self.masks.1)] {
            let until = until.min(end);
            let unseen = self.held.get(self.seen..until).unwrap_or_default();
            if let Some(at) = roll(&mut hash, unseen, gear, mask) {
                return Some(self.seen + at);
            }
            self.seen = self.seen.max(until);
        }
        self.hash = hash;
        (self.held.len() >= CHUNK_MAX).then_some(CHUNK_MAX)
    }
}

/// Rolls over `bytes`, to the first with which the hash says "cut". Four at a time, whose share is summed up beside the hash:
/// it waits for what came before once instead of four times, and that was half of all the time it takes.
fn roll(hash: &mut u64, bytes: &[u8], gear: &[u64; 256], mask: u64) -> Option<usize> {
    let (fours, rest) = bytes.as_chunks::<4>();
    for (n, four) in fours.iter().enumerate() {
        let [a, b, c, d] = four.map(|byte| gear[usize::from(byte)]);
        let ab = (a << 1).wrapping_add(b);
        let first = (*hash << 1).wrapping_add(a);
        let second = (*hash << 2).wrapping_add(ab);
        let third = (second << 1).wrapping_add(c);
        *hash = (*hash << 4).wrapping_add(ab << 2).wrapping_add(c << 1).wrapping_add(d);
        if let Some(at) = [first, second, third, *hash].iter().position(|hash| hash & mask == 0) {
            return Some(4 * n + at);
        }
    }
    for (at, &byte) in rest.iter().enumerate() {
        *hash = (*hash << 1).wrapping_add(gear[usize::from(byte)]);
        if *hash & mask == 0 {
            return Some(bytes.len() - rest.len() + at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn streamed(body: &[u8], random: &mut StdRng) -> Vec<Vec<u8>> {
        let (mut chunker, mut chunks, mut rest) = (Chunker::new(), Vec::new(), body);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.random_range(1..=rest.len().min(300_000)));
            chunker.push(piece);
            while let Some(chunk) = chunker.next(|| b"of another".to_vec()) {
                chunks.push(chunk);
            }
            rest = behind;
        }
        let (is_cut, last) = chunker.rest();
        if !last.is_empty() || !is_cut {
            chunks.push(last);
        }
        chunks
    }

    #[test]
    fn a_stream_is_cut_like_a_whole() {
        let mut random = StdRng::seed_from_u64(5);
        let mut bodies: Vec<Vec<u8>> =
            [0, 1, WHOLE - 1, WHOLE, WHOLE + 1, WHOLE + 2, CHUNK_MAX, CHUNK_MAX + 1, 9_999_999]
                .map(|size| (0..size).map(|_| random.random()).collect())
                .into();
        // What has no place to cut.
        bodies.extend([CHUNK_MAX - 1, CHUNK_MAX, 2 * CHUNK_MAX + 1].map(|size| vec![0; size]));
        // Ends everywhere near a cut.
        let long = bodies[8].clone();
        let cut = chunks(&long)[0].len();
        for end in [cut + WHOLE, cut + CHUNK_MIN] {
            bodies.extend((end..end + 4).map(|end| long[..end].to_vec()));
        }
        for body in bodies {
            let whole: Vec<_> = chunks(&body).into_iter().map(<[u8]>::to_vec).collect();
            assert!(streamed(&body, &mut random) == whole, "a body of {} bytes", body.len());
        }
    }
}
