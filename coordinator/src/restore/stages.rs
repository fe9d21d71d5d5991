//! In which order items are made. Pure: layers first, and within a layer each item after those it refers to; where they
//! refer to each other in a circle, one reference of the circle is set once all exist.

use std::collections::{BTreeSet, HashSet};

/// What items refer to, by their numbers: in one piece, since there may be very many.
#[derive(Debug, Default)]
pub struct Needs {
    /// Of each item, where what it refers to ends.
    ends: Vec<u32>,
    to: Vec<u32>,
}

impl Needs {
    /// What an item refers to. Items come by their numbers, upwards; those left out refer to nothing.
    pub fn push(&mut self, item: usize, needed: &[u32]) {
        self.ends.resize(item, self.to.len() as u32);
        self.to.extend(needed);
        self.ends.push(self.to.len() as u32);
    }

    fn of(&self, item: usize) -> &[u32] {
        let end = |item: usize| self.ends.get(item).map_or(self.to.len(), |end| *end as usize);
        &self.to[item.checked_sub(1).map_or(0, end)..end(item)]
    }
}

/// When each item is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The stage of each item, from 0.
    pub stage: Vec<u16>,
    /// References that are set later: from which item to which.
    pub later: HashSet<(usize, usize)>,
    /// The first stage behind all of these.
    pub end: u16,
}

/// Orders items: `layers` has the layer of each that comes, `needs` what each refers to.
pub fn order(layers: &[Option<u8>], needs: &Needs) -> Order {
    let mut order = Order { stage: vec![0; layers.len()], ..Order::default() };
    let mut walk = Walk { layers, needs, level: vec![None; layers.len()], later: HashSet::new() };
    for layer in layers.iter().flatten().collect::<BTreeSet<_>>() {
        let items = || (0..layers.len()).filter(|&item| layers[item] == Some(*layer));
        items().for_each(|item| walk.visit(item));
        let mut deepest = 0;
        for item in items() {
            let level = walk.level[item].unwrap_or(0);
            order.stage[item] = order.end + level;
            deepest = deepest.max(level);
        }
        order.end += deepest + 1;
    }
    order.later = walk.later;
    // What is in a layer still to come cannot be referred to yet.
    for item in (0..layers.len()).filter(|&item| layers[item].is_some()) {
        let needed = needs.of(item).iter().map(|needed| *needed as usize);
        order
            .later
            .extend(needed.filter(|&needed| layers[needed] > layers[item]).map(|needed| (item, needed)));
    }
    order
}

struct Walk<'a> {
    layers: &'a [Option<u8>],
    needs: &'a Needs,
    /// How deep below an item the references of its layer go, once that is known.
    level: Vec<Option<u16>>,
    later: HashSet<(usize, usize)>,
}

impl Walk<'_> {
    /// Goes down without recursion: chains of references may be long.
    fn visit(&mut self, start: usize) {
        let mut open = HashSet::new();
        let mut stack = vec![(start, 0)];
        while let Some((item, next)) = stack.pop() {
            if next == 0 {
                if self.level[item].is_some() {
                    continue;
                }
                open.insert(item);
            }
            match self.needs.of(item).get(next) {
                Some(&needed) => {
                    let needed = needed as usize;
                    stack.push((item, next + 1));
                    if self.layers[needed] != self.layers[item] || self.level[needed].is_some() {
                        continue;
                    }
                    if open.contains(&needed) {
                        self.later.insert((item, needed));
                    } else {
                        stack.push((needed, 0));
                    }
                }
                None => {
                    open.remove(&item);
                    let same = |needed: &usize| {
                        self.layers[*needed] == self.layers[item] && !self.later.contains(&(item, *needed))
                    };
                    let needed = self.needs.of(item).iter().map(|needed| *needed as usize).filter(same);
                    let below = needed.filter_map(|needed| self.level[needed]);
                    self.level[item] = Some(below.max().map_or(0, |deepest| deepest + 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of them come.
    fn order(layers: &[u8], needed: &[Vec<u32>]) -> Order {
        let mut needs = Needs::default();
        needed.iter().enumerate().for_each(|(item, needed)| needs.push(item, needed));
        super::order(&layers.iter().copied().map(Some).collect::<Vec<_>>(), &needs)
    }

    #[test]
    fn what_does_not_come_is_waited_for_by_nobody() {
        let mut needs = Needs::default();
        needs.push(1, &[0, 3]);
        needs.push(3, &[1]);
        let order = super::order(&[None, Some(1), None, Some(1), Some(0)], &needs);
        assert_eq!((order.stage[1], order.stage[3], order.stage[4], order.end), (2, 1, 0, 3), "{order:?}");
        assert_eq!(order.later, HashSet::from([(3, 1)]));
    }

    #[test]
    fn layers_come_first_and_references_within_them() {
        // 0 needs 1, 1 needs 2 (one layer); 3 is a layer below, and needed by all.
        let order = order(&[5, 5, 5, 1], &[vec![1, 3], vec![2, 3], vec![3], vec![]]);
        assert_eq!(order.stage, [3, 2, 1, 0]);
        assert!(order.later.is_empty());
        assert_eq!(order.end, 4);
    }

    #[test]
    fn a_circle_is_opened_at_one_reference() {
        let order = order(&[1, 1, 1], &[vec![1], vec![2], vec![0]]);
        assert_eq!(order.later.len(), 1);
        let (from, to) = *order.later.iter().next().unwrap();
        assert!(order.stage[to] > order.stage[from], "{order:?}");
        for (item, needs) in [(0, 1), (1, 2), (2, 0)] {
            assert!(
                order.later.contains(&(item, needs)) || order.stage[item] > order.stage[needs],
                "{order:?}"
            );
        }
    }

    #[test]
    fn what_comes_in_a_later_layer_is_referred_to_later() {
        let order = order(&[1, 2], &[vec![1], vec![]]);
        assert!(order.later.contains(&(0, 1)));
    }

    #[test]
    fn long_chains_are_walked() {
        let n = 50_000_u32;
        let needs: Vec<_> = (0..n).map(|i| if i + 1 < n { vec![i + 1] } else { vec![] }).collect();
        let order = order(&vec![1; n as usize], &needs);
        assert_eq!(u32::from(order.stage[0]), n - 1);
    }
}
