//! The second round: every pack once, front to back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Index, Located, MAX_FRAME, PACK_MAGIC, Part};
use lakehold_proto::ids::{Hash, Nonce};
use lakehold_proto::store::{Key, SharedStore, missing};

use super::contents::Contents;
use super::{Damage, Hurt, Meter, Tally, finding};
use crate::snapshot::{index, items};

/// Frames that one pass gathers: about 24 MB of them.
const PASS_FRAMES: u64 = 262_144;

/// What the second round found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) packs: u64,
    pub(super) bytes: u64,
    pub(super) frames: u64,
    pub(super) damage: Vec<Damage>,
    pub(super) hurt: Hurt,
    pub(super) notes: Vec<String>,
}

/// Which packs a percentage means: those whose hash, salted anew each time, falls below it. So every pack has its turn.
#[derive(Clone, Copy, Debug)]
struct Share {
    salt: Nonce,
    below: u64,
}

impl Share {
    fn of(percent: f64) -> Self {
        let below = (percent.clamp(0.0, 100.0) / 100.0 * (1_u64 << 32) as f64).ceil() as u64;
        Self { salt: Nonce::random(), below }
    }

    fn takes(self, hash: Hash) -> bool {
        let [a, b, c, d, ..] = *Hash::of(format!("{}{hash}", self.salt)).bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) < self.below
    }

    fn is_all(self) -> bool {
        self.below > u64::from(u32::MAX)
    }
}

pub(super) async fn check(
    store: &SharedStore,
    contents: &Contents,
    percent: f64,
    meter: &Meter,
) -> Result<Found> {
    let share = Share::of(percent);
    let mut found = Found::default();
    let mut odd = Tally::default();
    // Packs that are only looked for: present or not, from one listing.
    let present = if share.is_all() { None } else { Some(present(store).await?) };
    for range in ranges(contents.frames) {
        let packs = gather(store, contents, &range, &mut odd).await?;
        let (read, looked_for): (Vec<_>, Vec<_>) =
            packs.into_iter().partition(|(hash, _)| share.takes(*hash));
        for (hash, _) in looked_for {
            if present.as_ref().is_some_and(|present| !present.contains(&hash)) {
                found.lost(hash, &missing(&Key::pack(hash)));
            }
        }
        meter.packs.fetch_add(read.len() as u64, Relaxed);
        let mut checking = futures::stream::iter(read)
            .map(|(hash, frames)| async move { Ok((hash, read_pack(store, hash, frames, meter).await?)) })
            .buffer_unordered(parallel());
        while let Some((hash, checked)) = checking.try_next().await? {
            found.take(hash, checked);
        }
    }
    check_bodies(store, contents, share, &mut found).await?;
    found.notes.extend(odd.lines());
    Ok(found)
}

/// One pack for each core, and one to be read meanwhile.
fn parallel() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1
}

async fn present(store: &SharedStore) -> Result<HashSet<Hash>> {
    let hash_of = |key: Key| key.as_str().rsplit_once('/').and_then(|(_, name)| name.parse::<Hash>().ok());
    store.list("packs/").try_filter_map(|listed| async move { Ok(hash_of(listed.key)) }).try_collect().await
}

/// Cuts the space of pack hashes so that one pass gathers [`PASS_FRAMES`] or so.
fn ranges(frames: u64) -> Vec<RangeInclusive<u32>> {
    let passes = frames.div_ceil(PASS_FRAMES).max(1);
    let edge = |n: u64| ((u128::from(n) << 32) / u128::from(passes)) as u64;
    (0..passes).map(|n| edge(n) as u32..=(edge(n + 1) - 1) as u32).collect()
}

