//! The round trip: seed, back up, bring back into an empty workspace, compare.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakehold::restore::decisions::{Action, Planned};
use lakehold::restore::document::Document;
use lakehold::restore::planner::Ask;
use lakehold::snapshot::find;
use lakehold_proto::address::When;
use lakehold_proto::format::{Entry, Role};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::{Crossing, Mapping};
use lakehold_proto::store::{DirectoryStore, Store, get_existing};
use lakehold_sim::{Cloud, Population, SimConfig};
use lakehold_tests::site::prod;
use lakehold_tests::two::{Two, with};

fn full(items: usize, seed: u64) -> SimConfig {
    SimConfig { population: Population::Items(items), seed, ..SimConfig::default() }
}

fn empty() -> SimConfig {
    SimConfig { population: Population::Empty, seed: 7_700, ..SimConfig::default() }
}

/// What a plan says of the items with one action, in words.
fn told(document: &Document, action: Action) -> Vec<String> {
    let line = |item: &Planned| {
        format!("{}/{}: {:?} {:?} {:?}", item.kind, item.name, item.why, item.degraded, item.changes)
    };
    with(document, action).iter().map(line).collect()
}

const NOTHING: Vec<String> = Vec::new();

/// Brings everything back, and checks that a second time there is nothing to do, and that what was restored is complete.
async fn comes_back(two: &Two, from: &Manifest, ask: Ask) -> Document {
    let (first, record) = two.restore(from, "dr", ask.clone()).await.unwrap();
    assert_eq!(told(&first, Action::Blocked), NOTHING);
    assert_eq!(two.failures(&record).await, NOTHING);
    is_there(two, from, ask).await;
    first
}

async fn is_there(two: &Two, from: &Manifest, ask: Ask) {
    let second = two.plan(from, "dr", ask).await.unwrap().document;
    for action in [Action::Create, Action::Replace, Action::Adopt, Action::Blocked] {
        assert_eq!(told(&second, action), NOTHING, "{action:?}");
    }
}

#[tokio::test]
async fn a_workspace_with_every_kind_comes_back_in_an_empty_one() {
    let two = Two::new(full(400, 1), empty()).await;
    let from = two.backup("prod").await;
    let seen = from.kinds.iter().filter(|kind| kind.counts.items == 0).map(|kind| kind.kind.to_string());
    assert_eq!(seen.collect::<Vec<_>>(), NOTHING, "the population has every kind of the table");
    let plan = comes_back(&two, &from, two.all()).await;
    assert!(plan.summary.create > 300, "{:?}", plan.summary);
}

#[tokio::test]
async fn random_workspaces_come_back() {
    // Many more by hand: SEEDS=200.
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6);
    for seed in 10..10 + seeds {
        let two = Two::new(full(120, seed), empty()).await;
        let from = two.backup("prod").await;
        comes_back(&two, &from, two.all()).await;
    }
}

#[tokio::test]
async fn hostile_names_and_bodies_come_back() {
    let two = Two::new(SimConfig { hostile: true, ..full(300, 3) }, empty()).await;
    let from = two.backup("prod").await;
    let (first, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    // What the snapshot itself does not have is told before anything is done.
    for blocked in with(&first, Action::Blocked) {
        let why = blocked.why.as_deref().unwrap();
        assert!(why.contains("lacks its content") || why.contains("legacy libraries"), "{blocked:?}");
    }
    assert_eq!(two.failures(&record).await, NOTHING);
    let second = two.plan(&from, "dr", two.all()).await.unwrap().document;
    assert_eq!(second.summary.changes(), 0, "{:?}", told(&second, Action::Replace));
}

#[tokio::test]
async fn another_cloud_takes_what_the_mapping_names() {
    let two = Two::new(full(250, 5), SimConfig { cloud: Cloud::Azure, ..empty() }).await;
    let from = two.backup("prod").await;
    let unmapped = two.plan(&from, "dr", two.all()).await.unwrap().document;
    let why: Vec<_> = told(&unmapped, Action::Blocked);
    assert!(why.iter().any(|why| why.contains("node_types does not name it")), "{why:?}");
    assert!(why.iter().any(|why| why.contains("storage does not name it")), "{why:?}");
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let mut mapping = Mapping {
        node_types: map(&[
            ("i3.xlarge", "Standard_DS3_v2"),
            ("m5d.large", "Standard_D4ds_v5"),
            ("r5d.2xlarge", "Standard_E8s_v3"),
        ]),
        email_domains: map(&[("example.com", "new.example.com")]),
        principals: map(&[("operator@example.com", "operator@example.com")]),
        ..Mapping::default()
    };
    for location in
        with(&unmapped, Action::Blocked).iter().filter(|item| item.kind.as_str() == "external_location")
    {
        let why = location.why.clone().unwrap();
        let from = why.split("the location ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let bucket = from.trim_start_matches("s3://").split('/').next().unwrap();
        mapping
            .storage
            .insert(format!("s3://{bucket}"), format!("abfss://{bucket}@lake.dfs.core.windows.net"));
    }
    let ask = Ask { crossing: Crossing { mapping, ..Crossing::default() }, ..two.all() };
    let (plan, record) = two.restore(&from, "dr", ask.clone()).await.unwrap();
    // The credentials of another cloud are made by hand, and with them what lies behind them.
    let blocked = with(&plan, Action::Blocked);
    assert!(
        blocked.iter().any(|item| item.kind.as_str() == "storage_credential"),
        "{:?}",
        told(&plan, Action::Blocked)
    );
    assert_eq!(two.failures(&record).await, NOTHING);
    let second = two.plan(&from, "dr", ask).await.unwrap().document;
    assert_eq!(
        second.summary.changes(),
        0,
        "{:?} {:?}",
        told(&second, Action::Replace),
        told(&second, Action::Create)
    );
    let mapped = with(&second, Action::Unchanged);
    assert!(mapped.iter().any(|item| item.kind.as_str() == "user" && item.name.ends_with("@example.com")));
    let snapshot = two.backup("dr").await;
    let entries = two.site.entries(&snapshot).await;
    assert!(
        entries.keys().any(|(kind, name)| kind.as_str() == "notebook" && name.contains("@new.example.com/"))
    );
}

#[tokio::test]
async fn the_first_version_of_the_format_comes_back() {
    let two = Two::new(empty(), empty()).await;
    let corpus = DirectoryStore::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/1"));
    let listed: Vec<_> = corpus.list("").try_collect().await.unwrap();
    for file in listed {
        let body = get_existing(&corpus, &file.key).await.unwrap();
        two.site.store.put_new(&file.key, body).await.unwrap();
    }
    let from = find::find_in(&*two.site.store, &prod(), &When::Latest).await.unwrap().manifest;
    let plan = comes_back(&two, &from, two.all()).await;
    assert!(plan.summary.create > 170, "{:?}", plan.summary);
    // Read back, the notebooks are byte for byte what the old snapshot says.
    let content = |entries: BTreeMap<(Kind, String), Entry>| -> BTreeMap<String, Hash> {
        let notebooks = entries.into_iter().filter(|((kind, _), _)| kind.as_str() == "notebook");
        notebooks
            .map(|((_, name), entry)| {
                let content = entry.parts.into_iter().find(|part| part.role == Role::Content).unwrap();
                (name, content.sha256)
            })
            .collect()
    };
    let (was, is) = (two.site.entries(&from).await, two.backup("dr").await);
    assert_eq!(content(was), content(two.site.entries(&is).await));
}
