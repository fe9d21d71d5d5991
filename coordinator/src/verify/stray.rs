//! What in a store no snapshot refers to. None of it is damage: packs of a run that is under way, or of a task that died
//! before it reported, look just so.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::Hash;
use lakehold_proto::store::SharedStore;

use super::contents::Contents;
use crate::output::bytes;
use crate::snapshot::index;

/// Foreign files that are named; the rest is counted.
const NAMED: usize = 5;

pub(super) async fn notes(store: &SharedStore, contents: &Contents) -> Result<Vec<String>> {
    let mut packs = HashSet::new();
    for named in contents.all_indexes() {
        packs.extend(index(&**store, named).await?.header.packs.iter().map(|pack| pack.sha256));
    }
    let mut unreferenced = [(0_u64, 0_u64); 2];
    let mut foreign = Vec::new();
    let mut listing = store.list("");
    while let Some(listed) = listing.try_next().await? {
        let key = listed.key.as_str();
        let (room, rest) = key.split_once('/').unwrap_or((key, ""));
        let hash = rest.rsplit_once('/').and_then(|(_, name)| name.parse::<Hash>().ok());
        let slot = match (room, hash) {
            ("packs", Some(hash)) if packs.contains(&hash) => continue,
            ("indexes", Some(hash)) if contents.met.contains(&hash) => continue,
            ("packs", Some(_)) => 0,
            ("indexes", Some(_)) => 1,
            ("lakehold.json" | "runs" | "snapshots" | "restores" | "verifies" | "drills" | "probes", _) => {
                continue;
            }
            _ => {
                foreign.push(key.to_owned());
                continue;
            }
        };
        unreferenced[slot].0 += 1;
        unreferenced[slot].1 += listed.size;
    }
    let mut notes = Vec::new();
    for ((number, size), what) in unreferenced.into_iter().zip(["packs", "indexes and pages"]) {
        if number > 0 {
            notes.push(format!(
                "{number} {what} ({}) belong to no snapshot: a run under way, or one that died",
                bytes(size)
            ));
        }
    }
    if !foreign.is_empty() {
        foreign.sort_unstable();
        let more = foreign.len().saturating_sub(NAMED);
        foreign.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("not Lakehold's, and left alone: {}{more}", foreign.join(", ")));
    }
    Ok(notes)
}
