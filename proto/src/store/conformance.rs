//! One function for each promise of [`Store`]; every adapter passes all of them.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Key, Put, Store, get_hashed};
use crate::fault::Class;
use crate::ids::{Hash, Nonce};

/// Runs the whole suite under a prefix of its own, so that it can share a bucket with others.
pub async fn all(store: Arc<dyn Store>) {
    what_was_put_is_got(&*store).await;
    the_first_put_wins_and_stays(&*store).await;
    what_may_be_put_soon_is_there_at_once(&*store).await;
    of_many_puts_at_once_one_creates(Arc::clone(&store)).await;
    a_range_is_exact_or_refused(&*store).await;
    a_listing_tells_all_under_its_prefix(&*store).await;
    folders_are_the_first_segments(&*store).await;
    absent_is_not_an_error(&*store).await;
    a_hash_mismatch_is_damage(&*store).await;
}

fn key(room: &str, name: &str) -> Key {
    Key::parse(&format!("{room}/{name}")).unwrap()
}

fn room() -> String {
    format!("conformance-{}", Nonce::random())
}

async fn what_was_put_is_got(store: &dyn Store) {
    let room = room();
    for (name, body) in [("empty", Bytes::new()), ("small", "x".into()), ("large", vec![9; 3 << 20].into())] {
        let key = key(&room, name);
        assert_eq!(store.put_new(&key, body.clone()).await.unwrap(), Put::Created);
        assert_eq!(store.get(&key).await.unwrap().unwrap(), body);
    }
}

async fn the_first_put_wins_and_stays(store: &dyn Store) {
    let key = key(&room(), "once");
    assert_eq!(store.put_new(&key, "first".into()).await.unwrap(), Put::Created);
    assert_eq!(store.put_new(&key, "second".into()).await.unwrap(), Put::Existed);
    assert_eq!(store.get(&key).await.unwrap().unwrap(), "first");
}

async fn of_many_puts_at_once_one_creates(store: Arc<dyn Store>) {
    if !store.properties().conditional_create {
        return;
    }
    let room = room();
    for round in 0..10 {
        let key = key(&room, &round.to_string());
        let puts = (0..8_u8).map(|n| {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(async move { (n, store.put_new(&key, Bytes::from(vec![n; 1000])).await.unwrap()) })
        });
        let done: Vec<_> = futures::future::join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = done.iter().filter(|(_, put)| *put == Put::Created).map(|(n, _)| *n).collect();
        assert_eq!(winners.len(), 1, "exactly one writer creates");
        assert_eq!(
            store.get(&key).await.unwrap().unwrap(),
            vec![winners[0]; 1000],
            "and its bytes are there"
        );
    }
}

async fn a_range_is_exact_or_refused(store: &dyn Store) {
    let key = key(&room(), "range");
    store.put_new(&key, "0123456789".into()).await.unwrap();
    assert_eq!(store.get_range(&key, 3, 4).await.unwrap().unwrap(), "3456");
    assert_eq!(store.get_range(&key, 9, 1).await.unwrap().unwrap(), "9");
    for (offset, length) in [(8, 3), (10, 1), (0, 11), (u64::MAX, 2)] {
        let refused = store.get_range(&key, offset, length).await.unwrap_err();
        assert_eq!(refused.class, Class::Integrity, "{offset}+{length}");
    }
}

async fn a_listing_tells_all_under_its_prefix(store: &dyn Store) {
    let room = room();
    let mut expected: Vec<_> =
        ["o/a", "o/a-b", "o/a.b", "o/a/x", "o/b/c/d"].iter().map(|n| format!("{room}/{n}")).collect();
    for name in &expected {
        store
            .put_new(&Key::parse(name).unwrap_or_else(|e| panic!("{e}")), "x".into())
            .await
            .unwrap_or(Put::Existed);
    }
    // A directory cannot hold both `o/a` and `o/a/x`; whichever was refused is not owed.
    let mut present = Vec::new();
    for name in expected.drain(..) {
        if store.get(&Key::parse(&name).unwrap()).await.is_ok_and(|found| found.is_some()) {
            present.push(name);
        }
    }
    let mut listed: Vec<_> =
        store.list(&format!("{room}/o/")).map_ok(|l| l.key.to_string()).try_collect().await.unwrap();
    listed.sort_unstable();
    present.sort_unstable();
    assert_eq!(listed, present);
    let some: Vec<_> = store.list(&format!("{room}/o/a-")).collect().await;
    assert_eq!(some.len(), 1, "a prefix need not end with a segment");
    assert_eq!(store.list(&format!("{room}/none/")).count().await, 0);
}

async fn folders_are_the_first_segments(store: &dyn Store) {
    let room = room();
    for name in ["b/x/1", "b/x/2", "a/y"] {
        store.put_new(&key(&room, name), "x".into()).await.unwrap();
    }
    assert_eq!(store.list_folders(&format!("{room}/")).await.unwrap(), ["a", "b"]);
    assert_eq!(store.list_folders(&format!("{room}/b/")).await.unwrap(), ["x"]);
    assert!(store.list_folders(&format!("{room}/none/")).await.unwrap().is_empty());
}

async fn absent_is_not_an_error(store: &dyn Store) {
    let key = key(&room(), "absent");
    assert!(store.get(&key).await.unwrap().is_none());
    assert!(store.get_range(&key, 0, 1).await.unwrap().is_none());
}

async fn a_hash_mismatch_is_damage(store: &dyn Store) {
    let key = key(&room(), "wrong");
    store.put_new(&key, "right".into()).await.unwrap();
    assert!(get_hashed(store, &key, Hash::of("right")).await.is_ok());
    assert_eq!(get_hashed(store, &key, Hash::of("wrong")).await.unwrap_err().class, Class::Integrity);
}

async fn what_may_be_put_soon_is_there_at_once(store: &dyn Store) {
    let key = key("soon", &Nonce::random().to_string());
    assert_eq!(store.put_new_soon(&key, Bytes::from_static(b"first")).await.unwrap(), Put::Created);
    assert_eq!(store.put_new_soon(&key, Bytes::from_static(b"second")).await.unwrap(), Put::Existed);
    assert_eq!(store.put_new(&key, Bytes::from_static(b"third")).await.unwrap(), Put::Existed);
    assert_eq!(store.get(&key).await.unwrap().unwrap(), "first");
    let listed: Vec<_> = store.list("soon/").map_ok(|listed| listed.key).try_collect().await.unwrap();
    assert!(listed.contains(&key));
}
