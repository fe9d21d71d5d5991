//! `lakehold.json`: what makes a directory or a bucket a store, and what a probe found it can do.
//!
//! It is written once, by `init` or by the first backup into a directory. **Opening only reads.** Two who create a store
//! at once end with one identity: the second adopts the first.

pub mod probe;

use crate::fault::{Class, Fault, Result};
use crate::format::STORE_VERSION;
use crate::ids::Nonce;
use crate::store::{Key, Put, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use probe::{Probed, probe};

/// The schema name of an [`Identity`]; its number is the version of the store's format.
pub const IDENTITY_SCHEMA: &str = "lakehold.store/v1";

/// What `lakehold.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `lakehold.store/v1`.
    pub schema: String,
    /// The version of the store's format. A program that knows only smaller ones stops.
    pub version: u32,
    /// 32 hexadecimal digits, drawn when the store was made.
    pub store: String,
    /// When it was made.
    pub created: Timestamp,
    /// What was found when it was made.
    pub probe: Probed,
}

/// Opens a store: reads its identity, and nothing else.
///
/// # Errors
/// `store.absent` (exit 10) when there is none, `store.newer-format` when a newer Lakehold wrote it, `Integrity` when
/// its identity is damaged.
pub async fn open(store: &dyn Store) -> Result<Identity> {
    match read(store).await? {
        Some(identity) => Ok(identity),
        None => {
            let detail = format!("{} is not a store: it has no {}", store.location(), Key::identity());
            Err(Fault::new(Class::Config, "store.absent", "open the store", detail)
                .hint("run `lakehold backup` or `lakehold init` to make one, or name another with --store or --config"))
        }
    }
}

/// Opens a store, or makes one where there is none.
///
/// # Errors
/// Those of [`open`] but `store.absent`, and those of [`probe()`].
pub async fn open_or_create(store: &dyn Store, now: Timestamp) -> Result<Identity> {
    match read(store).await? {
        Some(identity) => Ok(identity),
        None => Ok(create(store, now).await?.0),
    }
}

/// Makes a store: probes what it can do and writes its identity. Returns also whether this call made it.
///
/// # Errors
/// The store's, and those of [`open`] when somebody else made a newer one meanwhile.
pub async fn create(store: &dyn Store, now: Timestamp) -> Result<(Identity, bool)> {
    if let Some(identity) = read(store).await? {
        return Ok((identity, false));
    }
    let identity = Identity {
        schema: IDENTITY_SCHEMA.into(),
        version: STORE_VERSION,
        store: format!("{}{}", Nonce::random(), Nonce::random()),
        created: now,
        probe: probe(store).await?,
    };
    let body = serde_json::to_vec_pretty(&identity)
        .map_err(|e| Fault::new(Class::Bug, "store.encode", "write the store's identity", e))?;
    match store.put_new(&Key::identity(), body.into()).await? {
        Put::Created => Ok((identity, true)),
        Put::Existed => Ok((open(store).await?, false)),
    }
}

async fn read(store: &dyn Store) -> Result<Option<Identity>> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(body) = store.get(&Key::identity()).await? else { return Ok(None) };
    let damaged = |e: serde_json::Error| {
        Fault::new(Class::Integrity, "store.identity-damaged", format!("read {}", Key::identity()), e)
            .hint("nothing but this file is hurt: bring it back from a copy of the store")
    };
    let found: Version = serde_json::from_slice(&body).map_err(damaged)?;
    if found.version > STORE_VERSION {
        let detail =
            format!("its format is version {}, and this program knows up to {STORE_VERSION}", found.version);
        return Err(Fault::new(Class::Unsupported, "store.newer-format", "open the store", detail)
            .hint("a newer lakehold wrote it: upgrade this one; nothing was changed"));
    }
    serde_json::from_slice(&body).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use crate::store::DirectoryStore;

    use super::*;

    #[tokio::test]
    async fn a_store_is_made_once_and_opening_only_reads() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path().join("store"));
        let absent = open(&store).await.unwrap_err();
        assert_eq!((absent.code, absent.exit_code()), ("store.absent", 10));
        assert!(!dir.path().join("store").exists(), "looking makes nothing");
        let (made, new) = create(&store, Timestamp::UNIX_EPOCH).await.unwrap();
        assert!(new && made.probe.conditional_create && made.probe.list_after_write);
        assert_eq!(create(&store, Timestamp::MAX).await.unwrap(), (made.clone(), false));
        assert_eq!(open(&store).await.unwrap(), made);
        assert_eq!(open_or_create(&store, Timestamp::MAX).await.unwrap(), made);
    }

    #[tokio::test]
    async fn a_newer_or_damaged_identity_is_told_apart() {
        for (body, code, exit) in [
            (r#"{"version": 2, "whatever": []}"#, "store.newer-format", 1),
            ("{", "store.identity-damaged", 5),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = DirectoryStore::new(dir.path());
            store.put_new(&Key::identity(), body.into()).await.unwrap();
            let fault = open_or_create(&store, Timestamp::UNIX_EPOCH).await.unwrap_err();
            assert_eq!((fault.code, fault.exit_code()), (code, exit));
        }
    }
}
