//! One function for each promise of [`Locks`]; every adapter passes all of them.

use std::time::Duration;

use super::{BucketKey, Claim, Feedback, Limit, Locks};
use crate::ids::Nonce;

const LIMIT: Limit = Limit { per_second: 1_000.0, start: 1_000.0, burst: 3 };
const LONG: Duration = Duration::from_secs(60);

/// Runs the whole suite against fresh names, so that it can share a server with others.
pub async fn all(locks: &dyn Locks) {
    one_holder_at_a_time(locks).await;
    a_holder_may_renew(locks).await;
    only_the_holder_releases(locks).await;
    a_lock_ends_with_its_time(locks).await;
    a_room_has_so_many_places(locks).await;
    more_than_there_are_places_take_turns(locks).await;
    a_place_ends_with_its_time(locks).await;
    a_bucket_gives_one_burst_and_then_asks_to_wait(locks).await;
    a_pause_holds_for_everybody(locks).await;
    unused_permits_come_back(locks).await;
    a_lowered_ceiling_holds_at_once(locks).await;
    names_are_free_text(locks).await;
}

fn fresh(what: &str) -> String {
    format!("conformance/{what}/{}", Nonce::random())
}

fn bucket(what: &str) -> BucketKey {
    BucketKey::new(&fresh(what), "family", "read")
}

async fn one_holder_at_a_time(locks: &dyn Locks) {
    let (name, mine, yours) = (fresh("holder"), Nonce::random(), Nonce::random());
    assert!(!locks.held(&name).await.unwrap());
    assert!(locks.acquire(&name, mine, LONG).await.unwrap());
    assert!(!locks.acquire(&name, yours, LONG).await.unwrap());
    assert!(locks.held(&name).await.unwrap());
}

async fn a_holder_may_renew(locks: &dyn Locks) {
    let (name, mine) = (fresh("renew"), Nonce::random());
    assert!(locks.acquire(&name, mine, LONG).await.unwrap());
    assert!(locks.acquire(&name, mine, LONG).await.unwrap());
}

async fn only_the_holder_releases(locks: &dyn Locks) {
    let (name, mine, yours) = (fresh("release"), Nonce::random(), Nonce::random());
    assert!(locks.acquire(&name, mine, LONG).await.unwrap());
    locks.release(&name, yours).await.unwrap();
    assert!(locks.held(&name).await.unwrap());
    locks.release(&name, mine).await.unwrap();
    assert!(locks.acquire(&name, yours, LONG).await.unwrap());
}

async fn a_lock_ends_with_its_time(locks: &dyn Locks) {
    let (name, mine, yours) = (fresh("ttl"), Nonce::random(), Nonce::random());
    assert!(locks.acquire(&name, mine, Duration::from_millis(30)).await.unwrap());
    while !locks.acquire(&name, yours, LONG).await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert!(!locks.acquire(&name, mine, LONG).await.unwrap());
}

async fn a_room_has_so_many_places(locks: &dyn Locks) {
    let (room, mine, yours) = (fresh("room"), Nonce::random(), Nonce::random());
    assert_eq!(places(locks, &room, mine, 3, 0).await, 3, "all that is wanted, while nobody else is there");
    assert_eq!(places(locks, &room, yours, 3, 0).await, 1, "what is left of four");
    assert_eq!(places(locks, &room, mine, 3, 3).await, 2, "half of them, when asked again");
    assert_eq!(places(locks, &room, yours, 3, 0).await, 1, "what is in use is given up later");
    assert_eq!(places(locks, &room, mine, 3, 2).await, 2);
    assert_eq!(places(locks, &room, yours, 3, 1).await, 2);
    assert_eq!(places(locks, &room, mine, 0, 0).await, 0, "who wants none leaves");
    assert_eq!(places(locks, &room, yours, 9, 2).await, 4);
}

