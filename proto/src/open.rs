//! Opens what the configuration names: the one place that knows which adapters there are.

use std::sync::Arc;

use crate::config::{Settings, StoreLocation};
use crate::fault::{Class, Fault, Result};
use crate::store::{DirectoryStore, SharedStore};

/// The store; also as a directory, where it is one. A directory need not exist.
///
/// # Errors
/// For a bucket, what keeps it from being reached.
pub async fn store(settings: &Settings) -> Result<(SharedStore, Option<DirectoryStore>)> {
    match &settings.store {
        StoreLocation::Directory(path) => {
            let directory = DirectoryStore::new(path);
            Ok((Arc::new(directory.clone()), Some(directory)))
        }
        StoreLocation::Bucket { .. } => Err(Fault::new(
            Class::Config,
            "config.store-unsupported",
            "open the store",
            "buckets (s3://) are not in this build yet",
        )),
    }
}
