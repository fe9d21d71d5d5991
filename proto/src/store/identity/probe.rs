//! Finds out what a store can do by doing it. What it writes stays: there is no delete. It is a few small objects below
//! `probes/`, which nothing else looks at.
//!
//! Some servers take `If-None-Match` and do nothing about it, others look first and write then: both let several of the
//! racers win, and the second is caught the more surely the longer a body takes. A racer whose answer was lost finds its
//! own object when it tries again, so a race without a winner proves nothing against a store, as long as the bytes there
//! are those of one racer and a late one does not replace them.

use crate::fault::Result;
use crate::ids::Nonce;
use crate::store::{Key, ObjectLock, Put, Store};
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

/// Writers that race for one key.
const RACERS: u8 = 8;
/// Keys they race for.
const ROUNDS: u8 = 4;
/// The size of what they write.
const BODY: usize = 64 << 10;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Of many conditional creates at once exactly one wins, and its bytes are there.
    pub conditional_create: bool,
    /// A listing shows what was written before it began.
    pub list_after_write: bool,
    /// What was written reads back.
    pub read_after_write: bool,
    /// What keeps the objects of a bucket from being deleted; absent where there is no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
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

    /// What a person may wish to know of it, though all is well.
    pub fn notes(&self) -> Vec<String> {
        let note = match &self.object_lock {
            None => return Vec::new(),
            Some(ObjectLock::Off) => {
                "Object Lock is off: whoever may delete in this bucket can delete the store".to_owned()
            }
            Some(ObjectLock::On { retention: None }) => {
                "Object Lock is on, without a default retention: it keeps nothing by itself".to_owned()
            }
            Some(ObjectLock::On { retention: Some(how_long) }) => {
                format!("Object Lock keeps every new object ({how_long})")
            }
            Some(ObjectLock::Unknown { reason }) => {
                format!("whether Object Lock is on could not be learnt: {reason}")
            }
        };
        vec![note]
    }
}

/// Probes a store.
///
/// # Errors
/// The store's, when it cannot be written or read at all.
pub async fn probe(store: &dyn Store) -> Result<Probed> {
    let room = format!("probes/{}", Nonce::random());
    let mut found = Probed {
        conditional_create: true,
        list_after_write: true,
        read_after_write: true,
        object_lock: store.object_lock().await,
    };
    for round in 0..ROUNDS {
        let key = Key::parse(&format!("{room}/{round}"))?;
        let puts = (0..RACERS).map(|racer| store.put_new(&key, body_of(racer)));
        let puts: Vec<Put> = join_all(puts).await.into_iter().collect::<Result<_>>()?;
        let winners: Vec<u8> =
            (0..RACERS).zip(&puts).filter(|(_, put)| **put == Put::Created).map(|(racer, _)| racer).collect();
        let there = store.get(&key).await?;
        let author = (0..RACERS).find(|racer| there.as_ref() == Some(&body_of(*racer)));
        found.read_after_write &= author.is_some();
        found.conditional_create &= match winners.as_slice() {
            [] => author.is_some(),
            [winner] => author == Some(*winner),
            _ => false,
        };
        let late = store.put_new(&key, body_of(RACERS)).await?;
        found.conditional_create &= late == Put::Existed && store.get(&key).await? == there;
    }
    // A store may have learnt by its first refusal that it must look before it writes: that it then does is not enough.
    found.conditional_create &= store.properties().conditional_create;
    let listed = store.list(&format!("{room}/")).try_fold(0, async |n, _| Ok(n + 1)).await?;
    found.list_after_write = listed == usize::from(ROUNDS);
    Ok(found)
}

fn body_of(racer: u8) -> Bytes {
    vec![racer; BODY].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_is_told() {
        let none = Probed {
            conditional_create: false,
            list_after_write: false,
            read_after_write: false,
            object_lock: None,
        };
        assert_eq!(none.warnings().len(), 3);
        let all = Probed {
            conditional_create: true,
            list_after_write: true,
            read_after_write: true,
            object_lock: None,
        };
        assert!(all.warnings().is_empty());
    }
    #[test]
    fn a_lock_is_told_and_no_warning() {
        let sound = Probed {
            conditional_create: true,
            list_after_write: true,
            read_after_write: true,
            object_lock: None,
        };
        assert!(sound.notes().is_empty());
        let locks = [
            (ObjectLock::Off, "off"),
            (ObjectLock::On { retention: None }, "without"),
            (ObjectLock::On { retention: Some("compliance, 30 days".into()) }, "30 days"),
            (ObjectLock::Unknown { reason: "denied".into() }, "denied"),
        ];
        for (lock, word) in locks {
            let probed = Probed { object_lock: Some(lock), ..sound.clone() };
            assert!(probed.warnings().is_empty());
            assert!(probed.notes()[0].contains(word), "{:?}", probed.notes());
            let written = serde_json::to_string(&probed).unwrap();
            assert_eq!(serde_json::from_str::<Probed>(&written).unwrap(), probed, "{written}");
        }
    }
}
