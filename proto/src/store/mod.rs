//! The store port: where bytes live, be it a directory or a bucket.
//!
//! **Promises of every adapter.** An object is there whole or not at all: no reader ever sees a part of a `put_new` that
//! failed or is under way. Once `put_new` has returned, the object survives the death of this process and machine. An
//! object is never changed. [`Store::list`] tells every object whose `put_new` returned before the listing began; one
//! written meanwhile may or may not be in it. **Retries** are safe for every call: repeating a `put_new` whose answer was
//! lost finds the object there. **Cancellation**: a dropped `put_new` leaves either nothing, or the whole object, or a
//! leftover outside the namespace of keys that no call ever shows. There is no delete here: deleting is `prune`'s alone,
//! under another identity.

mod aside;
mod directory;
mod faulty;
pub mod identity;
mod key;
mod patient;
pub mod s3;
mod traced;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken promise ends the suite")]
pub mod conformance;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use aside::AsideStore;
pub use directory::{DirectoryStore, EnvironmentLock};
pub use faulty::{Fault as Misbehaviour, FaultyStore};
pub use key::Key;
pub use patient::PatientStore;
pub use traced::Traced;

use crate::fault::{Class, Fault, Result};
use crate::ids::Hash;

/// Whether a conditional create made the object or found one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// This call made it.
    Created,
    /// It was there already, and was left as it is. Its bytes may differ from the ones offered: whoever may lose this
    /// race reads the object and adopts what is there.
    Existed,
}

/// What [`Store::list`] tells about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
}

/// What a store can do, as found by `init` and `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Conditional creates are atomic: of many at once, one wins. Without it a single coordinator must be relied on.
    pub conditional_create: bool,
}

/// What keeps the objects of a bucket from being deleted, by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ObjectLock {
    /// Nothing.
    Off,
    /// Object Lock.
    On {
        /// How long each new object is kept, in words ("compliance, 30 days"); without it none is kept by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retention: Option<String>,
    },
    /// It could not be learnt.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Where bytes live. See the module for what every adapter promises.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Makes the object `key` with `body`, unless there is one.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be reached or is full (nothing was made, or it is unknown whether: try again),
    /// `Denied` when writing is not allowed.
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put>;

    /// As [`Store::put_new`], for what can be done again: the object survives the death of this process, but may be lost,
    /// or be cut short, when the machine dies. Many small records cost much less so.
    ///
    /// # Errors
    /// Those of [`Store::put_new`].
    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.put_new(key, body).await
    }

    /// Reads an object whole, or `None` if there is none.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>>;

    /// Reads `length` bytes from `offset`; `None` if there is no such object.
    ///
    /// # Errors
    /// `Integrity` when the object ends before.
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>>;

    /// Lists the objects whose key begins with `prefix`, in no promised order. An error ends the stream; a listing that
    /// ended without one was whole.
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>>;

    /// The first path segments below `prefix` (which ends in `/` or is empty), such as the environments below
    /// `snapshots/`: a listing that does not walk what lies under them.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>>;

    /// What keeps its objects from being deleted, as the store itself tells; `None` where there is no such thing.
    async fn object_lock(&self) -> Option<ObjectLock> {
        None
    }

    /// What this store can do.
    fn properties(&self) -> Properties;

    /// Where it is, for people: a path or a URL without credentials.
    fn location(&self) -> String;
}

/// A shared [`Store`].
pub type SharedStore = Arc<dyn Store>;

/// Reads an object that must be there.
///
/// # Errors
/// `Integrity` (`store.missing-object`) when it is not.
pub async fn get_existing(store: &dyn Store, key: &Key) -> Result<Bytes> {
    store.get(key).await?.ok_or_else(|| missing(key))
}

/// Reads an object that is named by the hash of its bytes, and checks them.
///
/// # Errors
/// `Integrity` when it is absent, or its bytes are not those of the name.
pub async fn get_hashed(store: &dyn Store, key: &Key, hash: Hash) -> Result<Bytes> {
    let body = get_existing(store, key).await?;
    let found = Hash::of(&body);
    if found == hash {
        return Ok(body);
    }
    Err(Fault::new(
        Class::Integrity,
        "store.hash-mismatch",
        format!("read {key}"),
        format!("its {} bytes hash to {found}, not to its name: it was changed or damaged", body.len()),
    )
    .hint("run `lakehold verify --all` to see which items are hurt and which snapshots hold them"))
}

/// What [`put_hashed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutHashed {
    /// The object was made.
    Created,
    /// It was there already, whole.
    Existed,
    /// Something else lies at its key: an earlier object that was damaged. It cannot be overwritten, so whoever wants
    /// these bytes kept must write them in another form, which has another name.
    Damaged,
}

/// Makes an object that is named by its hash. One that is there already is read and checked, unless the caller has just
/// done so (`known_sound`): otherwise a damaged object would be relied on for ever by everything equal to it.
///
/// # Errors
/// The store's.
pub async fn put_hashed(store: &dyn Store, key: &Key, body: Bytes, known_sound: bool) -> Result<PutHashed> {
    match store.put_new(key, body.clone()).await? {
        Put::Created => Ok(PutHashed::Created),
        Put::Existed if known_sound => Ok(PutHashed::Existed),
        Put::Existed => match store.get(key).await? {
            Some(found) if found == body => Ok(PutHashed::Existed),
            _ => Ok(PutHashed::Damaged),
        },
    }
}

/// The fault of an object that something names and that is not there.
pub fn missing(key: &Key) -> Fault {
    Fault::new(
        Class::Integrity,
        "store.missing-object",
        format!("read {key}"),
        "the store has no such object",
    )
    .hint("run `lakehold verify --all` to see which items are hurt and which snapshots hold them")
}
