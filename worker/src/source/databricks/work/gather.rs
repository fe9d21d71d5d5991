//! Gathers a listing: a short one stays here, a long one is written down for child tasks, each of which takes one bucket.
//!
//! How long a listing is shows only at its end, so lines go into as many parts as there may ever be buckets, and a bucket
//! is the parts whose number is its own modulo the number of buckets: both are powers of two. That number depends on the
//! base snapshot and on how many items there are, and on nothing else.

use bytes::Bytes;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::Kind;
use lakehold_proto::task::{Bucket, Shard, TaskSpec};

use super::cut::{captured, part};
use crate::capture::{Capture, Listing};

/// Listings up to this many items are worked on by the task that listed them.
const SHORT: u64 = 500;
/// Short listings of large items are written down too when they would hold more memory than this.
const HELD: usize = 1024 * 1024;
/// Items of a bucket, about.
const IN_A_BUCKET: u64 = 500;
/// The most buckets. A bucket is what a slot holds in memory, so there must be enough for the largest slices: in a tree most
/// directories lie in the slice of the root.
const MOST: u32 = 512;

/// What is gathered.
pub(super) struct Gather {
    held: Vec<(String, Bytes)>,
    bytes: usize,
    seen: u64,
    base: u32,
    written: Option<Listing>,
}

impl Gather {
    /// For a listing that the base snapshot has in `base` buckets (1: whole).
    pub(super) fn new(capture: &Capture, base: u32) -> Self {
        let written = (base > 1).then(|| capture.listing(MOST));
        Self { held: Vec::new(), bytes: 0, seen: 0, base, written }
    }

    /// Takes one item: its key, and a line.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn take(&mut self, capture: &Capture, key: String, line: Bytes) -> Result<()> {
        self.seen += 1;
        if let Some(written) = &mut self.written {
            return written.push(Bucket::of_key(&key, MOST).index, &line).await;
        }
        self.bytes += key.len() + line.len();
        self.held.push((key, line));
        if self.seen <= SHORT && self.bytes <= HELD {
            return Ok(());
        }
        let mut written = capture.listing(MOST);
        for (key, line) in std::mem::take(&mut self.held) {
            written.push(Bucket::of_key(&key, MOST).index, &line).await?;
        }
        self.written = Some(written);
        Ok(())
    }

    /// Ends the listing: answers the lines of a short one, and asks for child tasks for a long one.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn finish(
        self,
        capture: &mut Capture,
        kind: &Kind,
        shard: &Shard,
        yields: &[Kind],
    ) -> Result<Vec<Bytes>> {
        let Some(written) = self.written else {
            return Ok(self.held.into_iter().map(|(_, line)| line).collect());
        };
        let (of, within) = (buckets(self.base, self.seen), captured(shard));
        for (index, input) in (0..).zip(written.finish(of).await?) {
            if input.is_empty() {
                continue;
            }
            capture.child(TaskSpec {
                kind: kind.clone(),
                shard: shard.cut(part(within, index, of)),
                stage: capture.assignment().task.stage,
                yields: yields.into(),
                long: false,
                input,
            });
        }
        Ok(Vec::new())
    }
}

/// Into how many buckets `seen` items go, when the base snapshot has `base`.
fn buckets(base: u32, seen: u64) -> u32 {
    let needed = seen.div_ceil(IN_A_BUCKET).next_power_of_two();
    u32::try_from(needed).unwrap_or(MOST).max(base).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_by_doubling_and_never_shrink() {
        for (base, seen, expected) in [
            (1, 0, 1),
            (1, 500, 1),
            (1, 1001, 4),
            (1, 10_000, 32),
            (4, 10, 4),
            (2, 1001, 4),
            (1, 300_000, 512),
        ] {
            assert_eq!(buckets(base, seen), expected, "{base} {seen}");
        }
    }

    #[test]
    fn parts_of_the_finest_cut_make_up_every_coarser_one() {
        for of in [1, 2, 4, 64, 512] {
            for n in 0..100 {
                let key = format!("key-{n}");
                assert_eq!(Bucket::of_key(&key, MOST).index % of, Bucket::of_key(&key, of).index);
            }
        }
    }
}
