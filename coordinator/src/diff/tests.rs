//! What differs is told once, under the right word.

use lakehold_proto::format::Role;
use lakehold_proto::outcome::Standing;

use super::{Diff, What, diff};
use crate::snapshot::fixture::{Made, Seed, Site};

fn job(key: &str, name: &str, timeout: u32) -> Seed {
    Seed::new("job", key, name, &format!("{{\"settings\":{{\"timeout\":{timeout}}}}}"))
}

async fn between(then: (Vec<Seed>, Made<'_>), now: (Vec<Seed>, Made<'_>)) -> Diff {
    let site = Site::new();
    let (then, now) = (site.snapshot(2, then.0, then.1).await, site.snapshot(4, now.0, now.1).await);
    diff(&site.store, &then.manifest, &now.manifest, &[]).await.unwrap()
}

fn told(diff: &Diff) -> Vec<(String, What)> {
    diff.changes.iter().map(|change| (change.name.clone(), change.change)).collect()
}

#[tokio::test]
async fn items_pair_by_key_then_by_name() {
    let then = vec![
        job("1", "same", 1),
        job("2", "changed", 1),
        job("3", "old", 1),
        job("4", "gone", 1),
        job("5", "again", 1),
    ];
    let now = vec![
        job("1", "same", 1),
        job("2", "changed", 2),
        job("3", "renamed", 1),
        job("6", "again", 1),
        job("7", "new", 1),
    ];
    let found = between((then, Made::default()), (now, Made::default())).await;
    let expected = [
        ("again", What::Recreated),
        ("changed", What::Changed),
        ("gone", What::Removed),
        ("new", What::Added),
        ("renamed", What::Renamed),
    ];
    assert_eq!(told(&found), expected.map(|(name, what)| (name.to_owned(), what)));
    let changed = &found.changes[1].fields[0];
    assert_eq!((changed.path.as_str(), changed.to.clone()), ("settings.timeout", Some(2.into())));
    assert_eq!(found.changes[4].old_name.as_deref(), Some("old"));
    assert_eq!(found.changes[0].old_key.as_deref(), Some("5"));
}

#[tokio::test]
async fn equal_snapshots_do_not_differ() {
    let seeds = || vec![job("1", "a", 1), job("2", "a", 1)];
    let found = between((seeds(), Made::default()), (seeds(), Made::default())).await;
    assert!(!found.differs && found.changes.is_empty());
}

#[tokio::test]
async fn what_could_not_be_listed_is_unknown_never_removed() {
    let notebook = |path: &str| Seed::new("notebook", path, path, "{}");
    let lost = || Made { unlisted: Some(("notebook", "/a")), ..Made::default() };
    let all = || vec![notebook("/a/x"), notebook("/b")];
    let found = between((all(), Made::default()), (vec![notebook("/c")], lost())).await;
    let expected = [("/a/x", What::Unknown), ("/b", What::Removed), ("/c", What::Added)];
    assert_eq!(told(&found), expected.map(|(name, what)| (name.to_owned(), what)));
    assert_eq!((found.to.unlisted, found.from.unlisted), (1, 0));
    let only = between((vec![notebook("/a/x")], Made::default()), (vec![], lost())).await;
    assert!(!only.differs && only.unknown, "{only:?}");
    let back = between((vec![notebook("/c")], lost()), (all(), Made::default())).await;
    assert_eq!(told(&back)[0], ("/a/x".into(), What::Unknown), "nor is it new when it is seen again");
}

#[tokio::test]
async fn a_part_that_is_a_gap_is_unknown_and_no_change() {
    let whole = || Seed::new("notebook", "/n", "/n", "{}").content(&[b"x"]);
    let hurt = || Seed::new("notebook", "/n", "/n", "{}").gap();
    for (then, now, sides) in [(whole(), hurt(), (false, true)), (hurt(), whole(), (true, false))] {
        let found = between((vec![then], Made::default()), (vec![now], Made::default())).await;
        assert_eq!(told(&found), [("/n".to_owned(), What::Gap)]);
        let gap = &found.changes[0].gaps[0];
        assert_eq!((gap.part, gap.from.is_some(), gap.to.is_some()), (Role::Content, sides.0, sides.1));
        assert!(!found.differs && found.unknown && found.changes[0].fields.is_empty(), "{found:?}");
    }
    let twice = between((vec![hurt()], Made::default()), (vec![hurt()], Made::default())).await;
    assert_eq!(told(&twice), [("/n".to_owned(), What::Gap)], "equal roots say nothing of what was not read");
    let other = || Seed::new("notebook", "/n", "/n", "{\"a\":1}").gap();
    let found = between((vec![whole()], Made::default()), (vec![other()], Made::default())).await;
    assert_eq!(told(&found), [("/n".to_owned(), What::Changed)]);
    assert_eq!((found.changes[0].fields.len(), found.changes[0].gaps.len()), (1, 1), "both are told");
    let without = || Seed::new("notebook", "/n", "/n", "{}");
    let found = between((vec![whole()], Made::default()), (vec![without()], Made::default())).await;
    assert_eq!(told(&found), [("/n".to_owned(), What::Changed)], "a part that went away is one");
}

#[tokio::test]
async fn what_changes_by_itself_is_told_neither_alone_nor_beside_a_change() {
    let warehouse = |state: &str, size: &str| {
        let object = format!("{{\"name\":\"w\",\"state\":\"{state}\",\"cluster_size\":\"{size}\"}}");
        vec![Seed::new("sql_warehouse", "1", "w", &object)]
    };
    let of = async |then, now| between((then, Made::default()), (now, Made::default())).await;
    // The fixture hashes bodies as they are, as a program would whose table did not know the field yet.
    let idle = of(warehouse("RUNNING", "Small"), warehouse("STOPPED", "Small")).await;
    assert!(!idle.differs && !idle.unknown && idle.changes.is_empty(), "{idle:?}");
    let found = of(warehouse("RUNNING", "Small"), warehouse("STOPPED", "Large")).await;
    let paths: Vec<_> = found.changes[0].fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["cluster_size"]);
    let other = |state: &str| vec![Seed::new("unheard_of", "1", "w", &format!("{{\"state\":\"{state}\"}}"))];
    assert!(of(other("RUNNING"), other("STOPPED")).await.differs, "nobody knows better of other kinds");
}

#[tokio::test]
async fn a_kind_that_one_side_did_not_capture_is_unknown_as_a_whole() {
    let denied = Made { not_captured: Some(("job", Standing::Forbidden)), ..Made::default() };
    let found = between((vec![job("1", "a", 1)], Made::default()), (vec![], denied)).await;
    assert!(!found.differs && found.unknown && found.changes.is_empty());
    assert_eq!(found.kinds_unknown[0].to, Some(Standing::Forbidden));
}
