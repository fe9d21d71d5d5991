//! The last good snapshot of an environment: what objectives are held against.

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Result};
use lakehold_proto::ids::{EnvName, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::Store;
use serde::Serialize;

use super::{list, read_manifest};
use crate::plan::parse_time;

/// What is told of it.
#[derive(Debug, Serialize)]
pub struct Good {
    /// Its id.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The items in it.
    pub items: u64,
    /// What should be in it and is not.
    pub gaps: u64,
}

/// The last full snapshot without a failed kind, and how many damaged manifests were passed over on the way.
///
/// # Errors
/// The store's.
pub async fn last_good(store: &dyn Store, environment: &EnvName) -> Result<(Option<Good>, u64)> {
    let mut damaged = 0;
    for one in list(store, environment).await?.into_iter().rev() {
        match read_manifest(store, environment, &one.time, one.snapshot).await {
            Ok((manifest, _)) if manifest.is_scoped() || !manifest.is_good() => {}
            Ok((manifest, _)) => return Ok((good(&manifest), damaged)),
            Err(fault) if fault.class == Class::Integrity => damaged += 1,
            Err(fault) => return Err(fault),
        }
    }
    Ok((None, damaged))
}

fn good(manifest: &Manifest) -> Option<Good> {
    let time = parse_time(&manifest.time)?;
    Some(Good { snapshot: manifest.snapshot, time, items: manifest.totals().items, gaps: manifest.gaps() })
}
