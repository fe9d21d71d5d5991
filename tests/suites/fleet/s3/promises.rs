//! The port's promises, and what a bucket adds to them.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::ServerSideEncryption;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use lakehold_proto::fault::Class;
use lakehold_proto::store::identity;
use lakehold_proto::store::s3::{S3Config, S3Store};
use lakehold_proto::store::{ObjectLock, Put, Store, conformance};
use lakehold_tests::component::s3::create_locked;
use lakehold_tests::component::seaweed::{ADMIN, BUCKET, WRITER};

use super::{ANYBODY, LARGE, bucket, connect, key, ministack, noise, open_uploads, weed};

#[tokio::test]
async fn seaweed_keeps_them() {
    let weed = weed().await;
    let store = connect(&weed.endpoint, WRITER).await;
    assert_eq!(store.location(), format!("s3://{BUCKET}/some/store at {}", weed.endpoint));
    conformance::all(Arc::new(store.clone())).await;
    large_objects_are_like_others(&store).await;
    assert_eq!(open_uploads(&weed.admin()).await, 0);
    listings_go_on_over_pages(&store).await;
    what_is_beside_the_store_is_not_seen(&store, &weed.endpoint).await;
    let (made, _) = identity::create(&store, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(made.probe.warnings(), Vec::<String>::new());
    // Who only reads and writes may not ask for the lock.
    assert!(matches!(made.probe.object_lock, Some(ObjectLock::Unknown { .. })), "{:?}", made.probe);
    assert!(connect(&weed.endpoint, WRITER).await.properties().conditional_create);

    let admin = weed.admin();
    create_locked(&admin).await;
    let locked = S3Config { bucket: "locked".into(), ..bucket(&weed.endpoint, ADMIN) };
    let locked = S3Store::connect(locked).await.unwrap();
    for (name, length) in [("small", 10), ("large", LARGE)] {
        assert_eq!(locked.put_new(&key(name), noise(1, length)).await.unwrap(), Put::Created);
        assert_eq!(locked.put_new(&key(name), noise(2, length)).await.unwrap(), Put::Existed);
        assert_eq!(locked.get(&key(name)).await.unwrap().unwrap(), noise(1, length));
        assert_locked(&admin, name).await;
    }
    let lock = ObjectLock::On { retention: Some("compliance, 1 day".into()) };
    assert_eq!(locked.object_lock().await, Some(lock));
}

#[tokio::test]
async fn a_bucket_with_object_lock_and_kms_keeps_them() {
    let server = ministack().await;
    let admin = server.admin();
    let plain = connect(&server.endpoint, ANYBODY).await;
    assert_eq!(plain.object_lock().await, Some(ObjectLock::Off));

    create_locked(&admin).await;
    let kms_key = "arn:aws:kms:us-east-1:000000000000:key/00000000-1111-2222-3333-444444444444";
    let config = S3Config {
        bucket: "locked".into(),
        kms_key: Some(kms_key.into()),
        ..bucket(&server.endpoint, ANYBODY)
    };
    let store = S3Store::connect(config.clone()).await.unwrap();
    let (made, _) = identity::create(&store, Timestamp::UNIX_EPOCH).await.unwrap();
    let lock = ObjectLock::On { retention: Some("compliance, 1 day".into()) };
    assert_eq!(made.probe.object_lock, Some(lock));
    assert!(made.probe.conditional_create && made.probe.list_after_write);
    conformance::all(Arc::new(store.clone())).await;
    large_objects_are_like_others(&store).await;

    for name in ["lakehold.json", "large/object"] {
        let head =
            admin.head_object().bucket("locked").key(format!("some/store/{name}")).send().await.unwrap();
        assert_eq!(head.server_side_encryption, Some(ServerSideEncryption::AwsKms), "{name}");
        assert_eq!(head.ssekms_key_id.as_deref(), Some(kms_key), "{name}");
    }
    // The emulator does not lock what was made of parts; the server below does.
    assert_locked(&admin, "lakehold.json").await;
}

async fn assert_locked(admin: &Client, name: &str) {
    let key = format!("some/store/{name}");
    let head = admin.head_object().bucket("locked").key(&key).send().await.unwrap();
    let delete = admin.delete_object().bucket("locked").key(&key).version_id(head.version_id.unwrap());
    assert!(delete.send().await.is_err(), "{name} is locked");
}

async fn large_objects_are_like_others(store: &S3Store) {
    let (large, body) = (key("large/object"), noise(1, LARGE));
    assert_eq!(store.put_new(&large, body.clone()).await.unwrap(), Put::Created);
    assert_eq!(store.put_new(&large, noise(2, LARGE)).await.unwrap(), Put::Existed);
    assert_eq!(store.get(&large).await.unwrap().unwrap(), body);
    let (from, to) = ((8 << 20) - 3, (8 << 20) + 3);
    let over_the_seam = store.get_range(&large, from, to - from).await.unwrap().unwrap();
    assert_eq!(over_the_seam, body[from as usize..to as usize]);
    let listed: Vec<_> = store.list("large/").try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|l| l.size).collect::<Vec<_>>(), [LARGE as u64]);
    // Of several at once one is there, whole, and was told so. That it is the only one that was told so is not asked: a
    // server may look first and complete then (SeaweedFS 4.48 sometimes does), and nothing of this size is decided by a
    // race: packs and indexes are named by their bytes, plans and manifests are small.
    let racers = (0..3).map(|n| {
        let store = store.clone();
        async move { store.put_new(&key("large/race"), noise(n, LARGE)).await.unwrap() }
    });
    let puts = futures::future::join_all(racers).await;
    let there = store.get(&key("large/race")).await.unwrap().unwrap();
    let created = (0..).zip(&puts).filter(|(_, put)| **put == Put::Created).map(|(n, _)| noise(n, LARGE));
    assert!(created.into_iter().any(|body| body == there), "{puts:?}");

    // Ranges that HTTP has no word for.
    assert_eq!(store.get_range(&large, LARGE as u64, 0).await.unwrap().unwrap(), "");
    assert_eq!(store.get_range(&large, LARGE as u64 + 1, 0).await.unwrap_err().class, Class::Integrity);
    assert!(store.get_range(&key("large/absent"), 5, 0).await.unwrap().is_none());
    store.put_new(&key("large/empty"), "".into()).await.unwrap();
    assert_eq!(store.get_range(&key("large/empty"), 0, 0).await.unwrap().unwrap(), "");
    assert_eq!(store.get_range(&key("large/empty"), 0, 1).await.unwrap_err().class, Class::Integrity);
}

