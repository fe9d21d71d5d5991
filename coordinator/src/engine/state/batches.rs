//! Where what was sent lies, and what of it is still to come: pure book-keeping.

use std::collections::{BTreeMap, BTreeSet};

use lakehold_proto::ids::Nonce;
use lakehold_proto::task::Batch;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Batches {
    size: usize,
    last: Batch,
    sent_in_last: usize,
    /// Tasks of each batch that may still be worked on.
    pub(super) open: BTreeMap<Batch, usize>,
    /// Batches of other coordinators, which may still fill.
    pub(super) others: BTreeSet<Batch>,
    /// Batches that are through and not written down yet as such.
    pub(super) through: Vec<Batch>,
}

impl Batches {
    pub(super) fn of(coordinator: Nonce, size: usize) -> Self {
        let last = Batch { coordinator, number: 1 };
        let (open, others) = (BTreeMap::from([(last, 0)]), BTreeSet::new());
        Self { size, last, sent_in_last: 0, open, others, through: Vec::new() }
    }

    pub(super) fn send(&mut self) -> Batch {
        if self.sent_in_last == self.size {
            let full = self.last;
            self.last.number += 1;
            self.sent_in_last = 0;
            self.open.insert(self.last, 0);
            self.close_if_through(full);
        }
        self.sent_in_last += 1;
        *self.open.entry(self.last).or_default() += 1;
        self.last
    }

    /// Outcomes may lie in `batch`, which another coordinator may have sent.
    pub(super) fn look_into(&mut self, batch: Batch) {
        if batch.coordinator != self.last.coordinator {
            self.others.insert(batch);
        }
    }

    pub(super) fn settle(&mut self, batches: &[Batch]) {
        for &batch in batches {
            if let Some(outstanding) = self.open.get_mut(&batch) {
                *outstanding -= 1;
                self.close_if_through(batch);
            }
        }
    }

    fn close_if_through(&mut self, batch: Batch) {
        if batch != self.last && self.open.get(&batch) == Some(&0) {
            self.open.remove(&batch);
            self.through.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_through_when_it_is_full_and_all_of_it_is_settled() {
        let mut batches = Batches::of(Nonce::numbered(1), 2);
        let first = batches.send();
        assert_eq!(batches.send(), first);
        batches.settle(&[first]);
        let second = batches.send();
        assert_ne!(second, first);
        assert!(batches.through.is_empty(), "one of the first may still be worked on");
        batches.settle(&[first, second]);
        assert_eq!(batches.through, [first], "the second may still fill");
        assert_eq!(batches.send(), second);
        batches.send();
        batches.settle(&[second]);
        assert_eq!((batches.through, batches.open.len()), (vec![first, second], 1));
    }
}
