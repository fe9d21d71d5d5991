//! What is decided about a few items, and when it is done.

use std::collections::BTreeMap;

use lakehold_proto::ids::Kind;
use lakehold_proto::restore::Act;
use lakehold_worker::configured::blueprint;

use super::super::decisions::Planned;
use super::*;
use crate::snapshot::fixture::{Made, Seed, Site};

fn policy(key: &str, name: &str) -> Seed {
    Seed::new("cluster_policy", key, name, &format!("{{\"policy_id\": {key:?}, \"name\": {name:?}}}"))
}

/// A job with one task.
fn job(key: &str, name: &str, task: &str) -> Seed {
    let settings = format!("{{\"name\": {name:?}, \"tasks\": [{{\"task_key\": \"t\", {task}}}]}}");
    Seed::new("job", key, name, &format!("{{\"job_id\": {key}, \"settings\": {settings}}}"))
}

async fn sides(from: Vec<Seed>, to: Vec<Seed>) -> (Site, Side, Side) {
    let site = Site::new();
    let blueprint = blueprint("databricks").unwrap();
    let from = site.snapshot(2, from, Made::default()).await.manifest;
    let to = site.snapshot(4, to, Made::default()).await.manifest;
    let from = Side::read(&site.store, from, blueprint).await.unwrap();
    let to = Side::read(&site.store, to, blueprint).await.unwrap();
    (site, from, to)
}

/// What is decided, by name.
async fn decided(from: Vec<Seed>, to: Vec<Seed>, ask: &Ask) -> BTreeMap<String, Planned> {
    let (site, from, to) = sides(from, to).await;
    let blueprint = blueprint("databricks").unwrap();
    let decided = decide(&site.store, blueprint, &from, &to, ask, &IdMap::new()).await.unwrap();
    let items = decided.items.sorted().unwrap();
    items.iter().map(|item| item.map(|item| (item.name.clone(), item))).collect::<Result<_>>().unwrap()
}

/// When what is done with each of these items, where each refers to what `needs` says.
async fn steps(items: Vec<(Seed, Action)>, needs: &[&[u32]]) -> BTreeMap<(u16, String), Vec<(Act, u64)>> {
    let (seeds, actions): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    let (site, from, to) = sides(seeds, Vec::new()).await;
    let (mut looks, mut referred) = (Filling::new().unwrap(), Needs::default());
    for (number, (action, needs)) in actions.iter().zip(needs).enumerate() {
        let mut look = Look::new(number, &from.item(number).unwrap(), None);
        (look.planned.action, look.body) = (*action, true);
        looks.push(&look).unwrap();
        referred.push(number, needs);
    }
    let ask = Ask::default();
    let planner = Planner {
        store: &site.store,
        blueprint: blueprint("databricks").unwrap(),
        from: &from,
        to: &to,
        ask: &ask,
        select: Select::new(&ask.wanted).unwrap(),
        pairs: pair(
            blueprint("databricks").unwrap(),
            (&from, &to),
            &ask.crossing,
            &IdMap::new(),
            &Wholes::new(),
        )
        .unwrap(),
        wholes: Wholes::new(),
        selected: vec![true; from.len()],
    };
    let found = Found {
        actions: actions.into_iter().map(Some).collect(),
        needs: referred,
        leaning: Vec::new(),
        hanging: HashMap::new(),
        looks: looks.filled().unwrap(),
    };
    let decisions = planner.conclude(found, Vec::new()).await.unwrap();
    let counts = decisions.steps.counts().iter();
    counts
        .map(|((stage, kind), acts)| {
            ((*stage, kind.to_string()), acts.iter().map(|(a, n)| (*a, *n)).collect())
        })
        .collect()
}

fn at(stage: u16, kind: &str, act: Act) -> ((u16, String), Vec<(Act, u64)>) {
    ((stage, kind.to_owned()), vec![(act, 1)])
}

