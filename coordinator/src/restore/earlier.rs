//! What earlier restores into an environment made there: their records tell it.

use std::collections::{BTreeSet, HashSet};

use lakehold_proto::fault::{Class, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::{Key, Store};

use super::planner::IdMap;
use super::side::{Id, Side, id};
use crate::snapshot::items::each_index;
use crate::snapshot::{read_at, records};

/// Earlier restores that are looked into for what items became.
const LOOK_BACK: usize = 20;

/// What items became in earlier restores from one environment into another: the latest that knows an item counts.
pub(super) async fn id_map(store: &dyn Store, from: &Side, to: &Side) -> Result<IdMap> {
    let (mut map, mut told) = (IdMap::new(), vec![false; from.len()]);
    let restores = Key::restores(&to.manifest.environment);
    for key in records(store, &restores).await?.into_iter().rev().take(LOOK_BACK) {
        match learn(store, &key, (from, to), &mut told, &mut map).await {
            // What it knew is found by natural key, or told to be ambiguous.
            Err(fault) if fault.class == Class::Integrity => {}
            learned => learned?,
        }
    }
    Ok(map)
}

/// What one restore tells of items of which none that is later told anything.
async fn learn(
    store: &dyn Store,
    key: &Key,
    (from, to): (&Side, &Side),
    told: &mut [bool],
    map: &mut IdMap,
) -> Result<()> {
    let (record, _) = read_at(store, key).await?;
    let source = record.restore.as_ref().map(|restored| &restored.from.environment);
    if source != Some(&from.manifest.environment) {
        return Ok(());
    }
    each_became(store, &record, |act, kind, key, became| {
        let item = from.keyed(kind, key).filter(|_| matches!(act, "create" | "replace"));
        if let Some(item) = item.filter(|item| !std::mem::replace(&mut told[*item], true))
            && let Some(target) = to.keyed(kind, became)
        {
            map.insert(item as u32, target as u32);
        }
    })
    .await
}

/// Hands out what a restore did, of what it did it, and what that is in the target: act, kind, and both keys.
pub(super) async fn each_became(
    store: &dyn Store,
    record: &Manifest,
    mut each: impl FnMut(&str, &Kind, &str, &str),
) -> Result<()> {
    each_index(store, record, &|_| true, |named, index| {
        for entry in &index.entries {
            if let (Some((act, key)), Some(became)) = (entry.key.split_once('/'), &entry.became) {
                each(act, &named.kind, key, became);
            }
        }
        Ok(true)
    })
    .await
}

/// What a restore made, and what else it changed, as words of a request.
pub(super) async fn touched(store: &dyn Store, record: &Manifest) -> Result<(HashSet<Id>, BTreeSet<String>)> {
    let (mut made, mut changed) = (HashSet::new(), BTreeSet::new());
    each_became(store, record, |act, kind, _, became| {
        if act == "create" {
            made.insert(id(kind, became));
        }
    })
    .await?;
    each_became(store, record, |act, kind, _, became| {
        if matches!(act, "replace" | "access" | "activate") && !made.contains(&id(kind, became)) {
            changed.insert(format!("{kind}/#{became}"));
        }
    })
    .await?;
    Ok((made, changed))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakehold_proto::manifest::RESTORED_SCHEMA;
    use lakehold_proto::restore::{Crossing, Restoring, SnapshotRef};
    use lakehold_proto::store::{FaultyStore, Misbehaviour, SharedStore};
    use lakehold_worker::configured::blueprint;

    use super::*;
    use crate::snapshot::find::Found;
    use crate::snapshot::fixture::{Made, Seed, Site};

    fn job(key: &str) -> Seed {
        Seed::new("job", key, key, "{}")
    }

    async fn side(site: &Site, hour: u32, keys: &[&str]) -> Side {
        let found = site.snapshot(hour, keys.iter().map(|key| job(key)).collect(), Made::default()).await;
        Side::read(&site.store, found.manifest, blueprint("databricks").unwrap()).await.unwrap()
    }

    /// The record of a restore of `from`, in which items became others.
    async fn record(site: &Site, hour: u32, from: &Side, became: &[(&str, &str)]) -> Manifest {
        let seeds = became.iter().map(|(key, became)| job(&format!("create/{key}")).became(became));
        let Found { mut manifest, hash } = site.snapshot(hour, seeds.collect(), Made::default()).await;
        let Manifest { environment, snapshot, time, .. } = from.manifest.clone();
        let from = SnapshotRef { environment, snapshot, time, manifest: hash };
        manifest.schema = RESTORED_SCHEMA.into();
        manifest.restore = Some(Box::new(Restoring {
            before: from.clone(),
            from,
            crossing: Crossing::default(),
            undoes: None,
            warehouse: None,
        }));
        let body = serde_json::to_vec(&manifest).unwrap();
        site.store.put_new(&manifest.key(), body.into()).await.unwrap();
        manifest
    }

    fn hurt(site: &Site, key: &Key) {
        let path = site.dir.path().join(key.as_str());
        let mut body = std::fs::read(&path).unwrap();
        body.truncate(body.len() / 2);
        std::fs::write(path, body).unwrap();
    }

    fn told(map: &IdMap, from: &Side, to: &Side) -> Vec<(String, String)> {
        let key = |side: &Side, number: u32| side.item(number as usize).unwrap().entry.key;
        let mut told: Vec<_> =
            map.iter().map(|(item, target)| (key(from, *item), key(to, *target))).collect();
        told.sort();
        told
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[tokio::test]
    async fn the_latest_restore_that_knows_an_item_counts() {
        let site = Site::new();
        let (from, to) = (side(&site, 1, &["1", "2", "3"]).await, side(&site, 2, &["20", "21", "31"]).await);
        record(&site, 3, &from, &[("1", "10"), ("2", "20"), ("3", "31")]).await;
        record(&site, 4, &from, &[("1", "11"), ("2", "21")]).await;
        let map = id_map(&*site.store, &from, &to).await.unwrap();
        // What the latest made of 1 is gone; what an earlier one made of it is not it.
        assert_eq!(told(&map, &from, &to), pairs(&[("2", "21"), ("3", "31")]));
    }

    #[tokio::test]
    async fn a_damaged_record_is_passed_over() {
        let site = Site::new();
        let (from, to) = (side(&site, 1, &["1"]).await, side(&site, 2, &["10", "11"]).await);
        let earlier = record(&site, 3, &from, &[("1", "10")]).await;
        let later = record(&site, 4, &from, &[("1", "11")]).await;
        let known = async || {
            let map = id_map(&*site.store, &from, &to).await.unwrap();
            told(&map, &from, &to)
        };
        assert_eq!(known().await, pairs(&[("1", "11")]));
        hurt(&site, &Key::index(later.pages[0].sha256));
        assert_eq!(known().await, pairs(&[("1", "10")]), "its page is damaged");
        hurt(&site, &earlier.key());
        assert_eq!(known().await, pairs(&[]), "and so is the other");
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error() {
        let site = Site::new();
        let (from, to) = (side(&site, 1, &["1"]).await, side(&site, 2, &["10"]).await);
        record(&site, 3, &from, &[("1", "10")]).await;
        // A listing, the record, its page, its index.
        for call in 1..=4 {
            let faults = vec![Misbehaviour::Away(call, call + 1)];
            let store: SharedStore = Arc::new(FaultyStore::new(Arc::clone(&site.store), faults));
            assert_eq!(id_map(&*store, &from, &to).await.unwrap_err().code, "store.away", "call {call}");
        }
    }
}