async fn more_than_there_are_places_take_turns(locks: &dyn Locks) {
    let (room, mine, yours) = (fresh("turns"), Nonce::random(), Nonce::random());
    let one = async |token, in_use| {
        locks.enter(&room, token, Claim { wanted: 1, in_use }, 1, LONG).await.unwrap() == 1
    };
    assert!(one(mine, 0).await);
    assert!(!one(yours, 0).await);
    assert!(one(mine, 1).await, "in the midst of a call it goes on");
    assert!(!one(mine, 0).await, "between two calls the other has its turn");
    assert!(one(yours, 0).await);
    assert!(!one(mine, 0).await);
}

async fn a_place_ends_with_its_time(locks: &dyn Locks) {
    let (room, mine, yours) = (fresh("place"), Nonce::random(), Nonce::random());
    let claim = Claim { wanted: 4, in_use: 4 };
    assert_eq!(locks.enter(&room, mine, claim, 4, Duration::from_millis(30)).await.unwrap(), 4);
    while places(locks, &room, yours, 4, 0).await < 4 {
        tokio::task::yield_now().await;
    }
}

/// How many of four places.
async fn places(locks: &dyn Locks, room: &str, token: Nonce, wanted: u32, in_use: u32) -> u32 {
    locks.enter(room, token, Claim { wanted, in_use }, 4, LONG).await.unwrap()
}

async fn a_bucket_gives_one_burst_and_then_asks_to_wait(locks: &dyn Locks) {
    let slow = Limit { per_second: 0.5, start: 0.5, burst: 3 };
    let key = bucket("burst");
    assert_eq!(locks.rate(&key).await.unwrap(), None);
    assert_eq!(locks.take(&key, slow, 2).await.unwrap().permits, 2);
    assert_eq!(locks.take(&key, slow, 2).await.unwrap().permits, 1);
    let refused = locks.take(&key, slow, 2).await.unwrap();
    assert_eq!(refused.permits, 0);
    assert!(
        refused.wait > Duration::from_millis(500) && refused.wait <= Duration::from_secs(2),
        "{refused:?}"
    );
}

async fn a_pause_holds_for_everybody(locks: &dyn Locks) {
    let key = bucket("pause");
    locks.feed(&key, LIMIT, Feedback::Throttled(LONG)).await.unwrap();
    let refused = locks.take(&key, LIMIT, 1).await.unwrap();
    assert_eq!(refused.permits, 0);
    assert!(refused.wait > Duration::from_secs(50), "{refused:?}");
    assert!(locks.rate(&key).await.unwrap().unwrap() < LIMIT.per_second);
}

async fn unused_permits_come_back(locks: &dyn Locks) {
    let slow = Limit { per_second: 0.5, start: 0.5, burst: 3 };
    let key = bucket("unused");
    assert_eq!(locks.take(&key, slow, 3).await.unwrap().permits, 3);
    locks.feed(&key, slow, Feedback::Unused(2)).await.unwrap();
    assert_eq!(locks.take(&key, slow, 3).await.unwrap().permits, 2);
}

async fn a_lowered_ceiling_holds_at_once(locks: &dyn Locks) {
    let key = bucket("lowered");
    assert_eq!(locks.take(&key, LIMIT, 3).await.unwrap().permits, 3);
    let low = Limit { per_second: 0.1, start: 0.1, burst: 1 };
    let refused = loop {
        let grant = locks.take(&key, low, 1).await.unwrap();
        if grant.permits == 0 {
            break grant;
        }
    };
    assert!(refused.wait > Duration::from_secs(5), "{refused:?}");
    assert!(locks.rate(&key).await.unwrap().unwrap() <= 0.1);
}

async fn names_are_free_text(locks: &dyn Locks) {
    for odd in ["", " ", "a b\r\n", "{}", "{x}", "*", "\0", "ü/…/🦀", &"long".repeat(1_000)] {
        let (name, mine, yours) = (format!("{}{odd}", fresh("odd")), Nonce::random(), Nonce::random());
        assert!(locks.acquire(&name, mine, LONG).await.unwrap());
        assert!(!locks.acquire(&name, yours, LONG).await.unwrap());
        assert!(!locks.held(&format!("{name}.")).await.unwrap());
    }
}
