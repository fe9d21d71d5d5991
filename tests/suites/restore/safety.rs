//! What a restore must not do: start things, touch what is shared, guess, take away what it did not make.

use std::collections::BTreeMap;

use lakehold::engine::view::RunView;
use lakehold::restore::Restore;
use lakehold::restore::decisions::Action;
use lakehold::restore::drill::Objectives;
use lakehold::restore::planner::Ask;
use lakehold::restore::select::Wanted;
use lakehold_proto::fault::Class;
use lakehold_proto::ids::Kind;
use lakehold_proto::restore::{Crossing, Mapping};
use lakehold_sim::{Effect, Fault, IdentitySpec, Mutation, Population, Shape, SimConfig, When};
use lakehold_tests::two::{Two, carry_out, items, with};
use serde_json::{Value, json};
use tokio::sync::watch;

fn counts(counts: &[(&str, usize)]) -> SimConfig {
    let counts = counts.iter().map(|&(kind, count)| (kind.to_owned(), count)).collect();
    SimConfig { population: Population::Counts(counts), ..SimConfig::default() }
}

fn empty() -> SimConfig {
    SimConfig { population: Population::Empty, seed: 7_700, ..SimConfig::default() }
}

fn only(items: &[&str]) -> Wanted {
    Wanted { items: items.iter().map(|item| (*item).to_owned()).collect(), ..Wanted::default() }
}

async fn listed(url: &str, path: &str, items: &str) -> Vec<Value> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{url}{path}")).bearer_auth("sim").send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer[items].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn nothing_starts_by_itself_in_another_workspace() {
    let two = Two::new(
        counts(&[
            ("user", 4),
            ("job", 12),
            ("instance_pool", 4),
            ("cluster", 6),
            ("warehouse", 3),
            ("pipeline", 4),
            ("notebook", 5),
        ]),
        empty(),
    )
    .await;
    let from = two.backup("prod").await;
    let passive = Ask { crossing: Crossing { passive: true, ..Crossing::default() }, ..two.all() };
    two.restore(&from, "dr", passive).await.unwrap();
    let url = two.dr.url(0);
    let jobs = listed(&url, "/api/2.2/jobs/list?limit=100&expand_tasks=true", "jobs").await;
    let status: Vec<_> =
        jobs.iter().filter_map(|job| job["settings"]["schedule"]["pause_status"].as_str()).collect();
    assert!(!status.is_empty() && status.iter().all(|status| *status == "PAUSED"), "{status:?}");
    let pools = listed(&url, "/api/2.0/instance-pools/list", "instance_pools").await;
    assert!(pools.len() == 4 && pools.iter().all(|pool| pool["min_idle_instances"] == 0), "{pools:?}");
    let clusters = listed(&url, "/api/2.1/clusters/list?page_size=100", "clusters").await;
    assert!(
        !clusters.is_empty() && clusters.iter().all(|cluster| cluster["state"] == "TERMINATED"),
        "{clusters:?}"
    );
    let warehouses = listed(&url, "/api/2.0/sql/warehouses", "warehouses").await;
    let made = warehouses.iter().filter(|warehouse| warehouse["id"] != two.warehouse.as_str());
    assert!(made.clone().count() >= 3);
    for warehouse in made {
        assert!(matches!(warehouse["state"].as_str(), Some("STOPPED" | "STOPPING")), "{warehouse}");
    }
}

#[tokio::test]
async fn one_item_comes_with_what_it_needs_and_nothing_else() {
    let two = Two::new(
        counts(&[("user", 4), ("job", 10), ("notebook", 10), ("cluster", 8), ("instance_pool", 2)]),
        empty(),
    )
    .await;
    let from = two.backup("prod").await;
    let entries = two.site.entries(&from).await;
    let job = entries.keys().find(|(kind, _)| kind.as_str() == "job").map(|(_, name)| name.clone()).unwrap();
    let item = format!("job/{job}");
    let alone = two.plan(&from, "dr", Ask { wanted: only(&[&item]), ..two.all() }).await.unwrap().document;
    let alone = items(&alone);
    assert!(alone.iter().all(|planned| planned.kind.as_str() == "job"), "{alone:?}");
    let wanted = Wanted { with_dependencies: true, ..only(&[&item]) };
    let (plan, record) = two.restore(&from, "dr", Ask { wanted, ..two.all() }).await.unwrap();
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    let items = items(&plan);
    let kinds: Vec<_> = items.iter().map(|planned| planned.kind.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "job").count(), 1, "{kinds:?}");
    assert!(kinds.len() > 1 && kinds.len() < 20, "{kinds:?}");
    let jobs = listed(&two.dr.url(0), "/api/2.2/jobs/list?limit=100", "jobs").await;
    assert_eq!(jobs.len(), 1);
    let unmet =
        two.plan(&from, "dr", Ask { wanted: only(&["job/none-such"]), ..two.all() }).await.unwrap_err();
    assert_eq!((unmet.class, unmet.code), (Class::Config, "restore.nothing"));
}

