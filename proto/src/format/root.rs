//! The content root: one hash over all that a snapshot says about the environment, and nothing about the run or the shards.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Entry;
use crate::ids::{Hash, Kind};
use crate::outcome::Unlisted;

/// What the root knows of one item or one unlisted slice: 96 bytes, sorted by the first 32.
///
/// The least of two lines with one id counts (an item that moved while it was listed may stand in two shards): one that
/// captured something before one that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootLine {
    /// SHA-256 over SHA-256(kind) and SHA-256(key).
    pub id: [u8; 32],
    /// The item's content hash; zeros for one of which nothing was captured.
    pub content: [u8; 32],
    /// SHA-256 over the sorted words of the item's gaps, joined by commas.
    pub gaps: [u8; 32],
}

impl RootLine {
    /// The line of an item.
    pub fn of_entry(kind: &Kind, entry: &Entry) -> Self {
        let mut words: Vec<_> =
            entry.gaps.iter().map(|g| format!("{}:{}", g.role.word(), g.fault.class)).collect();
        words.sort_unstable();
        Self {
            id: line_id(kind, &entry.key, None),
            content: entry.content.map_or([0; 32], |h| *h.bytes()),
            gaps: *Hash::of(words.join(",")).bytes(),
        }
    }

    /// The line of a slice of `kind` that could not be listed. Its id is hashed over more than an item's, so that no item
    /// can be taken for one.
    pub fn of_unlisted(kind: &Kind, unlisted: &Unlisted) -> Self {
        let bucket = unlisted.shard.bucket.map_or(String::new(), |b| format!("{}/{}", b.index, b.of));
        Self {
            id: line_id(kind, &unlisted.shard.scope, Some(&bucket)),
            content: [0; 32],
            gaps: *Hash::of(unlisted.standing.word()).bytes(),
        }
    }
}

impl Ord for RootLine {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = |line: &Self| (line.id, line.content == [0; 32], line.content, line.gaps);
        order(self).cmp(&order(other))
    }
}

impl PartialOrd for RootLine {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn line_id(kind: &Kind, key: &str, unlisted: Option<&str>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(Hash::of(kind.as_str()).bytes());
    hasher.update(Hash::of(key).bytes());
    if let Some(bucket) = unlisted {
        hasher.update(Hash::of(bucket).bytes());
    }
    hasher.finalize().into()
}

/// Hashes lines that come sorted and without doubles into the content root.
#[derive(Debug, Default)]
pub struct ContentRoot(Sha256);

impl ContentRoot {
    /// Takes the next line.
    pub fn push(&mut self, line: &RootLine) {
        self.0.update(line.id);
        self.0.update(line.content);
        self.0.update(line.gaps);
    }

    /// The root.
    pub fn finish(self) -> Hash {
        Hash::finish(self.0)
    }
}
