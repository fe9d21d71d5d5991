//! What was asked for, and nothing else.

use std::collections::BTreeSet;

use lakehold_proto::ids::Kind;
use lakehold_proto::outcome::Standing;
use lakehold_proto::plan::Selection;

use super::{Scene, items, report};

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_makes_the_calls_of_that_kind() {
    let scene = Scene::of(300).await;
    scene.sim.reset_calls();
    let manifest = scene.backup_of(Selection { kinds: vec![Kind::of("job")], ..Selection::default() }).await;
    assert!(items(&manifest, "job") > 0);
    let others = manifest.kinds.iter().filter(|report| report.kind.as_str() != "job");
    assert!(others.clone().all(|report| report.standing == Standing::Excluded && report.rule.is_some()));
    let elsewhere = scene.sim.calls().count(|call| {
        !["/jobs/", "/permissions/jobs/", "/permissions/{", "/scim/", "metastore", "well-known"]
            .iter()
            .any(|part| call.path.contains(part))
    });
    assert_eq!(elsewhere, 0, "{:#?}", scene.sim.calls().calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_although_their_parents_are_not_asked_for() {
    let scene = Scene::of(300).await;
    let whole = scene.backup().await;
    let tables = scene.backup_of(Selection { kinds: vec![Kind::of("table")], ..Selection::default() }).await;
    assert_eq!(items(&tables, "table"), items(&whole, "table"));
    assert_eq!((items(&tables, "schema"), items(&tables, "volume")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_scope_leaves_out_jobs_and_notebooks() {
    let scene = Scene::of(300).await;
    let manifest = scene.backup_of(Selection { shared: true, ..Selection::default() }).await;
    for kind in ["job", "notebook"] {
        assert_eq!(
            (report(&manifest, kind).standing, items(&manifest, kind)),
            (Standing::Excluded, 0),
            "{kind}"
        );
    }
    assert!(items(&manifest, "cluster_policy") > 0 && items(&manifest, "directory") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_takes_its_subtree_and_lists_little_else() {
    let scene = Scene::of(600).await;
    let whole = scene.backup().await;
    let paths: BTreeSet<_> =
        scene.of_kind(&whole, "notebook").await.into_iter().map(|entry| entry.name).collect();
    let home = paths.iter().find(|path| path.starts_with("/Users/")).unwrap();
    let home: String = home.split('/').take(3).collect::<Vec<_>>().join("/");
    scene.sim.reset_calls();
    let kinds = ["directory", "notebook", "workspace_file"].map(Kind::of).to_vec();
    let narrow =
        scene.backup_of(Selection { kinds, paths: vec![home.clone()], ..Selection::default() }).await;
    let expected: BTreeSet<_> =
        paths.iter().filter(|path| path.starts_with(&format!("{home}/"))).cloned().collect();
    let found: BTreeSet<_> =
        scene.of_kind(&narrow, "notebook").await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(found, expected);
    let listed = super::made(&scene.sim.calls(), "/api/2.0/workspace/list");
    assert_eq!(listed, items(&narrow, "directory") + 2, "the root and /Users lead there");
}
