//! The arithmetic of a room: how many of its places each of those who want some may use. Pure, like the rate budget's.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Tick;
use crate::ids::Nonce;

/// What somebody wants of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Places in all, those in use included. Who wants none leaves.
    pub wanted: u32,
    /// Places that are in use, and cannot be given up now.
    pub in_use: u32,
}

/// The state of one room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    inside: HashMap<Nonce, Inside>,
}

#[derive(Clone, Copy, Debug)]
struct Inside {
    wanted: u32,
    holds: u32,
    until: Tick,
}

impl Room {
    /// What [`super::Locks::enter`] answers. The script in Redis does the same, step for step.
    pub fn enter(&mut self, token: Nonce, claim: Claim, places: u32, ttl: Duration, now: Tick) -> u32 {
        self.inside.retain(|_, one| one.until > now);
        let had = self.inside.remove(&token).map_or(0, |one| one.holds);
        let Claim { wanted, in_use } = claim;
        if wanted == 0 && in_use == 0 {
            return 0;
        }
        let others = self.inside.len() as u32;
        let sum = |of: fn(&Inside) -> u32| self.inside.values().map(of).sum::<u32>();
        let free = places.saturating_sub(sum(|one| one.holds));
        let part = (places / (others + 1)).max(1);
        let mut may = wanted.min(free).min(part.max(places.saturating_sub(sum(|one| one.wanted))));
        // There are more of us than places: whoever had one and is between two calls lets the next one in.
        if had > 0 && in_use == 0 && others >= places && self.inside.values().any(|one| one.holds == 0) {
            may = 0;
        }
        self.inside.insert(token, Inside { wanted, holds: may.max(in_use), until: now.plus(ttl) });
        may
    }
}
