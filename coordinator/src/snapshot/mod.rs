//! Reading snapshots.

pub mod find;
#[cfg(test)]
pub(crate) mod fixture;
pub mod good;
pub mod items;
pub mod survey;
#[cfg(test)]
mod tests;

use futures::TryStreamExt as _;
use lakehold_proto::fault::Result;
use lakehold_proto::format::{Index, IndexRef, Page, PageRef, read_page};
use lakehold_proto::ids::{EnvName, Hash, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::{Key, Store, get_existing, get_hashed};

/// Reads a manifest, and tells the hash of its bytes: the next link of the chain.
///
/// # Errors
/// `Integrity` when it is absent, damaged, or of a version that this program does not know.
pub async fn read_manifest(
    store: &dyn Store,
    environment: &EnvName,
    time: &str,
    snapshot: SnapshotId,
) -> Result<(Manifest, Hash)> {
    read_at(store, &Key::manifest(environment, time, snapshot)).await
}

/// The same, of a snapshot or of the record of a restore.
///
/// # Errors
/// As [`read_manifest`].
pub async fn read_at(store: &dyn Store, key: &Key) -> Result<(Manifest, Hash)> {
    let body = get_existing(store, key).await?;
    let manifest = Manifest::parse(key, &body)?;
    Ok((manifest, Hash::of(&body)))
}

/// Reads a page that a manifest names.
///
/// # Errors
/// `Integrity` when it is absent or damaged.
pub async fn page(store: &dyn Store, page: &PageRef) -> Result<Page> {
    read_page(&get_hashed(store, &Key::index(page.sha256), page.sha256).await?)
}

/// Reads an index that a page names.
///
/// # Errors
/// `Integrity` when it is absent or damaged.
pub async fn index(store: &dyn Store, index: &IndexRef) -> Result<Index> {
    index.read(&get_hashed(store, &Key::index(index.sha256), index.sha256).await?)
}

/// A snapshot as a listing of the store tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedSnapshot {
    /// Its time, as in its key.
    pub time: String,
    /// Its id.
    pub snapshot: SnapshotId,
}

/// The snapshots of an environment, oldest first: one for each manifest. A folder without one is none.
///
/// # Errors
/// The store's.
pub async fn list(store: &dyn Store, environment: &EnvName) -> Result<Vec<ListedSnapshot>> {
    let prefix = format!("snapshots/{environment}/");
    let parse = |key: Key| {
        let (time, id) =
            key.as_str().strip_prefix(&prefix)?.strip_suffix("/manifest.json")?.split_once('-')?;
        Some(ListedSnapshot { time: time.to_owned(), snapshot: id.parse().ok()? })
    };
    let mut listed: Vec<_> = store
        .list(&prefix)
        .try_filter_map(|listed| std::future::ready(Ok(parse(listed.key))))
        .try_collect()
        .await?;
    listed.sort_unstable();
    Ok(listed)
}

/// The records below a prefix, oldest first: of the restores into an environment, or of the verifies of its snapshots.
///
/// # Errors
/// The store's.
pub async fn records(store: &dyn Store, prefix: &str) -> Result<Vec<Key>> {
    let listed = store.list(prefix).map_ok(|listed| listed.key);
    let mut keys: Vec<_> = listed.try_collect().await?;
    keys.retain(|key| key.as_str().ends_with("/manifest.json"));
    keys.sort_unstable();
    Ok(keys)
}