#[tokio::test]
async fn what_source_and_target_share_is_left_alone_unless_it_is_named() {
    let config = SimConfig {
        workspaces: 1,
        share_account: true,
        share_metastore: true,
        ..counts(&[("user", 3), ("group", 4), ("uc_table", 5), ("uc_catalog", 2), ("uc_schema", 3)])
    };
    let two = Two::new(config.clone(), empty()).await;
    let from = two.backup("prod").await;
    // Into the workspace itself: its metastore and its account are shared with others.
    two.prod
        .mutate(0, &Mutation { kind: "uc_table".into(), create: 0, edit: 0, delete: 2, seed: 1 })
        .unwrap();
    let plan = two.plan(&from, "prod", two.all()).await.unwrap().document;
    assert_eq!(plan.summary.changes(), 0, "{:?}", with(&plan, Action::Create));
    let shared = with(&plan, Action::Shared);
    assert!(
        shared.iter().any(|item| item.kind.as_str() == "table")
            && shared.iter().any(|item| item.kind.as_str() == "user")
    );
    let deleted = Wanted { items: vec!["table/*".into()], ..Wanted::default() };
    let named = Ask { wanted: deleted, shared: true, ..two.all() };
    let plan = two.plan(&from, "prod", named).await.unwrap().document;
    assert_eq!(plan.summary.create, 2, "{:?}", plan.summary);
}

#[tokio::test]
async fn a_missing_principal_gets_nothing_and_widens_nothing() {
    let two = Two::new(counts(&[("user", 6), ("group", 3), ("job", 8)]), empty()).await;
    let from = two.backup("prod").await;
    let jobs = Ask { wanted: Wanted { kinds: vec![Kind::named("job")], ..Wanted::default() }, ..two.all() };
    let (plan, record) = two.restore(&from, "dr", jobs).await.unwrap();
    assert!(plan.summary.degraded > 0 && with(&plan, Action::Create).len() == 8, "{:?}", plan.summary);
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    let snapshot = two.backup("dr").await;
    for ((kind, _), entry) in two.site.entries(&snapshot).await {
        assert!(kind.as_str() != "job" || entry.gaps.is_empty());
    }
    let said = items(&plan).into_iter().flat_map(|item| item.degraded).next().unwrap();
    assert!(said.contains("the target has no"), "{said}");
}

#[tokio::test]
async fn undo_takes_back_what_was_made_and_changed_and_nothing_else() {
    let two = Two::new(
        counts(&[("user", 3), ("group", 2), ("job", 6), ("notebook", 8), ("query", 3), ("secret_scope", 2)]),
        empty(),
    )
    .await;
    let from = two.backup("prod").await;
    let before = two.backup("dr").await;
    // Somebody of the target's own, before and after.
    two.dr.mutate(0, &Mutation { kind: "job".into(), create: 2, edit: 0, delete: 0, seed: 9 }).unwrap();
    let (_, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    let engine = two.site.engine();
    let (_go_on, stop) = watch::channel(false);
    let undo = Restore { backup: &engine.backup }
        .plan_undo(&record, Some(two.warehouse.clone()), 1.0, &RunView::default(), stop)
        .await
        .unwrap();
    assert!(with(&undo.document, Action::Blocked).is_empty(), "{:?}", items(&undo.document));
    let undone = carry_out(&engine, undo).await.unwrap();
    engine.drain().await;
    assert_eq!(two.failures(&undone).await, Vec::<String>::new());
    let after = two.backup("dr").await;
    let counted = |manifest: &lakehold_proto::manifest::Manifest| -> BTreeMap<String, u64> {
        manifest.kinds.iter().map(|kind| (kind.kind.to_string(), kind.counts.items)).collect()
    };
    let mut expected = counted(&before);
    *expected.get_mut("job").unwrap() += 2;
    assert_eq!(counted(&after), expected);
}

/// What somebody makes in a workspace meanwhile.
async fn post(workspace: &str, path: &str, body: &Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{workspace}{path}")).bearer_auth("sim").body(body.to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {answer:?}");
}

