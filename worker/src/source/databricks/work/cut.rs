//! Cuts a walk in which there is too much to list for one task: what lies deeper goes on in tasks of its own.
//!
//! A walk lists generation by generation: the directory that opens the slice, then all in it that belong to the slice, then
//! all in those. A generation is a set that the tree alone decides, and so is whether the next one would be too much; so two
//! walks of one tree are cut alike, however their calls come back. A cut generation is divided by the hash of the paths.
//!
//! **Names**: what a cut part captures and what it leaves to others again are buckets of the same slice, so each must have
//! a bucket of its own. Buckets are addresses in binary, lowest digit first: the part (i of n) keeps i0… for what it
//! captures and i1… for what it cuts off, and no address begins with another's.

use bytes::Bytes;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::Kind;
use lakehold_proto::task::{Bucket, Shard, TaskSpec};

use crate::capture::{Capture, Listing};

/// The kind by whose name the cut parts of a slice are walked. Those that the walk itself writes down to be captured go by
/// the name of the directory, so the number of the one never depends on that of the other. Git folders, whose name it is,
/// are captured on the way by every walk.
pub(super) const CUT: &str = "repo";
/// Directories that one task lists, about: more than a minute at the documented rate.
const LISTED: u64 = 2000;
/// Directories with which a part begins, about.
const IN_A_PART: u64 = 500;
/// The most parts.
const MOST: u32 = 512;
/// The longest address that leaves room for what is captured below it.
const DEEPEST: u32 = 1 << 21;
/// No JSON begins so: a line of the API is never taken for a path.
const MARK: u8 = b'>';

/// The whole of a slice, as a bucket.
const WHOLE: Bucket = Bucket { index: 0, of: 1 };

/// The address below which the task of `shard` has what it wrote down captured.
pub(super) fn captured(shard: &Shard) -> Bucket {
    shard.bucket.map_or(WHOLE, |own| part(own, 0, 2))
}

/// The address below which it cuts off.
fn cut_off(shard: &Shard) -> Bucket {
    shard.bucket.map_or(WHOLE, |own| part(own, 1, 2))
}

/// One of `of` parts of what `within` addresses.
pub(super) fn part(within: Bucket, index: u32, of: u32) -> Bucket {
    Bucket { index: within.index + within.of * index, of: within.of * of }
}

/// The directory that a line of a task's input asks to walk; `None` for a line that shows an item.
pub(super) fn to_walk(line: &[u8]) -> Option<String> {
    serde_json::from_slice(line.strip_prefix(&[MARK])?).ok()
}

/// The next generation of a walk, as it is found.
#[derive(Default)]
pub(super) struct Generation {
    before: u64,
    found: u64,
    held: Vec<String>,
    written: Option<Listing>,
}

impl Generation {
    /// The one that comes after so many directories of this task.
    pub(super) fn after(listed: u64) -> Self {
        Self { before: listed, ..Self::default() }
    }

    /// Takes a directory.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn take(&mut self, capture: &Capture, at: String) -> Result<()> {
        self.found += 1;
        if let Some(written) = &mut self.written {
            return write(written, &at).await;
        }
        self.held.push(at);
        let room = DEEPEST / cut_off(&capture.assignment().task.shard).of.max(1);
        if self.before + self.found <= LISTED || room < 2 {
            return Ok(());
        }
        let mut written = capture.listing(MOST);
        for at in std::mem::take(&mut self.held) {
            write(&mut written, &at).await?;
        }
        self.written = Some(written);
        Ok(())
    }

    /// Ends the generation: answers what is to be listed here, and asks for tasks where it was too much.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn end(self, capture: &mut Capture, yields: &[Kind]) -> Result<Vec<String>> {
        let Some(written) = self.written else { return Ok(self.held) };
        let task = capture.assignment().task.clone();
        let within = cut_off(&task.shard);
        let of = parts(self.found).min(DEEPEST / within.of.max(1));
        for (index, input) in (0..).zip(written.finish(of).await?) {
            if input.is_empty() {
                continue;
            }
            capture.child(TaskSpec {
                kind: Kind::of(CUT),
                shard: task.shard.cut(part(within, index, of)),
                stage: task.stage,
                yields: yields.into(),
                long: false,
                input,
            });
        }
        Ok(Vec::new())
    }
}

async fn write(written: &mut Listing, at: &str) -> Result<()> {
    let mut line = vec![MARK];
    line.extend_from_slice(serde_json::Value::from(at).to_string().as_bytes());
    written.push(Bucket::of_key(at, MOST).index, &Bytes::from(line)).await
}

/// Into how many parts so many directories go. The tree alone decides: a part keeps its name from one backup to the next.
fn parts(found: u64) -> u32 {
    let needed = found.div_ceil(IN_A_PART).next_power_of_two();
    u32::try_from(needed).unwrap_or(MOST).clamp(2, MOST)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_tasks_of_a_slice_have_one_name() {
        // Every task that a slice may come to when each walk is cut in `n` and writes down `m` buckets, three cuts deep.
        let mut names = HashSet::new();
        let mut add = |kind: &str, shard: &Shard| {
            assert!(names.insert((kind.to_owned(), shard.clone())), "{kind} {shard}");
        };
        let slice = Shard::under("/a");
        add("directory", &slice);
        (0..4).for_each(|j| add("directory", &slice.cut(part(captured(&slice), j, 4))));
        let mut walks = vec![slice];
        for (n, m) in [(8, 4), (2, 1), (4, 8)] {
            let cut: Vec<_> =
                walks.iter().flat_map(|walk| (0..n).map(|i| walk.cut(part(cut_off(walk), i, n)))).collect();
            for walk in &cut {
                add(CUT, walk);
                (0..m).for_each(|j| add(CUT, &walk.cut(part(captured(walk), j, m))));
            }
            walks = cut;
        }
    }

    #[test]
    fn what_was_cut_finer_lies_in_what_was_cut_coarser() {
        let walk = Shard::under("/a").cut(Bucket { index: 3, of: 8 });
        for below in [part(captured(&walk), 5, 16), part(cut_off(&walk), 1, 2)] {
            assert!(walk.overlaps(&walk.cut(below)), "{below:?}");
            assert!(!Shard::under("/a").cut(Bucket { index: 4, of: 8 }).overlaps(&walk.cut(below)));
        }
    }

    #[test]
    fn paths_survive_and_items_are_no_paths() {
        for at in ["/a", "/a\nb/\"c\"", "/🦆"] {
            let line = format!(">{}", serde_json::Value::from(at));
            assert!(!line.contains('\n'));
            assert_eq!(to_walk(line.as_bytes()).as_deref(), Some(at));
        }
        for item in [r#"{"walk":"/a"}"#, r#""/a""#, ">/a"] {
            assert_eq!(to_walk(item.as_bytes()), None);
        }
    }

    #[test]
    fn parts_are_of_a_size() {
        assert_eq!([0, 501, 2001, 5000, 50_000, 1_000_000].map(parts), [2, 2, 8, 16, 128, 512]);
    }
}
