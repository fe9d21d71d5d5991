//! Finding snapshots and items, and reading what is in them.

use futures::TryStreamExt as _;
use lakehold_proto::address::{Address, When};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::plan::Selection;

use super::find::{environments, find, find_in};
use super::fixture::{Made, Seed, Site, prod};
use super::items::{find_item, read_part, read_whole};

fn address(text: &str) -> Address {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn job(key: &str, name: &str) -> Seed {
    Seed::new("job", key, name, &format!("{{\"name\":\"{key}\"}}"))
}

#[tokio::test]
async fn latest_and_times_pass_over_scoped_snapshots_and_ids_do_not() {
    let site = Site::new();
    let full = site.snapshot(2, vec![job("1", "a")], Made::default()).await.manifest.snapshot;
    let later = site.snapshot(4, vec![job("1", "a")], Made::default()).await.manifest.snapshot;
    let selection = Selection { kinds: vec![Kind::of("job")], ..Selection::default() };
    let scoped =
        site.snapshot(6, vec![job("1", "a")], Made { selection, ..Made::default() }).await.manifest.snapshot;
    let found = async |text: &str| find(&*site.store, &address(text)).await.map(|f| f.manifest.snapshot);
    assert_eq!(found("prod").await.unwrap(), later);
    assert_eq!(found("prod@2026-08-01").await.unwrap(), later);
    assert_eq!(found("prod@2026-08-01T03:59Z").await.unwrap(), full);
    assert_eq!(found("prod@20260801T020000Z").await.unwrap(), full);
    assert_eq!(found(&format!("prod@{}", scoped.short())).await.unwrap(), scoped);
    for (text, code) in [
        ("prod@2026-08-01T01:59Z", "snapshot.absent"),
        ("prod@ffff", "snapshot.absent"),
        ("prod@019f", "snapshot.ambiguous"),
        ("dev", "snapshot.absent"),
        ("live:prod", "address.live"),
    ] {
        let when = find(&*site.store, &address(text)).await.unwrap_err();
        assert_eq!(when.code, code, "{text}: {when}");
    }
    assert_eq!(environments(&*site.store, "snapshots/").await.unwrap(), [prod()]);
}

#[tokio::test]
async fn a_damaged_latest_manifest_is_not_passed_over_in_silence() {
    let site = Site::new();
    site.snapshot(2, vec![job("1", "a")], Made::default()).await;
    site.snapshot(4, vec![job("1", "a")], Made::default()).await;
    let newest = site.files("snapshots").pop().unwrap();
    std::fs::write(newest, "{").unwrap();
    let fault = find_in(&*site.store, &prod(), &When::Latest).await.unwrap_err();
    assert_eq!(fault.exit_code(), 5, "{fault}");
    assert!(find_in(&*site.store, &prod(), &When::At("2026-08-01T03:00:00Z".parse().unwrap())).await.is_ok());
}

#[tokio::test]
async fn twins_and_hostile_names_are_addressed() {
    let site = Site::new();
    let names = ["nightly", "../../etc", "a\nb", "x#1", "/a: b@c", "🦆\u{202e}"];
    let mut seeds: Vec<_> = names.iter().enumerate().map(|(n, name)| job(&n.to_string(), name)).collect();
    seeds.push(job("9", "nightly"));
    let manifest = site.snapshot(2, seeds, Made::default()).await.manifest;
    let find = async |text: &str| {
        let item = address(&format!("prod:job/{text}")).item.unwrap();
        find_item(&*site.store, &manifest, &item).await.map(|item| item.entry.key)
    };
    for (n, name) in names.iter().enumerate().skip(1) {
        assert_eq!(find(name).await.unwrap(), n.to_string(), "{name:?}");
        assert_eq!(find(&format!("#{n}")).await.unwrap(), n.to_string());
    }
    let twins = find("nightly").await.unwrap_err();
    assert_eq!(twins.code, "item.ambiguous");
    assert!(twins.hint.unwrap().contains("job/nightly#0, job/nightly#9"));
    assert_eq!(find("nightly#9").await.unwrap(), "9");
    let near = find("nightlyy").await.unwrap_err();
    assert_eq!((near.code, near.hint.as_deref()), ("item.absent", Some("did you mean job/nightly?")));
    let unknown =
        find_item(&*site.store, &manifest, &address("prod:jobs/x").item.unwrap()).await.unwrap_err();
    assert!(unknown.hint.unwrap().contains("its kinds are job"));
}

#[tokio::test]
async fn a_body_reads_back_and_a_hurt_one_does_not() {
    let site = Site::new();
    let pieces: [&[u8]; 3] = [b"first ", b"", b"\x00\xff last"];
    let manifest = site.snapshot(2, vec![job("1", "a").content(&pieces)], Made::default()).await.manifest;
    let item = find_item(&*site.store, &manifest, &address("prod:job/a").item.unwrap()).await.unwrap();
    let part = item.entry.part(Role::Content).unwrap();
    assert_eq!(read_whole(&site.store, &item, part, 1000).await.unwrap(), pieces.concat());
    assert_eq!(read_whole(&site.store, &item, part, 5).await.unwrap_err().code, "item.large");
    let mut swapped = part.clone();
    swapped.frames.swap(0, 2);
    let read: Result<Vec<_>, _> =
        read_part(site.store.clone(), item.index.clone(), swapped).try_collect().await;
    assert_eq!(read.unwrap_err().code, "item.hash-mismatch", "sound frames in a wrong order are no body");
    site.hurt("packs", 1);
    assert_eq!(read_whole(&site.store, &item, part, 1000).await.unwrap_err().exit_code(), 5);
}
