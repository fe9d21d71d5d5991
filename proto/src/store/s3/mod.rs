//! A store in a bucket of S3 or of a server that speaks it.
//!
//! **Atomicity.** An object is made by one conditional request (`If-None-Match: *`), which the server carries out whole
//! or not at all; a large one is uploaded in parts, which have no key, and made by the conditional request that completes
//! them. Nothing is ever overwritten or deleted: the identity needs `s3:PutObject`, `s3:GetObject` and `s3:ListBucket`,
//! and a bucket with Object Lock or with a policy that denies the rest is as good as any. (`s3:ListBucket` also because
//! without it an absent object is answered as a denied one.) `s3:AbortMultipartUpload` is wished for: without it the parts
//! of uploads that failed stay until the bucket's lifecycle removes them.
//!
//! **A server that ignores the condition**, or refuses it, is found out by the probe of `lakehold init`, which records it
//! in `lakehold.json`; [`S3Store::connect`] reads that. Then this store looks whether an object is there before it makes
//! it, which is safe for one coordinator at a time, and [`Store::properties`] says so.
//!
//! **Checksums.** The SHA-256 of each body goes with its upload, so that the server refuses what was damaged on the way,
//! and is compared on reading where the server gives it back.
//!
//! **Retries.** The SDK repeats what may be repeated (lost connections, 5xx, throttling), with growing pauses; a
//! conditional conflict (409), a body that broke off and one that disagrees with its checksum are repeated here. A create
//! whose answer was lost finds its own object when it is repeated, and says [`Put::Existed`]. Proxies are taken from the
//! environment (`HTTPS_PROXY`, `NO_PROXY`). **Cancellation**: a dropped upload of parts is aborted by a task of its own;
//! after a crash its parts are left over, which no call shows; a lifecycle rule (`AbortIncompleteMultipartUpload`) removes
//! them.

mod bucket;
mod checksum;
mod config;
mod fault;
mod listing;
mod lock;
mod multipart;
mod put;
mod read;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use config::{S3Config, S3Keys};

use self::bucket::Bucket;
use super::{Key, Listed, ObjectLock, Properties, Put, Store};
use crate::fault::Result;

/// A [`Store`] in a bucket. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Connects to a bucket: finds credentials, and reads there what the probe recorded about it, if anything.
    ///
    /// # Errors
    /// `Config` for a location that cannot be one, a plain http endpoint that is not loopback, no region, no credentials,
    /// or a bucket that does not exist; else the store's own, such as `Denied` or `Unavailable`.
    pub async fn connect(config: S3Config) -> Result<Self> {
        let store = Self { bucket: Arc::new(Bucket::open(config).await?) };
        if let Some(identity) =
            store.get(&Key::identity()).await.map_err(|e| e.while_doing("open the store"))?
        {
            store.bucket.believe(&identity);
        }
        Ok(store)
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        if body.len() > multipart::ABOVE {
            return multipart::put_new(&self.bucket, key, body).await;
        }
        put::put_new(&self.bucket, key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        read::get(&self.bucket, key).await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        read::get_range(&self.bucket, key, offset, length).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        listing::list(Arc::clone(&self.bucket), prefix)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        listing::list_folders(&self.bucket, prefix).await
    }

    async fn object_lock(&self) -> Option<ObjectLock> {
        Some(lock::look(&self.bucket).await)
    }

    fn properties(&self) -> Properties {
        Properties { conditional_create: self.bucket.is_conditional() }
    }

    fn location(&self) -> String {
        self.bucket.location()
    }
}
