//! What is said about what could not be had.

use std::collections::BTreeSet;

use lakehold_proto::format::Role;
use lakehold_proto::manifest::SnapshotState;
use lakehold_proto::outcome::Standing;
use lakehold_sim::{Effect, Fault, Mutation, When};

use super::{Scene, gaps, items, report};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_refused_names_the_permission() {
    let scene = Scene::of(200).await;
    scene.refuse("/api/2.0/pipelines", None, 403, "PERMISSION_DENIED");
    let manifest = scene.backup().await;
    let pipelines = report(&manifest, "pipeline");
    assert_eq!(pipelines.standing, Standing::Forbidden);
    assert!(pipelines.permission.as_ref().unwrap().contains("CAN_VIEW on every pipeline"));
    assert_eq!(pipelines.fault.as_ref().unwrap().http.as_ref().unwrap().status, 403);
    assert_eq!(manifest.state, SnapshotState::Partial);
    assert!(items(&manifest, "job") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_that_is_not_switched_on_is_no_gap() {
    let scene = Scene::of(200).await;
    scene.refuse("/api/2.0/lakeview/dashboards", None, 400, "FEATURE_DISABLED");
    scene.refuse("/api/2.0/sql/alerts", None, 404, "ENDPOINT_NOT_FOUND");
    let manifest = scene.backup().await;
    assert_eq!(report(&manifest, "dashboard").standing, Standing::NotEnabled);
    assert_eq!(report(&manifest, "legacy_alert").standing, Standing::Unsupported);
    assert_eq!((manifest.state, manifest.gaps()), (SnapshotState::Complete, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_comes_is_a_failed_kind_and_nothing_is_taken_for_deleted() {
    let scene = Scene::of(200).await;
    let first = scene.backup().await;
    scene.refuse("/api/2.0/policies/clusters/list", None, 400, "INVALID_PARAMETER_VALUE");
    let second = scene.backup().await;
    let policies = report(&second, "cluster_policy");
    assert_eq!((policies.standing, policies.counts.gone), (Standing::Failed, 0));
    assert!(items(&first, "cluster_policy") > 0);
    assert!(!second.is_good());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_listed_is_a_hole_of_its_own_size() {
    let scene = Scene::of(600).await;
    let first = scene.backup().await;
    let notebooks = scene.of_kind(&first, "notebook").await;
    let home = notebooks.iter().map(|entry| &entry.name).find(|name| name.starts_with("/Users/")).unwrap();
    let home = home.split('/').take(3).collect::<Vec<_>>().join("/");
    scene.refuse("/api/2.0/workspace/list", Some(&format!("path={home}")), 403, "PERMISSION_DENIED");
    let second = scene.backup().await;
    assert_eq!(second.totals().gone, 0, "unknown is not deleted");
    let inside = notebooks.iter().filter(|entry| entry.name.starts_with(&format!("{home}/"))).count() as u64;
    assert!(inside > 0);
    assert!(items(&second, "notebook") >= items(&first, "notebook") - inside);
    assert!(report(&second, "notebook").counts.unlisted >= 1);
    assert_eq!(report(&second, "notebook").standing, Standing::Captured);
    assert_eq!(second.state, SnapshotState::Partial);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_cannot_be_read_are_gaps_with_what_the_server_said() {
    let scene = Scene::of(200).await;
    let first = scene.backup().await;
    let job = scene.of_kind(&first, "job").await.remove(0);
    let pool = scene.of_kind(&first, "instance_pool").await.remove(0);
    scene.refuse("/api/2.2/jobs/get", Some(&format!("job_id={}", job.key)), 403, "PERMISSION_DENIED");
    scene.refuse(
        &format!("/api/2.0/permissions/instance-pools/{}", pool.key),
        None,
        400,
        "INVALID_PARAMETER_VALUE",
    );
    let second = scene.backup().await;
    let found = gaps(&scene, &second).await;
    let roles: Vec<_> = found.iter().map(|(kind, _, gap)| (kind.as_str(), gap.role)).collect();
    assert_eq!(roles, [("instance_pool", Role::Permissions), ("job", Role::Object)]);
    for (_, _, gap) in &found {
        assert_eq!(gap.last_good, Some(first.snapshot));
        assert!(gap.fault.http.as_ref().unwrap().request_id.is_some());
    }
    assert_eq!((second.totals().gone, second.totals().changed), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_while_it_is_read_is_neither_item_nor_gap() {
    let scene = Scene::of(300).await;
    let first = scene.backup().await;
    let mutation = Mutation { kind: "job".into(), create: 0, edit: 0, delete: 3, seed: 5 };
    shift(&scene, "/api/2.2/jobs/list", mutation);
    let second = scene.backup().await;
    assert_eq!(items(&second, "job"), items(&first, "job") - 3);
    assert_eq!((report(&second, "job").counts.gone, second.gaps()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_come_and_go_while_they_are_listed_hide_nobody() {
    let scene = Scene::counts(&[("user", 1300), ("group", 20)]).await;
    let first = scene.backup().await;
    let deleted = 60;
    let mutation = Mutation { kind: "user".into(), create: 5, edit: 10, delete: deleted, seed: 3 };
    shift(&scene, "/api/2.0/preview/scim/v2/Users", mutation);
    let shaken = scene.backup().await;
    let calm = scene.backup().await;
    assert_eq!((shaken.gaps(), calm.gaps()), (0, 0));
    // Whoever left after the first page was read may still have been seen.
    let gone = [&shaken, &calm].map(|manifest| report(manifest, "user").counts.gone);
    assert_eq!(gone.iter().sum::<u64>(), deleted as u64, "those who left, and nobody else: {gone:?}");
    let keys = async |manifest| -> BTreeSet<String> {
        scene.of_kind(manifest, "user").await.into_iter().map(|entry| entry.key).collect()
    };
    let (before, during, after) = (keys(&first).await, keys(&shaken).await, keys(&calm).await);
    assert!(
        after.is_subset(&during),
        "{} of {} were passed over",
        after.difference(&during).count(),
        after.len()
    );
    assert!(during.difference(&after).all(|key| before.contains(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_folder_without_a_remote_is_captured_with_what_it_holds() {
    let scene = Scene::counts(&[("user", 2), ("repo", 8)]).await;
    let first = scene.backup().await;
    assert_eq!((first.gaps(), items(&first, "repo")), (0, 8));
    let mut local = BTreeSet::new();
    for repo in scene.of_kind(&first, "repo").await {
        let inside = |name: &str| name.starts_with(&format!("{}/", repo.name));
        let notebooks = scene.of_kind(&first, "notebook").await;
        let files = scene.of_kind(&first, "workspace_file").await;
        let held =
            [notebooks, files].concat().into_iter().filter(|entry| inside(&entry.name)).collect::<Vec<_>>();
        if !held.is_empty() {
            assert_eq!(held.len(), 2, "{}", repo.name);
            assert!(held.iter().all(|entry| entry.part(Role::Content).is_some()));
            local.insert(repo.key);
        }
    }
    assert_eq!(local.len(), 1, "the others have another copy");
    let again = scene.backup().await;
    assert_eq!((again.content_root, again.run.figures.packs), (first.content_root, 0));
    // Where nobody can tell whether there is a remote, the copy here may be the only one.
    let local = local.first().unwrap();
    scene.refuse(&format!("/api/2.0/repos/{local}"), None, 403, "PERMISSION_DENIED");
    let blind = scene.backup().await;
    assert_eq!((blind.totals().gone, blind.gaps()), (0, 1));
    for kind in ["notebook", "workspace_file"] {
        assert_eq!(items(&blind, kind), items(&first, kind), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_nested_too_deeply_keeps_its_key_and_its_bytes() {
    let scene = Scene::of(200).await;
    let first = scene.backup().await;
    for path in ["/api/2.0/workspace/list", "/api/2.2/jobs/list", "/api/2.0/policies/clusters/list"] {
        scene
            .sim
            .add_fault(Fault {
                method: None,
                path: Some(path.into()),
                query: None,
                workspace: None,
                nth: 1,
                times: 0,
                when: When::Before,
                effect: Effect::Nest { levels: 300 },
            })
            .unwrap();
    }
    let deep = scene.backup().await;
    assert_eq!((deep.state, deep.gaps(), deep.totals().gone, deep.totals().new), (first.state, 0, 0, 0));
    for kind in ["directory", "notebook", "workspace_file", "job", "cluster_policy"] {
        assert_eq!(items(&deep, kind), items(&first, kind), "{kind}");
    }
    let policies = scene.of_kind(&deep, "cluster_policy").await;
    let hurt: Vec<_> = policies.iter().filter(|entry| !entry.degraded.is_empty()).collect();
    assert!(hurt.len() == 1 && hurt[0].degraded[0].contains("nested too deeply"), "{hurt:?}");
    assert!(hurt[0].part(Role::Object).is_some() && hurt[0].part(Role::Permissions).is_some());
    assert_eq!(report(&deep, "cluster_policy").counts.degraded, 1);
    let again = scene.backup().await;
    assert_eq!((again.content_root, again.run.figures.packs), (deep.content_root, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_metastore_its_kinds_are_not_enabled_and_not_asked_for() {
    let scene = Scene::of(200).await;
    for path in ["metastore_summary", "current-metastore-assignment"] {
        let path = format!("/api/2.1/unity-catalog/{path}");
        scene.refuse(&path, None, 404, "METASTORE_DOES_NOT_EXIST");
    }
    let (calls, manifest) = scene.counted().await;
    for kind in ["catalog", "schema", "table", "volume", "connection", "storage_credential"] {
        assert_eq!(report(&manifest, kind).standing, Standing::NotEnabled, "{kind}");
    }
    assert_eq!(
        calls.count(|call| call.path.contains("unity-catalog") && !call.path.contains("metastore")),
        0
    );
    assert_eq!(manifest.state, SnapshotState::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_tried_again() {
    let scene = Scene::of(200).await;
    for path in ["/api/2.2/jobs/get", "/api/2.0/workspace/export", "/api/2.0/workspace/list"] {
        scene
            .sim
            .add_fault(Fault {
                method: None,
                path: Some(path.into()),
                query: None,
                workspace: None,
                nth: 2,
                times: 3,
                when: When::Before,
                effect: Effect::Truncate { keep: 20, honest_length: false },
            })
            .unwrap();
    }
    let manifest = scene.backup().await;
    assert_eq!((manifest.state, manifest.gaps()), (SnapshotState::Complete, 0));
}

/// Changes the workspace when the first page of a listing was read.
fn shift(scene: &Scene, path: &str, mutation: Mutation) {
    let fault = Fault {
        method: Some("GET".into()),
        path: Some(path.into()),
        query: None,
        workspace: None,
        nth: 1,
        times: 1,
        when: When::After,
        effect: Effect::Mutate(mutation),
    };
    scene.sim.add_fault(fault).unwrap();
}