#[tokio::test]
async fn what_is_there_is_changed_at_the_end_where_it_waits_for_what_is_made_later() {
    // Policies are in an earlier layer than jobs.
    let items = |action| {
        vec![(policy("p", "p"), action), (job("1", "a", "\"run_if\": \"ALL_DONE\""), Action::Create)]
    };
    let (create, replace) = (Act::Create, Act::Replace);
    let job = at(1, "job", create);
    for action in [Action::Replace, Action::Adopt] {
        let waiting = steps(items(action), &[&[1], &[]]).await;
        assert_eq!(waiting, BTreeMap::from([job.clone(), at(2, "cluster_policy", replace)]));
        let not = steps(items(action), &[&[], &[0]]).await;
        assert_eq!(not, BTreeMap::from([at(0, "cluster_policy", replace), job.clone()]));
    }
    let made = steps(items(Action::Create), &[&[1], &[]]).await;
    let completed = at(2, "cluster_policy", Act::Complete);
    assert_eq!(made, BTreeMap::from([at(0, "cluster_policy", create), job, completed]));
}

#[tokio::test]
async fn what_refers_to_nothing_is_blocked_and_all_that_hangs_on_it() {
    let from = || {
        vec![
            job("1", "a", "\"existing_cluster_id\": \"c-9\""),
            job("2", "b", "\"run_job_task\": {\"job_id\": 1}"),
            job("3", "c", "\"run_job_task\": {\"job_id\": 2}"),
            job("4", "d", "\"notebook_task\": {\"notebook_path\": \"/none\"}"),
        ]
    };
    let found = decided(from(), Vec::new(), &Ask::default()).await;
    let why = |name: &str| (found[name].action, found[name].why.clone().unwrap_or_default());
    let nothing = "it refers to the cluster \"c-9\", which neither comes along nor is in the target";
    assert_eq!(why("a"), (Action::Blocked, nothing.into()));
    assert_eq!(why("b"), (Action::Blocked, "it needs the job \"a\", which does not come back".into()));
    assert_eq!(why("c"), (Action::Blocked, "it needs the job \"b\", which does not come back".into()));
    assert_eq!(found["d"].action, Action::Create, "a path means the same in the target");
    // What the target has can be referred to, whatever becomes of it.
    let found =
        decided(from(), vec![job("20", "b", "\"existing_cluster_id\": \"x\"")], &Ask::default()).await;
    assert_eq!((found["a"].action, found["c"].action), (Action::Blocked, Action::Create));
    // Where it comes from, it means what it meant.
    let same = Ask { crossing: Crossing { same: true, ..Crossing::default() }, ..Ask::default() };
    let found = decided(from(), Vec::new(), &same).await;
    assert!(found.values().all(|item| item.action == Action::Create), "{found:?}");
}

#[tokio::test]
async fn an_item_is_paired_by_what_was_made_of_it_and_then_by_its_name_alone() {
    let policies =
        |items: &[(&str, &str)]| items.iter().map(|(key, name)| policy(key, name)).collect::<Vec<_>>();
    let from = policies(&[("1", "a"), ("2", "b"), ("3", "twin"), ("4", "twin"), ("5", "c"), ("6", "d")]);
    let to = policies(&[("10", "renamed"), ("20", "b"), ("30", "twin"), ("50", "c"), ("51", "c")]);
    let (_site, from, to) = sides(from, to).await;
    let number = |side: &Side, key: &str| side.keyed(&Kind::named("cluster_policy"), key).unwrap();
    let known = IdMap::from([(number(&from, "1") as u32, number(&to, "10") as u32)]);
    let blueprint = blueprint("databricks").unwrap();
    let pairs = pair(blueprint, (&from, &to), &Crossing::default(), &known, &Wholes::new()).unwrap();
    let of = |key: &str| {
        let item = number(&from, key);
        pairs.of(item).map(|target| (to.item(target).unwrap().entry.key, pairs.is_sure(item)))
    };
    assert_eq!((of("1"), of("2")), (Some(("10".into(), true)), Some(("20".into(), false))));
    // Two that claim one, and one that two could be, are nobody's.
    assert_eq!((of("3"), of("4"), of("5"), of("6")), (None, None, None, None));
}