/// The frames of all packs in the range, each once, in the order in which they lie.
async fn gather(
    store: &SharedStore,
    contents: &Contents,
    range: &RangeInclusive<u32>,
    odd: &mut Tally,
) -> Result<BTreeMap<Hash, Vec<Located>>> {
    let mut packs: HashMap<Hash, Vec<Located>> = HashMap::new();
    for named in &contents.indexes {
        let read = index(&**store, named).await?;
        let numbers: Vec<bool> = read.header.packs.iter().map(|pack| holds(range, pack.sha256)).collect();
        let frames = read.entries.iter().flat_map(|entry| &entry.parts).flat_map(|part| &part.frames);
        for frame in frames.filter(|frame| numbers.get(frame.pack as usize).copied().unwrap_or(true)) {
            match finding(read.locate(frame))? {
                Ok(located) => packs.entry(located.object).or_default().push(located),
                Err(fault) if fault.class == Class::Unsupported => {
                    odd.add(format!("not checked: {}", fault.detail));
                }
                Err(fault) => odd.add(format!("{}: {}", Key::index(named.sha256), fault.detail)),
            }
        }
    }
    let tidy = |(hash, mut frames): (Hash, Vec<Located>)| {
        frames.sort_unstable_by_key(|frame| (frame.offset, frame.length, frame.size, frame.sha256));
        frames.dedup();
        (hash, frames)
    };
    Ok(packs.into_iter().map(tidy).collect())
}

fn holds(range: &RangeInclusive<u32>, hash: Hash) -> bool {
    let [a, b, c, d, ..] = *hash.bytes();
    range.contains(&u32::from_be_bytes([a, b, c, d]))
}

/// What became of one pack.
struct Checked {
    bytes: u64,
    frames: u64,
    /// The pack as a whole, and whether nothing of it can be had.
    whole: Option<(Fault, bool)>,
    hurt: Vec<(u64, Fault)>,
}

async fn read_pack(store: &SharedStore, hash: Hash, frames: Vec<Located>, meter: &Meter) -> Result<Checked> {
    let key = Key::pack(hash);
    let Some(body) = store.get(&key).await? else {
        meter.packs_read.fetch_add(1, Relaxed);
        return Ok(Checked { bytes: 0, frames: 0, whole: Some((missing(&key), true)), hurt: Vec::new() });
    };
    let size = body.len() as u64;
    let checked = tokio::task::spawn_blocking(move || check_pack(hash, &body, &frames)).await;
    meter.packs_read.fetch_add(1, Relaxed);
    meter.bytes_read.fetch_add(size, Relaxed);
    checked.map_err(|e| Fault::new(Class::Bug, "verify.thread", format!("check {key}"), e))
}

fn check_pack(hash: Hash, body: &Bytes, frames: &[Located]) -> Checked {
    let mut checked = Checked { bytes: body.len() as u64, frames: 0, whole: None, hurt: Vec::new() };
    let fault = |code, detail: String| Fault::new(Class::Integrity, code, "check a pack", detail);
    let found = Hash::of(body);
    if found != hash {
        let detail = format!("its {} bytes hash to {found}, not to its name", body.len());
        checked.whole = Some((fault("store.hash-mismatch", detail), false));
    } else if !body.starts_with(PACK_MAGIC) {
        checked.whole = Some((fault("pack.magic", "it does not begin as packs do".into()), false));
    }
    // One decompressor and one buffer for all frames: making them anew would cost more than most frames.
    let mut plain = Vec::new();
    let mut zstd = zstd::bulk::Decompressor::new();
    for frame in frames {
        let opened = match &mut zstd {
            Ok(zstd) => open(zstd, frame, body, &mut plain),
            Err(e) => Err(format!("no decompressor: {e}")),
        };
        match opened {
            Ok(()) => checked.frames += 1,
            Err(detail) => checked
                .hurt
                .push((frame.offset, fault("pack.frame", format!("frame at {}: {detail}", frame.offset)))),
        }
    }
    checked
}

