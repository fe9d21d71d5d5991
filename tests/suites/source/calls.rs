//! What it takes: no call that is not needed.

use lakehold_proto::ids::Kind;
use lakehold_sim::CallReport;

use super::{Scene, items, made, report};

/// Kinds with an access list at `/api/2.0/permissions`.
const WITH_PERMISSIONS: [&str; 14] = [
    "alert",
    "cluster",
    "cluster_policy",
    "dashboard",
    "directory",
    "instance_pool",
    "job",
    "legacy_alert",
    "notebook",
    "pipeline",
    "query",
    "repo",
    "sql_warehouse",
    "workspace_file",
];

const WITH_GRANTS: [&str; 9] = [
    "catalog",
    "connection",
    "external_location",
    "function",
    "registered_model",
    "schema",
    "storage_credential",
    "table",
    "volume",
];

fn in_family(calls: &CallReport, part: &str) -> u64 {
    calls.count(|call| call.path.contains(part))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_asked_for_once() {
    let scene = Scene::of(600).await;
    let (calls, manifest) = scene.counted().await;
    let of = |kinds: &[&str]| kinds.iter().map(|kind| items(&manifest, kind)).sum::<u64>();
    assert_eq!(in_family(&calls, "/api/2.0/permissions/"), of(&WITH_PERMISSIONS));
    // A page of grants may be empty and still not be the last (one in 23 here), which nobody can know beforehand.
    let grants = of(&WITH_GRANTS);
    assert!((grants..=grants + grants / 10).contains(&in_family(&calls, "/unity-catalog/permissions/")));
    assert_eq!(made(&calls, "/api/2.0/workspace/list"), of(&["directory"]));
    assert_eq!(made(&calls, "/api/2.0/workspace/export"), of(&["notebook", "workspace_file"]));
    assert_eq!(made(&calls, "/api/2.0/libraries/cluster-status"), of(&["cluster"]));
    assert_eq!(made(&calls, "/api/2.0/pipelines/{id}"), of(&["pipeline"]));
    assert_eq!(made(&calls, "/api/2.0/sql/queries/{id}"), of(&["query"]));
    assert_eq!(calls.throttled, 0);
    let refused = calls.count(|call| call.status >= 400 && !call.path.ends_with("/published"));
    assert_eq!(refused, 0, "{:#?}", calls.calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_workspace_costs_lists_access_lists_and_bodies_without_a_stamp() {
    let scene = Scene::of(600).await;
    let first = scene.backup().await;
    let (calls, second) = scene.counted().await;
    assert_eq!(second.content_root, first.content_root);
    assert_eq!(second.run.figures.packs, 0);
    assert_eq!((second.totals().new, second.totals().changed, second.totals().gone), (0, 0, 0));
    for stamped in [
        "/api/2.0/workspace/export",
        "/api/2.0/sql/queries/{id}",
        "/api/2.0/sql/alerts/{id}",
        "/api/2.0/alerts/{id}",
        "/api/2.0/lakeview/dashboards/{id}",
        "/api/2.0/global-init-scripts/{id}",
    ] {
        assert_eq!(made(&calls, stamped), 0, "{stamped}");
    }
    assert!(made(&calls, "/api/2.2/jobs/get") >= items(&second, "job"), "jobs have no stamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_fetches_everything_again() {
    let scene = Scene::of(200).await;
    scene.backup().await;
    scene.sim.reset_calls();
    let selection = lakehold_proto::plan::Selection { full: true, ..Default::default() };
    let manifest = scene.backup_of(selection).await;
    let exported = made(&scene.sim.calls(), "/api/2.0/workspace/export");
    assert_eq!(exported, items(&manifest, "notebook") + items(&manifest, "workspace_file"));
    assert_eq!(manifest.run.figures.packs, 0, "and stores nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_and_only_they_are_fetched() {
    let scene = Scene::of(600).await;
    scene.backup().await;
    scene.mutate("notebook", 2, 3, 1);
    scene.mutate("job", 0, 2, 1);
    scene.mutate("query", 1, 1, 0);
    let (calls, manifest) = scene.counted().await;
    let counts = |kind: &str| {
        let counts = report(&manifest, kind).counts;
        (counts.new, counts.changed, counts.gone)
    };
    assert_eq!(counts("notebook"), (2, 3, 1));
    assert_eq!(counts("job"), (0, 2, 1));
    assert_eq!(counts("query"), (1, 1, 0));
    assert_eq!(made(&calls, "/api/2.0/workspace/export"), 5);
    assert_eq!(made(&calls, "/api/2.0/sql/queries/{id}"), 2);
    assert_eq!(manifest.gaps(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_foretells_the_calls() {
    let scene = Scene::of(300).await;
    scene.backup().await;
    let engine = scene.site.engine();
    // The plan holds the environment's lock as long as it lives.
    let estimate = {
        let planned = engine.backup.plan(&lakehold_tests::site::request()).await.unwrap();
        planned.plan.environments[0].estimate.clone()
    };
    engine.drain().await;
    let (_, manifest) = scene.counted().await;
    let made = manifest.run.figures.calls_made() as f64;
    let foretold = estimate.calls.values().sum::<u64>() as f64;
    assert!((foretold / made - 1.0).abs() < 0.1, "{foretold} foretold, {made} made");
    assert_eq!(estimate.items, Some(manifest.totals().items));
    assert!(manifest.by_kind().contains_key(&Kind::of("job")));
}
