//! What is captured.

use std::collections::BTreeSet;

use lakehold::snapshot::page;
use lakehold_proto::config::NotebookFormat;
use lakehold_proto::format::Role;
use lakehold_proto::manifest::{Manifest, SnapshotState};
use lakehold_proto::outcome::Standing;
use lakehold_sim::{Population, SimConfig};

use super::{Scene, gaps, items, made, report};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_captured_without_a_gap() {
    let scene = Scene::of(600).await;
    let manifest = scene.backup().await;
    assert_eq!(gaps(&scene, &manifest).await, []);
    let not_captured: Vec<_> =
        manifest.kinds.iter().filter(|kind| kind.standing != Standing::Captured).collect();
    assert!(not_captured.is_empty(), "{not_captured:#?}");
    let empty: Vec<_> =
        manifest.kinds.iter().filter(|kind| kind.counts.items == 0).map(|k| &k.kind).collect();
    assert!(empty.is_empty(), "{empty:?}");
    assert_eq!(manifest.state, SnapshotState::Complete);
    scene.site.read_all(&manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_have_the_parts_their_kind_promises() {
    let scene = Scene::of(600).await;
    let manifest = scene.backup().await;
    let roles = |kind: &'static str| {
        let (scene, manifest) = (&scene, &manifest);
        async move {
            let entries = scene.of_kind(manifest, kind).await;
            entries
                .iter()
                .map(|entry| entry.parts.iter().map(|part| part.role).collect::<Vec<_>>())
                .collect::<BTreeSet<_>>()
        }
    };
    let all = [Role::Object, Role::Content, Role::Permissions];
    for (kind, expected) in [
        ("notebook", &all[..]),
        ("workspace_file", &all),
        ("cluster", &all),
        ("secret_scope", &all),
        ("global_init_script", &all[..2]),
        ("job", &[Role::Object, Role::Permissions]),
        ("directory", &[Role::Object, Role::Permissions]),
        ("table", &[Role::Object, Role::Permissions]),
        ("user", &[Role::Object]),
        ("entitlements", &[Role::Object]),
    ] {
        assert_eq!(roles(kind).await, BTreeSet::from([expected.to_vec()]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_workspace_is_captured_too() {
    let scene = Scene::new(SimConfig { population: Population::Empty, ..SimConfig::default() }).await;
    let manifest = scene.backup().await;
    assert_eq!((manifest.state, manifest.gaps()), (SnapshotState::Complete, 0));
    let names = |kind: &'static str| {
        let (scene, manifest) = (&scene, &manifest);
        async move {
            scene.of_kind(manifest, kind).await.into_iter().map(|entry| entry.name).collect::<BTreeSet<_>>()
        }
    };
    assert!(names("group").await.is_superset(&BTreeSet::from(["admins".into(), "users".into()])));
    assert!(names("sql_warehouse").await.contains("Serverless Starter Warehouse"));
    assert!(names("directory").await.contains("/"));
    let catalogs = names("catalog").await;
    assert!(catalogs.contains("main") && !catalogs.contains("system"), "{catalogs:?}");
    assert!(names("schema").await.iter().all(|name| !name.ends_with(".information_schema")));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_bodies_are_data() {
    let config = SimConfig { population: Population::Items(300), hostile: true, ..SimConfig::default() };
    let scene = Scene::new(config).await;
    let manifest = scene.backup().await;
    // A notebook above the export limit is the only thing that cannot be had, and it says so.
    for (kind, name, gap) in gaps(&scene, &manifest).await {
        assert_eq!(gap.fault.code, "http.too-large", "{kind} {name:?}: {gap:?}");
    }
    assert_eq!(manifest.totals().unlisted, 0);
    scene.site.read_all(&manifest).await;
    let again = scene.backup().await;
    assert_eq!(again.content_root, manifest.content_root);
}

#[tokio::test(flavor = "multi_thread")]
async fn notebooks_are_exported_in_the_form_asked_for() {
    let config = SimConfig { population: Population::Items(300), hostile: true, ..SimConfig::default() };
    let scene = Scene::with(config, NotebookFormat::Jupyter).await;
    let manifest = scene.backup().await;
    for entry in scene.of_kind(&manifest, "notebook").await {
        let Some(content) = entry.part(Role::Content) else {
            assert_eq!(entry.gaps[0].fault.code, "http.too-large");
            continue;
        };
        let degraded = content.format.as_deref() == Some("source");
        assert!(degraded || content.format.as_deref() == Some("jupyter"));
        assert!(!degraded || !entry.degraded.is_empty(), "a lesser form gives its reason");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_listings_go_into_buckets_and_stay_there() {
    let scene = Scene::counts(&[("job", 1100)]).await;
    let first = scene.backup().await;
    assert_eq!(items(&first, "job"), 1100);
    scene.mutate("job", 0, 0, 900);
    let second = scene.backup().await;
    let counts = report(&second, "job").counts;
    assert_eq!((counts.items, counts.gone, counts.new, counts.changed), (200, 900, 0, 0));
    assert_eq!(gaps(&scene, &second).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_slices_of_the_tree_go_into_buckets() {
    let scene =
        Scene::counts(&[("user", 1), ("directory", 2), ("notebook", 1500), ("workspace_file", 700)]).await;
    let first = scene.backup().await;
    assert!(items(&first, "notebook") >= 1500 && items(&first, "workspace_file") >= 700);
    assert_eq!((first.gaps(), first.state), (0, SnapshotState::Complete));
    let second = scene.backup().await;
    assert_eq!((second.content_root, second.run.figures.packs), (first.content_root, 0));
}

/// The indexes that a snapshot names, as (task's kind, cut or not, hash).
async fn indexes(scene: &Scene, manifest: &Manifest) -> BTreeSet<(String, bool, String)> {
    let mut found = BTreeSet::new();
    for named in &manifest.pages {
        for index in page(&*scene.site.store, named).await.unwrap().indexes {
            found.insert((index.by.to_string(), index.shard.bucket.is_some(), index.sha256.to_string()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_thousands_is_walked_by_many_tasks_and_always_the_same() {
    let scene = Scene::counts(&[("user", 1), ("crowded_directory", 5000)]).await;
    let (calls, first) = scene.counted().await;
    assert_eq!((first.gaps(), first.state), (0, SnapshotState::Complete));
    assert_eq!(made(&calls, "/api/2.0/workspace/list"), items(&first, "directory"), "each is listed once");
    assert!(items(&first, "directory") > 5000 && items(&first, "workspace_file") >= 1000);
    let parts = indexes(&scene, &first).await;
    // The outer crowd is cut; its inner one lies in one of the parts, and is cut again.
    assert!(parts.iter().filter(|(by, cut, _)| by == "repo" && *cut).count() >= 16, "{parts:#?}");
    let second = scene.backup().await;
    assert_eq!((second.content_root, second.run.figures.packs), (first.content_root, 0));
    assert_eq!(indexes(&scene, &second).await, parts, "what did not change has the same names");
    scene.mutate("crowded_directory", 20, 0, 30);
    let third = scene.backup().await;
    let counts = report(&third, "directory").counts;
    assert_eq!((counts.new, counts.gone, counts.changed, third.gaps()), (20, 30, 0, 0));
    let kept = indexes(&scene, &third).await.intersection(&parts).count();
    assert!(kept > 0, "and most of it still has");
    scene.site.read_all(&third).await;
}
