//! Which snapshot an address means.

use lakehold_proto::address::{Address, Moment, When};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Hash};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::Store;

use super::{ListedSnapshot, list, read_manifest};

/// A snapshot that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its manifest.
    pub manifest: Manifest,
    /// The hash of the manifest's bytes.
    pub hash: Hash,
}

/// The names of all environments that have a folder in `room`, such as `snapshots/`, sorted. Folders that are no
/// environment's are none of ours.
///
/// # Errors
/// The store's.
pub async fn environments(store: &dyn Store, room: &str) -> Result<Vec<EnvName>> {
    let folders = store.list_folders(room).await?;
    Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
}

/// The snapshot that `address` means. `latest` and times look only at full snapshots; an id finds scoped ones, too.
///
/// # Errors
/// `snapshot.absent` when there is none, `snapshot.ambiguous` when an id's beginning fits several (both list what there
/// is), `Unsupported` for a live environment, `Integrity` when the manifest that is meant is damaged.
pub async fn find(store: &dyn Store, address: &Address) -> Result<Found> {
    let when = match &address.state {
        Moment::Snapshot(when) => when,
        Moment::Live => {
            let detail = "this build reads snapshots only";
            return Err(Fault::new(Class::Unsupported, "address.live", format!("read {address}"), detail)
                .hint(format!("take a backup and name it: {}@latest", address.environment)));
        }
    };
    find_in(store, &address.environment, when).await
}

/// The snapshot of `environment` that `when` means. See [`find`].
///
/// # Errors
/// Those of [`find`].
pub async fn find_in(store: &dyn Store, environment: &EnvName, when: &When) -> Result<Found> {
    let listed = list(store, environment).await?;
    match when {
        When::Latest => latest_full(store, environment, when, &listed).await,
        When::At(time) => {
            let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
            let before = listed.partition_point(|snapshot| snapshot.time <= time);
            latest_full(store, environment, when, &listed[..before]).await
        }
        When::Id(digits) => {
            let fitting: Vec<_> = listed.iter().filter(|one| one.snapshot.starts_with(digits)).collect();
            match fitting.as_slice() {
                [one] => read(store, environment, one).await,
                [] => Err(absent(environment, when, &listed)),
                several => Err(ambiguous(environment, digits, several)),
            }
        }
    }
}

async fn latest_full(
    store: &dyn Store,
    environment: &EnvName,
    when: &When,
    listed: &[ListedSnapshot],
) -> Result<Found> {
    for one in listed.iter().rev() {
        let found = read(store, environment, one).await.map_err(|fault| {
            fault.hint(format!(
                "name an older snapshot of {environment}: `lakehold snapshots --env {environment}`"
            ))
        })?;
        if !found.manifest.is_scoped() {
            return Ok(found);
        }
    }
    Err(absent(environment, when, listed))
}

async fn read(store: &dyn Store, environment: &EnvName, one: &ListedSnapshot) -> Result<Found> {
    let (manifest, hash) = read_manifest(store, environment, &one.time, one.snapshot).await?;
    Ok(Found { manifest, hash })
}

fn absent(environment: &EnvName, when: &When, listed: &[ListedSnapshot]) -> Fault {
    let detail = match (listed.last(), when) {
        (None, When::Latest) => "it has no snapshot in this store".to_owned(),
        (Some(_), When::Latest) => "it has only scoped snapshots, which @latest passes over".to_owned(),
        (_, When::At(time)) => format!("it has no full snapshot at or before {time}"),
        (_, When::Id(digits)) => format!("it has no snapshot whose id begins with {digits}"),
    };
    Fault::new(Class::Absent, "snapshot.absent", format!("find {environment}@{when}"), detail)
        .hint("`lakehold snapshots` lists what there is")
}

fn ambiguous(environment: &EnvName, digits: &str, several: &[&ListedSnapshot]) -> Fault {
    let ids: Vec<_> = several.iter().map(|one| format!("{} ({})", one.snapshot, one.time)).collect();
    let detail = format!("{} snapshots begin so: {}", several.len(), ids.join(", "));
    Fault::new(Class::Config, "snapshot.ambiguous", format!("find {environment}@{digits}"), detail)
        .hint("type more of its id")
}