fn open(
    zstd: &mut zstd::bulk::Decompressor<'_>,
    frame: &Located,
    body: &Bytes,
    plain: &mut Vec<u8>,
) -> Result<(), String> {
    let end = frame.offset.checked_add(frame.length).filter(|end| *end <= body.len() as u64);
    let end = end.ok_or_else(|| format!("it ends behind the pack's {} bytes", body.len()))?;
    if frame.size > MAX_FRAME {
        return Err(format!("it claims {} bytes, more than any frame may have", frame.size));
    }
    plain.clear();
    plain.reserve(frame.size as usize);
    let sealed = &body[frame.offset as usize..end as usize];
    zstd.decompress_to_buffer(sealed, plain).map_err(|e| e.to_string())?;
    let found = Hash::of(&plain);
    match plain.len() as u64 == frame.size && found == frame.sha256 {
        true => Ok(()),
        false => Err(format!("its {} bytes hash to {found}, not to {}", plain.len(), frame.sha256)),
    }
}

impl Found {
    fn lost(&mut self, hash: Hash, fault: &Fault) {
        self.damage.push(Damage::of(Key::pack(hash), fault));
        self.hurt.packs.insert(hash);
    }

    fn take(&mut self, hash: Hash, checked: Checked) {
        self.packs += 1;
        self.bytes += checked.bytes;
        self.frames += checked.frames;
        match checked.whole {
            Some((fault, true)) => self.lost(hash, &fault),
            Some((fault, false)) => self.damage.push(Damage::of(Key::pack(hash), &fault)),
            None => {}
        }
        for (offset, fault) in checked.hurt {
            self.damage.push(Damage::of(Key::pack(hash), &fault));
            self.hurt.frames.insert((hash, offset));
        }
    }

    fn hurts(&self, index: &Index, part: &Part) -> bool {
        self.hurt.hurts(index, part)
    }
}

impl Hurt {
    /// Whether some frame of a part is hurt, or the part as a whole.
    pub(super) fn hurts(&self, index: &Index, part: &Part) -> bool {
        let frame_hurt = |frame: &lakehold_proto::format::Frame| {
            let pack = index.header.packs.get(frame.pack as usize);
            pack.is_some_and(|pack| {
                self.packs.contains(&pack.sha256) || self.frames.contains(&(pack.sha256, frame.offset))
            })
        };
        self.bodies.contains(&part.sha256) || part.frames.iter().any(frame_hurt)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.frames.is_empty() && self.bodies.is_empty()
    }
}

/// Bodies of several frames: that each frame is sound does not say that they are the right ones in the right order.
async fn check_bodies(
    store: &SharedStore,
    contents: &Contents,
    share: Share,
    found: &mut Found,
) -> Result<()> {
    let mut seen = HashSet::new();
    for named in &contents.indexes {
        let read = Arc::new(index(&**store, named).await?);
        for part in read.entries.iter().flat_map(|entry| &entry.parts).filter(|part| part.frames.len() != 1) {
            if !share.takes(part.sha256) || found.hurts(&read, part) || !seen.insert(part.sha256) {
                continue;
            }
            let frames = items::read_part(Arc::clone(store), Arc::clone(&read), part.clone());
            match finding(frames.try_for_each(|_| async { Ok(()) }).await)? {
                Err(fault) if fault.class == Class::Integrity => {
                    found.damage.push(Damage::of(Key::index(named.sha256), &fault));
                    found.hurt.bodies.insert(part.sha256);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_packs_once() {
        for frames in [0, 1, PASS_FRAMES, 10 * PASS_FRAMES + 1] {
            let ranges = ranges(frames);
            assert_eq!((*ranges[0].start(), *ranges[ranges.len() - 1].end()), (0, u32::MAX));
            assert!(
                ranges.windows(2).all(|pair| u64::from(*pair[0].end()) + 1 == u64::from(*pair[1].start()))
            );
        }
    }

    #[test]
    fn a_share_is_about_what_was_asked() {
        let taken = |percent| {
            let share = Share::of(percent);
            (0..10_000_u32).filter(|n| share.takes(Hash::of(n.to_le_bytes()))).count()
        };
        assert_eq!((taken(0.0), taken(100.0)), (0, 10_000));
        assert!((800..1200).contains(&taken(10.0)));
        assert!(Share::of(100.0).is_all() && !Share::of(99.9).is_all());
    }
}
