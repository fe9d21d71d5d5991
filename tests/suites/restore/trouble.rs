//! Restore under faults: nothing is made twice, and the end is the same.

use std::collections::BTreeMap;

use lakehold::restore::decisions::Action;
use lakehold_proto::queue::MemoryQueue;
use lakehold_sim::{Effect, Fault, Population, SimConfig, When};
use lakehold_tests::two::{Two, with};

fn counts() -> SimConfig {
    let counts = [
        ("user", 4),
        ("group", 3),
        ("job", 10),
        ("notebook", 12),
        ("cluster", 6),
        ("instance_pool", 2),
        ("query", 4),
        ("uc_table", 10),
        ("secret_scope", 2),
    ];
    let counts: BTreeMap<_, _> = counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
    SimConfig { population: Population::Counts(counts), ..SimConfig::default() }
}

fn empty() -> SimConfig {
    SimConfig { population: Population::Empty, seed: 7_700, ..SimConfig::default() }
}

fn fault(path: &str, nth: u64, when: When, effect: Effect) -> Fault {
    Fault {
        method: Some("POST".into()),
        path: Some(path.into()),
        query: None,
        workspace: None,
        nth,
        times: 1,
        when,
        effect,
    }
}

fn error(status: u16) -> Effect {
    Effect::Error {
        status,
        error_code: "TEMPORARILY_UNAVAILABLE".into(),
        message: "try again".into(),
        shape: lakehold_sim::Shape::default(),
        retry_after: (status == 429).then_some(0),
        reason: None,
    }
}

/// The calls that make things, and the sorts of trouble that they may have.
fn trouble() -> Vec<Fault> {
    let paths = [
        "/api/2.2/jobs/create",
        "/api/2.1/clusters/create",
        "/api/2.0/instance-pools/create",
        "/api/2.0/sql/queries",
        "/api/2.0/sql/statements",
        "/api/2.0/workspace/import",
        "/api/2.0/workspace/mkdirs",
        "/api/2.0/preview/scim/v2/Users",
        "/api/2.0/preview/scim/v2/Groups",
        "/api/2.0/secrets/scopes/create",
        "/api/2.1/unity-catalog/schemas",
    ];
    let of = |path: &&str| {
        [
            fault(path, 1, When::After, error(500)),
            fault(path, 2, When::Before, error(500)),
            fault(path, 3, When::After, Effect::Reset),
            fault(path, 4, When::Before, error(429)),
        ]
    };
    paths.iter().flat_map(of).collect()
}

async fn ends_as_it_should(two: &Two, from: &lakehold_proto::manifest::Manifest) {
    let second = two.plan(from, "dr", two.all()).await.unwrap().document;
    let wrong: Vec<_> = [Action::Create, Action::Replace, Action::Adopt, Action::Blocked]
        .into_iter()
        .flat_map(|action| with(&second, action))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let counted = |manifest: &lakehold_proto::manifest::Manifest, kind: &str| {
        manifest
            .kinds
            .iter()
            .find(|report| report.kind.as_str() == kind)
            .map_or(0, |report| report.counts.items)
    };
    let after = two.backup("dr").await;
    for kind in ["job", "cluster", "instance_pool", "query", "group", "table", "notebook"] {
        assert_eq!(counted(&after, kind), counted(from, kind), "{kind}: nothing is there twice");
    }
}

#[tokio::test]
async fn calls_whose_answers_are_lost_make_nothing_twice() {
    let two = Two::new(counts(), empty()).await;
    let from = two.backup("prod").await;
    for fault in trouble() {
        two.dr.add_fault(fault).unwrap();
    }
    let (_, record) = two.restore(&from, "dr", two.all()).await.unwrap();
    assert!(two.dr.faults_fired() > 20, "{}", two.dr.faults_fired());
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    two.dr.clear_faults();
    ends_as_it_should(&two, &from).await;
}

#[tokio::test]
async fn a_restore_that_broke_off_is_gone_on_with() {
    let mut two = Two::new(counts(), empty()).await;
    let from = two.backup("prod").await;
    // A queue that forgets and doubles: attempts are repeated while others are still at work.
    two.site = two.site.queue(|| MemoryQueue::mischievous(Default::default(), 7));
    let engine = two.site.engine();
    let prepared = two.plan_on(&engine, &from, "dr", two.all()).await.unwrap();
    let restore = lakehold::restore::Restore { backup: &engine.backup };
    let (ready, _) = restore.open(prepared).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // The workspace stands still in the midst of it, until the restore is stopped.
    two.dr
        .add_fault(Fault {
            times: 0,
            nth: 4,
            ..fault("/api/2.2/jobs/create", 4, When::After, Effect::Delay { ms: 600_000 })
        })
        .unwrap();
    let view = lakehold::engine::view::RunView::default();
    let broken = async {
        let carried = restore.carry_out(ready, &view, stopped);
        let stopping = async {
            while two.dr.calls().total < 10 || two.dr.faults_fired() == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            stop.send(true).unwrap();
        };
        futures::join!(carried, stopping).0
    };
    assert_eq!(broken.await.unwrap_err().code, "run.stopped");
    two.dr.clear_faults();
    drop(engine);
    let engine = two.site.engine();
    let restore = lakehold::restore::Restore { backup: &engine.backup };
    let ready = restore.resume(&"dr".parse().unwrap()).await.unwrap();
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    let record = restore.carry_out(ready, &view, stop).await.unwrap();
    engine.drain().await;
    assert_eq!(two.failures(&record).await, Vec::<String>::new());
    ends_as_it_should(&two, &from).await;
}
