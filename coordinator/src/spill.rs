//! Sorts more than fits into memory: what is handed in is sorted in parts, the parts lie in files without a name in the
//! directory for temporary files (`$TMPDIR`), and are merged while they are read back. Nothing of it survives the process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};

use lakehold_proto::fault::{Class, Fault, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can be sorted here.
pub(crate) trait Item: Ord + Serialize + DeserializeOwned {}

impl<T: Ord + Serialize + DeserializeOwned> Item for T {}

/// Takes items in any order. See the module.
#[derive(Debug)]
pub(crate) struct Spill<T> {
    most: usize,
    pending: Vec<T>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    file: File,
    left: usize,
}

impl<T: Item> Spill<T> {
    /// A sorter that keeps at most so many items in memory.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, pending: Vec::new(), parts: Vec::new() }
    }

    /// Takes an item in.
    ///
    /// # Errors
    /// `Unavailable` (`spill.io`) when the file of a part cannot be written.
    pub(crate) fn push(&mut self, item: T) -> Result<()> {
        self.pending.push(item);
        if self.pending.len() < self.most { Ok(()) } else { self.spill() }
    }

    fn spill(&mut self) -> Result<()> {
        self.pending.sort_unstable();
        let mut out = BufWriter::new(tempfile::tempfile().map_err(|e| unavailable(&e))?);
        for item in &self.pending {
            rmp_serde::encode::write(&mut out, item).map_err(|e| unavailable(&e))?;
        }
        out.flush().and_then(|()| out.rewind()).map_err(|e| unavailable(&e))?;
        let file = out.into_inner().map_err(|e| unavailable(&e))?;
        self.parts.push(Part { file, left: self.pending.len() });
        self.pending.clear();
        Ok(())
    }

    /// All items, in order; equal ones stand together.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub(crate) fn sorted(mut self) -> Result<Sorted<T>> {
        self.pending.sort_unstable();
        let parts = self.parts.into_iter().map(|part| (BufReader::new(part.file), part.left));
        let mut sorted =
            Sorted { memory: self.pending.into_iter(), parts: parts.collect(), heads: BinaryHeap::new() };
        for source in 0..=sorted.parts.len() {
            sorted.refill(source)?;
        }
        Ok(sorted)
    }
}

/// Items in order.
#[derive(Debug)]
pub(crate) struct Sorted<T> {
    memory: std::vec::IntoIter<T>,
    parts: Vec<(BufReader<File>, usize)>,
    /// The least item of each source that has one; the source after the parts is the memory.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Item> Sorted<T> {
    fn refill(&mut self, source: usize) -> Result<()> {
        let next = match self.parts.get_mut(source) {
            None => self.memory.next(),
            Some((_, 0)) => None,
            Some((file, left)) => {
                *left -= 1;
                Some(rmp_serde::from_read(file).map_err(|e| unavailable(&e))?)
            }
        };
        self.heads.extend(next.map(|item| Reverse((item, source))));
        Ok(())
    }
}

impl<T: Item> Iterator for Sorted<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((item, source)) = self.heads.pop()?;
        Some(self.refill(source).map(|()| item))
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "spill.io", "sort what a snapshot names", error).hint(
        "make room in the directory for temporary files ($TMPDIR), and run the same command with --resume",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(most: usize, items: impl Iterator<Item = (u32, String)>) -> Vec<(u32, String)> {
        let mut spill = Spill::new(most);
        items.for_each(|item| spill.push(item).unwrap());
        spill.sorted().unwrap().collect::<Result<_>>().unwrap()
    }

    #[test]
    fn parts_are_merged_in_order_and_nothing_is_lost() {
        let items = || (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) % 300, n.to_string()));
        let mut expected: Vec<_> = items().collect();
        expected.sort();
        for most in [1, 7, 250, 999, 1000, 5000] {
            assert_eq!(sorted(most, items()), expected, "{most} in memory");
        }
    }

    #[test]
    fn nothing_is_sorted_into_nothing() {
        assert_eq!(sorted(10, std::iter::empty()), []);
    }
}
