//! In which order items are made. Pure: layers first, and within a layer each item after those it refers to; where they
//! refer to each other in a circle, one reference of the circle is set once all exist.

use std::collections::{BTreeMap, HashSet};

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

/// Orders items: `layers` has the layer of each, `needs` what each refers to among them.
pub fn order(layers: &[u8], needs: &[Vec<usize>]) -> Order {
    let mut order = Order { stage: vec![0; layers.len()], ..Order::default() };
    let mut by_layer: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (item, layer) in layers.iter().enumerate() {
        by_layer.entry(*layer).or_default().push(item);
    }
    for items in by_layer.values() {
        let mut walk = Walk { layers, needs, level: vec![None; layers.len()], later: HashSet::new() };
        items.iter().for_each(|&item| walk.visit(item));
        let deepest = items.iter().filter_map(|&item| walk.level[item]).max().unwrap_or(0);
        for &item in items {
            order.stage[item] = order.end + walk.level[item].unwrap_or(0);
        }
        order.later.extend(walk.later);
        order.end += deepest + 1;
    }
    // What is in a layer still to come cannot be referred to yet.
    for (item, needed) in needs.iter().enumerate() {
        order.later.extend(
            needed.iter().filter(|&&needed| layers[needed] > layers[item]).map(|&needed| (item, needed)),
        );
    }
    order
}

struct Walk<'a> {
    layers: &'a [u8],
    needs: &'a [Vec<usize>],
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
            match self.needs[item].get(next) {
                Some(&needed) => {
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
                    let same = |needed: &&usize| {
                        self.layers[**needed] == self.layers[item] && !self.later.contains(&(item, **needed))
                    };
                    let below = self.needs[item].iter().filter(same).filter_map(|&needed| self.level[needed]);
                    self.level[item] = Some(below.max().map_or(0, |deepest| deepest + 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let n = 50_000;
        let needs: Vec<_> = (0..n).map(|i| if i + 1 < n { vec![i + 1] } else { vec![] }).collect();
        let order = order(&vec![1; n], &needs);
        assert_eq!(usize::from(order.stage[0]), n - 1);
    }
}
