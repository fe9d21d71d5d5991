//! Damage of every sort is found, and blamed on the right items.

use std::sync::atomic::Ordering::Relaxed;

use super::{Meter, Request, Verified, verify};
use crate::snapshot::find::Found;
use crate::snapshot::fixture::{Made, Seed, Site, prod};
use crate::snapshot::list;

async fn run(site: &Site, percent: f64) -> Verified {
    let snapshots = list(&*site.store, &prod()).await.unwrap().into_iter().map(|one| (prod(), one)).collect();
    let meter = Meter::default();
    let found =
        verify(&site.store, &Request { snapshots, percent, whole_store: true }, &meter).await.unwrap();
    assert_eq!(meter.packs.load(Relaxed), meter.packs_read.load(Relaxed));
    assert_eq!(found.sound, found.snapshots.iter().all(|one| one.sound), "{found:?}");
    found
}

fn seeds() -> Vec<Seed> {
    let notebook =
        Seed::new("notebook", "/n", "/n", "{\"path\":\"/n\"}").content(&[b"one piece\n", b"and another\n"]);
    vec![notebook, Seed::new("job", "1", "nightly", "{\"name\":\"nightly\"}")]
}

async fn two(site: &Site) -> [Found; 2] {
    let first = site.snapshot(2, seeds(), Made::default()).await;
    let second = site.snapshot(4, seeds(), Made { base: Some(&first), ..Made::default() }).await;
    [first, second]
}

#[tokio::test]
async fn a_sound_store_is_sound_and_shared_packs_are_read_once() {
    let site = Site::new();
    two(&site).await;
    let found = run(&site, 100.0).await;
    assert!(found.sound, "{found:?}");
    assert_eq!((found.snapshots.len(), found.packs_read, found.frames), (2, 2, 4));
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let looked = run(&site, 0.0).await;
    assert!(looked.sound && looked.packs_read == 0);
}

#[tokio::test]
async fn a_flipped_byte_in_a_pack_is_blamed_on_its_items_and_snapshots() {
    let site = Site::new();
    let [first, second] = two(&site).await;
    assert_eq!(site.hurt("packs", 1), 2);
    let found = run(&site, 100.0).await;
    assert!(found.damage.iter().any(|damage| damage.code == "store.hash-mismatch"));
    assert_eq!(found.items_hurt, 2, "{:?}", found.items);
    let notebook = found.items.iter().find(|item| item.key == "/n").unwrap();
    assert_eq!(notebook.parts, ["content"], "the last frame of the pack is the content's");
    assert_eq!(notebook.snapshots, [first.manifest.snapshot, second.manifest.snapshot]);
    assert!(run(&site, 0.0).await.sound, "nothing was read");
}

#[tokio::test]
async fn a_lost_pack_is_found_even_when_nothing_is_read() {
    let site = Site::new();
    two(&site).await;
    std::fs::remove_file(&site.files("packs")[0]).unwrap();
    for percent in [0.0, 100.0] {
        let found = run(&site, percent).await;
        assert_eq!(found.damage[0].code, "store.missing-object");
        assert_eq!(found.items_hurt, 1);
    }
}

#[tokio::test]
async fn hurt_indexes_manifests_and_chains_are_found() {
    for prefix in ["indexes", "snapshots"] {
        let site = Site::new();
        two(&site).await;
        assert!(site.hurt(prefix, 3) > 0);
        let found = run(&site, 100.0).await;
        assert!(!found.sound && !found.damage.is_empty(), "{prefix}: {found:?}");
    }
    let site = Site::new();
    let [first, _] = two(&site).await;
    let manifest = &site.files("snapshots")[0];
    let text = std::fs::read_to_string(manifest).unwrap();
    std::fs::write(manifest, text.replace("\"program\": \"test\"", "\"program\": \"forged\"")).unwrap();
    let found = run(&site, 100.0).await;
    assert_eq!(found.damage[0].code, "manifest.chain", "{found:?}");
    assert!(found.snapshots.iter().any(|one| one.snapshot == first.manifest.snapshot && one.sound));
    let site = Site::new();
    two(&site).await;
    let manifest = &site.files("snapshots")[1];
    let text = std::fs::read_to_string(manifest).unwrap();
    let root = first.manifest.content_root.to_string();
    std::fs::write(manifest, text.replace(&root, &"0".repeat(64))).unwrap();
    assert_eq!(run(&site, 100.0).await.damage[0].code, "manifest.content-root");
}

#[tokio::test]
async fn what_belongs_to_no_snapshot_is_a_note() {
    let site = Site::new();
    two(&site).await;
    std::fs::write(site.dir.path().join("thesis.txt"), "x").unwrap();
    for file in site.files("snapshots") {
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
    let found = run(&site, 100.0).await;
    assert!(found.sound);
    let notes = found.notes.join("\n");
    assert!(notes.contains("2 packs") && notes.contains("thesis.txt"), "{notes}");
}
