//! Damage of every sort is found, and blamed on the right items.

use lakehold_proto::clock::SystemClock;
use lakehold_proto::fault::Result;
use tokio::sync::watch;

use super::{Request, Verified, Verify};
use crate::embedded::Embedded;
use crate::engine::view::RunView;
use crate::snapshot::find::Found;
use crate::snapshot::fixture::{Made, Seed, Site, prod};
use crate::snapshot::list;

async fn carry_out(site: &Site, request: &Request) -> Result<Verified> {
    let engine = Embedded::reading(site.store.clone(), SystemClock::shared());
    let verify = Verify { backup: &engine.backup };
    let (_going, stop) = watch::channel(false);
    verify.carry_out(verify.prepare(request).await?, &RunView::default(), stop).await
}

async fn all(site: &Site, percent: f64) -> Request {
    let snapshots = list(&*site.store, &prod()).await.unwrap().into_iter().map(|one| (prod(), one)).collect();
    Request { snapshots, percent, whole_store: true, resume: false }
}

async fn run(site: &Site, percent: f64) -> Verified {
    let found = carry_out(site, &all(site, percent).await).await.unwrap();
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

#[tokio::test]
async fn what_was_left_is_gone_on_with_and_nothing_is_read_twice() {
    let site = Site::new();
    two(&site).await;
    let request = all(&site, 100.0).await;
    let engine = Embedded::reading(site.store.clone(), SystemClock::shared());
    let verify = Verify { backup: &engine.backup };
    // Everything is read, and whoever coordinates dies before the record is written.
    let prepared = verify.prepare(&request).await.unwrap();
    assert!(!prepared.resumed && prepared.packs() == [(prod(), Some(2))]);
    let plan = prepared.planned.as_ref().unwrap().plan.clone();
    engine.backup.open(prepared.planned.as_ref().unwrap()).await.unwrap();
    let again = verify.prepare(&request).await.unwrap();
    assert!(again.resumed, "of the same request, and young");
    assert_eq!(again.planned.as_ref().unwrap().plan, plan);
    let narrower = Request { percent: 50.0, ..request.clone() };
    assert!(!verify.prepare(&narrower).await.unwrap().resumed, "another request is another run");
    let asked = Request { resume: true, ..narrower.clone() };
    assert!(verify.prepare(&asked).await.unwrap().resumed, "unless a person asked to go on");
    let (_going, stop) = watch::channel(false);
    let found = verify.carry_out(again, &RunView::default(), stop).await.unwrap();
    assert!(found.sound && found.run == Some(plan.run) && found.packs_read == 2, "{found:?}");
    let fault = verify.prepare(&asked).await.unwrap_err();
    assert_eq!(fault.code, "run.nothing-to-resume");
    assert!(run(&site, 100.0).await.sound, "records of earlier verifies are looked at, too");
}

#[tokio::test]
async fn a_body_of_sound_frames_in_a_wrong_order_is_found() {
    let site = Site::new();
    let swapped = site.snapshot(2, vec![seeds().remove(0).swapped()], Made::default()).await;
    let found = run(&site, 100.0).await;
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
    assert_eq!(found.damage[0].code, "item.hash-mismatch");
    assert_eq!(
        (found.items[0].key.as_str(), &found.items[0].snapshots[..]),
        ("/n", &[swapped.manifest.snapshot][..])
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_not_sound() {
    let site = Site::new();
    two(&site).await;
    let pack = site.files("packs")[0].clone();
    std::fs::remove_file(&pack).unwrap();
    // What is there is no file that could be read, whoever asks.
    std::fs::create_dir(&pack).unwrap();
    let found = carry_out(&site, &all(&site, 100.0).await).await.unwrap();
    assert!(!found.sound && found.damage.is_empty(), "{found:?}");
    assert_eq!(found.unread.len(), 1, "{found:?}");
    assert!(found.unread.first().unwrap().starts_with("prod: read packs/"), "{found:?}");
    assert!(found.snapshots.iter().all(|one| !one.sound), "what was not read may be any one's: {found:?}");
}

#[tokio::test]
async fn a_frame_that_lies_nowhere_is_damage_and_its_item_is_hurt() {
    let site = Site::new();
    let lost = site.snapshot(2, vec![seeds().remove(1).astray()], Made::default()).await;
    let found = run(&site, 100.0).await;
    assert_eq!((found.damage.len(), found.items_hurt), (1, 1), "{found:?}");
    assert!(found.damage[0].object.starts_with("indexes/"), "{found:?}");
    assert_eq!(found.items[0].snapshots, [lost.manifest.snapshot]);
}

#[tokio::test]
async fn what_this_program_cannot_open_is_not_sound() {
    let site = Site::new();
    site.snapshot(2, vec![seeds().remove(1).sealed()], Made::default()).await;
    let found = run(&site, 100.0).await;
    assert!(!found.sound && found.damage.is_empty() && found.unread.len() == 1, "{found:?}");
}
