//! Finds each item of the source in the target.

use lakehold_proto::fault::Result;
use lakehold_proto::restore::Crossing;
use lakehold_worker::source::blueprint::Blueprint;

use super::super::side::{Id, Side, id};
use super::{IdMap, Wholes};

/// Of each item of the source, the target's item that is it.
#[derive(Debug)]
pub(super) struct Pairs(Vec<Option<Pair>>);

#[derive(Clone, Copy, Debug)]
struct Pair {
    target: u32,
    sure: bool,
}

impl Pairs {
    /// The target's item that is this one.
    pub(super) fn of(&self, item: usize) -> Option<usize> {
        self.0[item].map(|pair| pair.target as usize)
    }

    /// Whether it is known to be it by more than its name.
    pub(super) fn is_sure(&self, item: usize) -> bool {
        self.0[item].is_some_and(|pair| pair.sure)
    }

    /// All items of the target that are one of the source's.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> {
        self.0.iter().flatten().map(|pair| pair.target as usize)
    }
}

/// An item is found by what an earlier restore made of it, or in the same workspace by its key; else by its natural key,
/// where nobody else of either side has it.
pub(super) fn pair(
    blueprint: &dyn Blueprint,
    (from, to): (&Side, &Side),
    crossing: &Crossing,
    known: &IdMap,
    wholes: &Wholes,
) -> Result<Pairs> {
    let mut pairs = vec![None; from.len()];
    let mut taken = vec![false; to.len()];
    let mut claims: Vec<(Id, u32)> = Vec::new();
    for (number, item) in from.all().enumerate() {
        let item = item?;
        if crossing.beside && wholes.get(&number) == Some(&number) {
            // It takes nobody's place.
            continue;
        }
        let is_renamed = crossing.mapping.name(&item.kind, item.name()).is_some();
        let by_key = if is_renamed {
            None
        } else if crossing.same {
            to.keyed(&item.kind, item.key())
        } else {
            known.get(&(number as u32)).map(|target| *target as usize)
        };
        match by_key.filter(|target| !std::mem::replace(&mut taken[*target], true)) {
            Some(target) => pairs[number] = Some(Pair { target: target as u32, sure: true }),
            None => {
                let identity = blueprint.identity_across(&item.kind, item.identity(), crossing);
                claims.push((id(&item.kind, &identity), number as u32));
            }
        }
    }
    claims.sort_unstable();
    for claim in claims.chunk_by(|a, b| a.0 == b.0) {
        let [(identity, number)] = claim else { continue };
        let mut free = to.with_identity(identity).iter().filter(|target| !taken[**target as usize]);
        if let (Some(&target), None) = (free.next(), free.next()) {
            pairs[*number as usize] = Some(Pair { target, sure: false });
        }
    }
    Ok(Pairs(pairs))
}
