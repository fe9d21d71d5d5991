//! Finds out what a store can do by doing it. What it writes stays: there is no delete. It is a few small objects below
//! `probes/`, which nothing else looks at.

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::Nonce;
use lakehold_proto::store::{Key, Put, Store};
use serde::{Deserialize, Serialize};

/// Writers that race for one key.
const RACERS: u8 = 8;
/// Keys they race for.
const ROUNDS: u8 = 4;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Of many conditional creates at once exactly one wins, and its bytes are there.
    pub conditional_create: bool,
    /// A listing shows what was written before it began.
    pub list_after_write: bool,
    /// What was written reads back.
    pub read_after_write: bool,
}

impl Probed {
    /// What a person should know of it; empty when all is well.
    pub fn warnings(&self) -> Vec<String> {
        let found = [
            (self.conditional_create, "conditional creates are not atomic: run one coordinator at a time"),
            (self.list_after_write, "listings lag behind writes: recovery may do settled work again"),
            (self.read_after_write, "what was written does not read back: do not use this store"),
        ];
        found.into_iter().filter(|(well, _)| !well).map(|(_, warning)| warning.to_owned()).collect()
    }
}

/// Probes a store.
///
/// # Errors
/// The store's, when it cannot be written or read at all.
pub async fn probe(store: &dyn Store) -> Result<Probed> {
    let room = format!("probes/{}", Nonce::random());
    let mut found = Probed { conditional_create: true, list_after_write: true, read_after_write: true };
    for round in 0..ROUNDS {
        let key = Key::parse(&format!("{room}/{round}"))?;
        let puts = (0..RACERS).map(|racer| store.put_new(&key, Bytes::from(vec![racer; 64])));
        let puts: Vec<Put> = join_all(puts).await.into_iter().collect::<Result<_>>()?;
        let winners: Vec<_> = (0..RACERS).zip(&puts).filter(|(_, put)| **put == Put::Created).collect();
        let there = store.get(&key).await?;
        found.conditional_create &= winners.len() == 1;
        found.read_after_write &=
            there.is_some_and(|there| winners.iter().any(|(racer, _)| there == vec![*racer; 64]));
    }
    let listed = store.list(&format!("{room}/")).try_fold(0, async |n, _| Ok(n + 1)).await?;
    found.list_after_write = listed == usize::from(ROUNDS);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_is_told() {
        let none = Probed { conditional_create: false, list_after_write: false, read_after_write: false };
        assert_eq!(none.warnings().len(), 3);
        let all = Probed { conditional_create: true, list_after_write: true, read_after_write: true };
        assert!(all.warnings().is_empty());
    }
}
