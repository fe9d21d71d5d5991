//! The third round: which items lie in what is hurt, and which snapshots hold them.

use std::collections::{BTreeMap, HashSet};

use lakehold_proto::fault::Result;
use lakehold_proto::ids::SnapshotId;
use lakehold_proto::store::SharedStore;

use super::HurtItem;
use super::contents::Contents;
use super::findings::Hurt;
use crate::snapshot::{index, page};

/// Hurt items that are listed; the rest is counted.
pub(super) const LISTED: usize = 10_000;

/// Who is hurt.
#[derive(Debug, Default)]
pub(super) struct Blamed {
    pub(super) items: Vec<HurtItem>,
    pub(super) total: u64,
    pub(super) snapshots: HashSet<SnapshotId>,
}

pub(super) async fn blame(store: &SharedStore, contents: &Contents, hurt: &Hurt) -> Result<Blamed> {
    let mut blamed = Blamed::default();
    if hurt.is_empty() {
        return Ok(blamed);
    }
    let sound: HashSet<_> = contents.all_indexes().map(|named| named.sha256).collect();
    let mut items: BTreeMap<_, HurtItem> = BTreeMap::new();
    let mut beyond = HashSet::new();
    for manifest in &contents.snapshots {
        for named in &manifest.pages {
            // A page that cannot be read is damage of the first round.
            let Ok(page) = page(&**store, named).await else { continue };
            for named in page.indexes.iter().filter(|named| sound.contains(&named.sha256)) {
                let read = index(&**store, named).await?;
                for entry in &read.entries {
                    let parts = entry.parts.iter().filter(|part| hurt.hurts(&read, part));
                    let parts: Vec<_> = parts.map(|part| part.role.word()).collect();
                    if parts.is_empty() {
                        continue;
                    }
                    blamed.snapshots.insert(manifest.snapshot);
                    let id = (manifest.environment.clone(), named.kind.clone(), entry.key.clone());
                    if items.len() >= LISTED && !items.contains_key(&id) {
                        beyond.insert(lakehold_proto::ids::Hash::of(format!("{id:?}")));
                        continue;
                    }
                    let item = items.entry(id).or_insert_with(|| HurtItem {
                        environment: manifest.environment.clone(),
                        kind: named.kind.clone(),
                        key: entry.key.clone(),
                        name: entry.name.clone(),
                        parts: Vec::new(),
                        snapshots: Vec::new(),
                    });
                    item.parts
                        .extend(parts.iter().filter(|part| !item.parts.contains(part)).collect::<Vec<_>>());
                    if !item.snapshots.contains(&manifest.snapshot) {
                        item.snapshots.push(manifest.snapshot);
                    }
                }
            }
        }
    }
    blamed.total = (items.len() + beyond.len()) as u64;
    blamed.items = items.into_values().collect();
    Ok(blamed)
}
