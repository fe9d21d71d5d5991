//! The server dies and comes back: what was acknowledged is there, and whoever goes on trying is done in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use lakehold_proto::fault::Class;
use lakehold_proto::store::s3::{S3Config, S3Store};
use lakehold_proto::store::{Key, Put, Store};
use lakehold_tests::component::seaweed::WRITER;

use super::{LARGE, bucket, key, noise, until, weed};

const WRITERS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let mut weed = weed().await;
    let impatient = S3Config {
        attempts: 2.try_into().ok(),
        timeout: Some(Duration::from_secs(5)),
        ..bucket(&weed.endpoint, WRITER)
    };
    let store = S3Store::connect(impatient).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicU64::new(u64::MAX));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, done, enough) = (store.clone(), Arc::clone(&done), Arc::clone(&enough));
            tokio::spawn(async move {
                let (mut acknowledged, mut failures) = (Vec::new(), 0_u32);
                for n in (writer * 100_000).. {
                    if done.load(Ordering::SeqCst) >= enough.load(Ordering::SeqCst) {
                        break;
                    }
                    // Now and then one of parts.
                    let length = if n % 100_000 % 40 == 20 { LARGE } else { 20_000 };
                    let (key, body) = (key(&format!("packs/{n}")), noise(n, length));
                    loop {
                        match store.put_new(&key, body.clone()).await {
                            Ok(_) => break,
                            Err(fault) => {
                                assert!(fault.class == Class::Unavailable, "{fault}");
                                failures += 1;
                            }
                        }
                    }
                    acknowledged.push((key, n, length));
                    done.fetch_add(1, Ordering::SeqCst);
                }
                (acknowledged, failures)
            })
        })
        .collect();
    for round in 1..=3 {
        until("some are written", async || done.load(Ordering::SeqCst) >= round * 60).await;
        weed.kill();
        weed.restart().await;
    }
    enough.store(done.load(Ordering::SeqCst) + 60, Ordering::SeqCst);

    let (mut written, mut failures): (BTreeMap<Key, (u64, usize)>, u32) = Default::default();
    for writer in writers {
        let (acknowledged, failed) = writer.await.unwrap();
        written.extend(acknowledged.into_iter().map(|(key, n, length)| (key, (n, length))));
        failures += failed;
    }
    println!("{} objects acknowledged over three crashes, {failures} calls failed", written.len());
    assert!(failures > 0, "the crashes were felt");
    let listed: BTreeMap<_, _> =
        store.list("packs/").map_ok(|l| (l.key, l.size)).try_collect().await.unwrap();
    assert_eq!(listed.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (key, (n, length)) in written {
        assert_eq!(listed[&key], length as u64, "{key}");
        assert_eq!(store.get(&key).await.unwrap().unwrap(), noise(n, length), "{key}");
        assert_eq!(store.put_new(&key, "other".into()).await.unwrap(), Put::Existed, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_amid_an_upload_of_parts_shows_nothing_of_it() {
    let mut weed = weed().await;
    let config = S3Config { attempts: 2.try_into().ok(), ..bucket(&weed.endpoint, WRITER) };
    let store = S3Store::connect(config).await.unwrap();
    let large = key("packs/large");
    let (writer, path) = (store.clone(), large.clone());
    let put = tokio::spawn(async move { writer.put_new(&path, noise(9, 10 * LARGE)).await });
    let admin = weed.admin();
    until("an upload is open", async || super::open_uploads(&admin).await == 1).await;
    weed.kill();
    let fault = put.await.unwrap().unwrap_err();
    assert_eq!(fault.class, Class::Unavailable, "{fault}");
    weed.restart().await;
    assert!(store.get(&large).await.unwrap().is_none());
    assert_eq!(store.list("packs/").try_collect::<Vec<_>>().await.unwrap(), []);
    assert_eq!(store.put_new(&large, noise(9, LARGE)).await.unwrap(), Put::Created);
    assert_eq!(store.get(&large).await.unwrap().unwrap(), noise(9, LARGE));
}