async fn listings_go_on_over_pages(store: &S3Store) {
    let mut expected = Vec::new();
    for batch in 0..11_u8 {
        let puts = (0..100_u8).map(|n| {
            let key = key(&format!("pages/{}/{batch}-{n}", n % 3));
            async move {
                store.put_new(&key, "x".into()).await.unwrap();
                key
            }
        });
        expected.extend(futures::future::join_all(puts).await);
    }
    let mut listed: Vec<_> = store.list("pages/").map_ok(|l| l.key).try_collect().await.unwrap();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(store.list_folders("pages/").await.unwrap(), ["0", "1", "2"]);
}

async fn what_is_beside_the_store_is_not_seen(store: &S3Store, endpoint: &str) {
    let beside = S3Config { prefix: "some/store2".into(), ..bucket(endpoint, WRITER) };
    let beside = S3Store::connect(beside).await.unwrap();
    beside.put_new(&key("packs/theirs"), "x".into()).await.unwrap();
    assert!(store.get(&key("packs/theirs")).await.unwrap().is_none());
    let whole = S3Config { prefix: String::new(), ..bucket(endpoint, WRITER) };
    let whole = S3Store::connect(whole).await.unwrap();
    assert_eq!(whole.list_folders("some/").await.unwrap(), ["store", "store2"]);
    assert_eq!(whole.get(&key("some/store2/packs/theirs")).await.unwrap().unwrap(), "x");
    let mine: Vec<_> = store.list("").map_ok(|l| l.key.to_string()).try_collect().await.unwrap();
    assert!(mine.iter().all(|key| !key.contains("theirs")));
}
