//! What is to be read, pack by pack: gathered from the indexes, put in order on disk, and written down for the tasks.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::iter::Peekable;
use std::sync::Arc;

use futures::TryStreamExt as _;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Index, Located, Part};
use lakehold_proto::ids::{EnvName, Hash, RunId};
use lakehold_proto::store::{Key, SharedStore};
use lakehold_proto::task::TaskSpec;
use lakehold_proto::verify::{BODY, BodyCheck, FRAME, PACK, PackCheck};
use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::finding;
use crate::listed::Listed;
use crate::snapshot::index;
use crate::spill::{Sorted, Spill};

/// Frames kept in memory while they are put in order: some eight megabytes of them.
const LINES: usize = 65_536;

/// What is to be read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The tasks of each environment, and how many packs they read.
    pub(super) tasks: BTreeMap<EnvName, (Vec<TaskSpec>, u64)>,
    /// Packs that are not read, and are not there.
    pub(super) lost: Vec<Hash>,
    /// Parts that name a frame which lies nowhere: their hash, their index, and why.
    pub(super) misled: Vec<(Hash, Hash, Fault)>,
    /// What this program cannot open, and why: of that nothing is known.
    pub(super) unread: BTreeSet<String>,
}

/// Which packs a percentage means: those whose hash, salted with the run's id, falls below it. So every pack has its turn,
/// and whoever goes on with a run means the same ones.
#[derive(Clone, Copy, Debug)]
struct Share {
    salt: RunId,
    below: u64,
}

impl Share {
    fn of(salt: RunId, percent: f64) -> Self {
        let below = (percent.clamp(0.0, 100.0) / 100.0 * (1_u64 << 32) as f64).ceil() as u64;
        Self { salt, below }
    }

    fn takes(self, hash: Hash) -> bool {
        let [a, b, c, d, ..] = *Hash::of(format!("{}{hash}", self.salt)).bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) < self.below
    }

    fn is_all(self) -> bool {
        self.below > u64::from(u32::MAX)
    }
}

/// One frame of some environment. Those of a pack stand together; the first environment that names it reads it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Lying {
    pack: Hash,
    environment: usize,
    offset: u64,
    length: u64,
    size: u64,
    sha256: Hash,
}

/// Gathers what is to be read, and writes it down as tasks of `run`.
///
/// # Errors
/// The store's.
pub(super) async fn gather(
    store: &SharedStore,
    run: RunId,
    contents: &Contents,
    percent: f64,
) -> Result<Gathered> {
    let share = Share::of(run, percent);
    let mut gathered = Gathered::default();
    let mut frames = Spill::new(LINES);
    let mut bodies = Vec::new();
    let mut met = HashSet::new();
    for (environment, named) in contents.indexes.values().enumerate() {
        let mut listed = Listed::new(store, run, named.tasks());
        for named in &named.indexes {
            let read = index(&**store, named).await?;
            for part in read.entries.iter().flat_map(|entry| &entry.parts) {
                let Some(lying) = gathered.locate(&read, part, named.sha256)? else { continue };
                for frame in &lying {
                    let Located { object: pack, offset, length, size, sha256 } = *frame;
                    frames.push(Lying { pack, environment, offset, length, size, sha256 })?;
                }
                if lying.len() != 1 && share.takes(part.sha256) && met.insert(part.sha256) {
                    let check = BodyCheck { sha256: part.sha256, frames: lying, index: named.sha256 };
                    listed.push(&part.sha256.to_string(), &check).await?;
                }
            }
        }
        bodies.push(listed.finish(0, BODY, Arc::new([FRAME, BODY])).await?);
    }
    let environments: Vec<_> = contents.indexes.iter().collect();
    let lists = environments.iter().map(|(_, named)| (Listed::new(store, run, named.tasks()), 0));
    let mut lists: Vec<(Listed, u64)> = lists.collect();
    let mut present = match share.is_all() {
        true => None,
        false => Some(present(store).await?),
    };
    let mut frames = frames.sorted()?.peekable();
    while let Some((environment, check)) = next_pack(&mut frames)? {
        let pack = check.pack;
        if share.takes(pack) {
            let (listed, packs) = &mut lists[environment];
            listed.push(&pack.to_string(), &check).await?;
            *packs += 1;
        } else if let Some(present) = &mut present
            && !holds(present, pack)?
        {
            gathered.lost.push(pack);
        }
    }
    for (((listed, packs), bodies), (environment, _)) in lists.into_iter().zip(bodies).zip(environments) {
        let mut tasks = listed.finish(0, PACK, Arc::new([PACK, FRAME])).await?;
        tasks.extend(bodies);
        gathered.tasks.insert(environment.clone(), (tasks, packs));
    }
    Ok(gathered)
}