const PRINCIPALS: &str = "/api/2.0/preview/scim/v2/ServicePrincipals";
const USERS: &str = "/api/2.0/preview/scim/v2/Users";

#[tokio::test]
async fn a_principal_that_exists_twice_is_blocked() {
    let two = Two::new(counts(&[]), empty()).await;
    let twin = json!({"displayName": "etl", "active": true});
    post(&two.prod.url(0), PRINCIPALS, &twin).await;
    for _ in 0..2 {
        post(&two.dr.url(0), PRINCIPALS, &twin).await;
    }
    let from = two.backup("prod").await;
    let plan = two.plan(&from, "dr", two.all()).await.unwrap().document;
    let blocked = with(&plan, Action::Blocked);
    let [principal] = &blocked[..] else { panic!("{blocked:?}") };
    assert_eq!(principal.kind.as_str(), "service_principal", "{principal:?}");
    assert!(principal.why.as_deref().unwrap().contains("the target has 2 of this name"), "{principal:?}");
}

#[tokio::test]
async fn names_that_differ_by_case_are_two_where_the_vendor_says_so_and_one_elsewhere() {
    let two = Two::new(counts(&[]), empty()).await;
    for name in ["Nightly", "nightly"] {
        post(&two.prod.url(0), "/api/2.2/jobs/create", &json!({"name": name, "tasks": []})).await;
        let path = format!("/Shared/{name}");
        let notebook =
            json!({"path": path, "format": "SOURCE", "language": "SQL", "content": "c2VsZWN0IDE="});
        post(&two.prod.url(0), "/api/2.0/workspace/import", &notebook).await;
    }
    post(&two.prod.url(0), USERS, &json!({"userName": "ada@example.com"})).await;
    post(&two.dr.url(0), USERS, &json!({"userName": "Ada@Example.com"})).await;
    let from = two.backup("prod").await;
    let (plan, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    let made = with(&plan, Action::Create);
    assert!(made.iter().all(|item| item.kind.as_str() != "user"), "{made:?}");
    let entries = two.site.entries(&two.backup("dr").await).await;
    for (kind, names) in
        [("job", ["Nightly", "nightly"]), ("notebook", ["/Shared/Nightly", "/Shared/nightly"])]
    {
        let of_it = entries.keys().filter(|(is, _)| is.as_str() == kind);
        assert_eq!(of_it.map(|(_, name)| name.as_str()).collect::<Vec<_>>(), names);
    }
}

#[tokio::test]
async fn what_a_snapshot_lacks_is_blocked_with_its_reason_and_the_rest_comes() {
    let two = Two::new(counts(&[("notebook", 4), ("job", 1)]), empty()).await;
    let effect = Effect::Error {
        status: 403,
        error_code: "PERMISSION_DENIED".into(),
        message: "you may not".into(),
        shape: Shape::default(),
        retry_after: None,
        reason: None,
    };
    let path = Some("/api/2.0/workspace/export".to_owned());
    let (method, query, workspace) = (None, None, None);
    let fault = Fault { method, path, query, workspace, nth: 1, times: 1, when: When::Before, effect };
    two.prod.add_fault(fault).unwrap();
    let from = two.backup("prod").await;
    let (plan, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    let blocked = with(&plan, Action::Blocked);
    let [notebook] = &blocked[..] else { panic!("{blocked:?}") };
    assert!(notebook.why.as_deref().unwrap().contains("you may not"), "{notebook:?}");
    let entries = two.site.entries(&two.backup("dr").await).await;
    let come = |kind: &str| entries.keys().filter(|(is, _)| is.as_str() == kind).count();
    assert_eq!((come("notebook"), come("job")), (3, 1));
}

#[tokio::test]
async fn what_cannot_be_told_apart_is_blocked_and_never_guessed() {
    let two = Two::new(counts(&[("user", 2), ("job", 1)]), empty()).await;
    let from = two.backup("prod").await;
    let entries = two.site.entries(&from).await;
    let (_, name) = entries.keys().find(|(kind, _)| kind.as_str() == "job").unwrap();
    for _ in 0..2 {
        post(&two.dr.url(0), "/api/2.2/jobs/create", &json!({"name": name, "tasks": []})).await;
    }
    let plan = two.plan(&from, "dr", two.all()).await.unwrap().document;
    let blocked = with(&plan, Action::Blocked);
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert!(blocked[0].why.as_deref().unwrap().contains("the target has 2 of this name"));
}

#[tokio::test]
async fn a_restorer_who_sees_not_everything_is_refused() {
    let guest = IdentitySpec {
        token: "guest".into(),
        secret: None,
        name: "guest@example.com".into(),
        admin: false,
        visible_percent: 50,
        denied: Vec::new(),
        expires_at_ms: None,
        lifetime_s: 3600,
    };
    let two =
        Two::new(counts(&[("user", 2), ("job", 2)]), SimConfig { identities: vec![guest], ..empty() }).await;
    let from = two.backup("prod").await;
    std::fs::write(two.site.dir.path().join("token"), "guest").unwrap();
    let refused = two.plan(&from, "dr", two.all()).await.unwrap_err();
    assert_eq!((refused.class, refused.code), (Class::Denied, "restore.not-admin"), "{refused}");
}

#[tokio::test]
async fn a_mapping_in_a_circle_is_refused() {
    let circle = [("a", "b"), ("b", "a")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(Mapping { principals: circle, ..Mapping::default() }.check().unwrap_err().code, "map.cycle");
}

#[tokio::test]
async fn what_the_snapshot_does_not_have_is_taken_away_only_when_asked() {
    let two = Two::new(counts(&[("user", 3), ("job", 3), ("query", 2)]), empty()).await;
    let from = two.backup("prod").await;
    two.restore(&from, "dr", two.all()).await.unwrap();
    two.dr.mutate(0, &Mutation { kind: "job".into(), create: 2, edit: 0, delete: 0, seed: 9 }).unwrap();
    let plain = two.plan(&from, "dr", two.all()).await.unwrap().document;
    assert_eq!(plain.summary.changes(), 0);
    let wanted = Wanted { kinds: vec![Kind::named("job")], ..Wanted::default() };
    let extra = Ask { delete_extra: true, wanted, ..two.all() };
    let (plan, record) = two.restore(&from, "dr", extra).await.unwrap();
    assert_eq!((plan.summary.delete, plan.summary.changes()), (2, 2), "{:?}", items(&plan));
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    assert_eq!(listed(&two.dr.url(0), "/api/2.2/jobs/list?limit=100", "jobs").await.len(), 3);
}

#[tokio::test]
async fn what_is_hurt_in_the_store_is_refused_and_the_rest_comes() {
    let two = Two::new(counts(&[("user", 3), ("job", 6), ("notebook", 6), ("query", 3)]), empty()).await;
    let from = two.backup("prod").await;
    let entries = two.site.entries(&from).await;
    let (_, job) = entries.iter().find(|((kind, _), _)| kind.as_str() == "job").unwrap();
    // One bit of one job's object.
    let frame = &job.parts[0].frames[0];
    let page = lakehold::snapshot::page(&*two.site.store, &from.pages[0]).await.unwrap();
    let named = page.indexes.iter().find(|named| named.kind.as_str() == "job").unwrap();
    let index = lakehold::snapshot::index(&*two.site.store, named).await.unwrap();
    let located = index.locate(frame).unwrap();
    let hex = located.object.to_string();
    let path = two.site.dir.path().join(format!("store/packs/{}/{hex}", &hex[..2]));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[located.offset as usize + located.length as usize / 2] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let (plan, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    let blocked = with(&plan, Action::Blocked);
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert_eq!(*blocked[0].key, job.key);
    assert!(blocked[0].why.as_deref().unwrap().contains("hurt in the store"), "{blocked:?}");
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    assert_eq!(listed(&two.dr.url(0), "/api/2.2/jobs/list?limit=100", "jobs").await.len(), 5);
    // What could not be tried is not proved.
    let engine = two.site.engine();
    let request = two.request(&from, "dr", two.all()).await;
    let (_go_on, stop) = watch::channel(false);
    let restore = Restore { backup: &engine.backup };
    let drill =
        restore.drill(&request, Objectives::default(), None, &RunView::default(), stop).await.unwrap();
    engine.drain().await;
    assert_eq!((drill.failed, drill.differing, drill.planned.blocked), (0, 0, 1));
    assert!(!drill.is_proof(), "{drill:?}");
}