impl Gathered {
    /// Where the frames of a part lie, where that can be told of all of them.
    fn locate(&mut self, read: &Index, part: &Part, named: Hash) -> Result<Option<Vec<Located>>> {
        match finding(part.frames.iter().map(|frame| read.locate(frame)).collect())? {
            Ok(located) => return Ok(Some(located)),
            Err(fault) if fault.class == Class::Unsupported => {
                self.unread.insert(format!("{}: {}", Key::index(named), fault.detail));
            }
            Err(fault) => self.misled.push((part.sha256, named, fault)),
        }
        Ok(None)
    }
}

/// The next pack with all its frames, each once, and the environment that reads it.
fn next_pack(frames: &mut Peekable<Sorted<Lying>>) -> Result<Option<(usize, PackCheck)>> {
    let Some(first) = frames.next().transpose()? else { return Ok(None) };
    let (pack, environment) = (first.pack, first.environment);
    let located = |lying: Lying| {
        let Lying { offset, length, size, sha256, .. } = lying;
        Located { object: pack, offset, length, size, sha256 }
    };
    let mut check = PackCheck { pack, frames: vec![located(first)] };
    while let Some(next) = frames.next_if(|next| next.as_ref().map_or(true, |next| next.pack == pack)) {
        check.frames.push(located(next?));
    }
    check.frames.sort_unstable_by_key(|frame| (frame.offset, frame.length, frame.size, frame.sha256));
    check.frames.dedup();
    Ok(Some((environment, check)))
}

/// The hashes of all packs there are, in order, from one listing.
async fn present(store: &SharedStore) -> Result<Peekable<Sorted<Hash>>> {
    let mut present = Spill::new(LINES);
    let mut listing = store.list("packs/");
    while let Some(listed) = listing.try_next().await? {
        let name = listed.key.as_str().rsplit_once('/').and_then(|(_, name)| name.parse::<Hash>().ok());
        if let Some(hash) = name {
            present.push(hash)?;
        }
    }
    Ok(present.sorted()?.peekable())
}

/// Whether `pack` is among `present`, which is gone through once, as the packs asked for come in order.
fn holds(present: &mut Peekable<Sorted<Hash>>, pack: Hash) -> Result<bool> {
    while let Some(earlier) = present.next_if(|next| next.as_ref().map_or(true, |next| *next < pack)) {
        earlier?;
    }
    Ok(present.peek().is_some_and(|next| next.as_ref().is_ok_and(|next| *next == pack)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_what_was_asked() {
        let run = RunId::new("2026-08-01T02:00:00Z".parse().unwrap());
        let taken = |percent| {
            let share = Share::of(run, percent);
            (0..10_000_u32).filter(|n| share.takes(Hash::of(n.to_le_bytes()))).count()
        };
        assert_eq!((taken(0.0), taken(100.0)), (0, 10_000));
        assert!((800..1200).contains(&taken(10.0)));
        assert!(Share::of(run, 100.0).is_all() && !Share::of(run, 99.9).is_all());
    }

    #[test]
    fn a_pack_of_two_environments_is_read_once_with_the_frames_of_both() {
        let pack = Hash::of("pack");
        let lying = |environment, offset| Lying {
            pack,
            environment,
            offset,
            length: 1,
            size: 1,
            sha256: Hash::of("x"),
        };
        let mut frames = Spill::new(2);
        for one in [lying(1, 8), lying(0, 9), lying(1, 9)] {
            frames.push(one).unwrap();
        }
        let mut frames = frames.sorted().unwrap().peekable();
        let (environment, check) = next_pack(&mut frames).unwrap().unwrap();
        assert_eq!(environment, 0);
        assert_eq!(check.frames.iter().map(|frame| frame.offset).collect::<Vec<_>>(), [8, 9]);
        assert!(next_pack(&mut frames).unwrap().is_none());
    }
}
