//! A store that waits while the one behind it cannot be reached: for the coordinator, whose run shall survive an outage.
//!
//! **Retries**: what [`Class::may_retry`](crate::fault::Class::may_retry) allows is tried again, for ever, with a pause that
//! doubles; a store that is full does not empty itself, so that ends at once, as does a refusal. **Cancellation**: a caller
//! that is dropped waits no longer, so whoever must hear a request to stop selects on it. A listing is gathered before
//! anything of it is told, so that a broken one can begin anew: what is listed here is bounded (a batch, the segments of
//! a run).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tracing::{info, warn};

use super::{Key, Listed, ObjectLock, Properties, Put, SharedStore, Store};
use crate::clock::SharedClock;
use crate::fault::Result;

/// The first pause; doubled with each failure in a row.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug)]
pub struct PatientStore {
    inner: SharedStore,
    clock: SharedClock,
    /// An outage was told of and has not ended: it is told once, however many calls wait for it.
    away: Arc<AtomicBool>,
}

impl PatientStore {
    /// Wraps `inner`.
    pub fn shared(inner: SharedStore, clock: SharedClock) -> SharedStore {
        Arc::new(Self { inner, clock, away: Arc::default() })
    }

    async fn patiently<T, F: Future<Output = Result<T>>>(&self, mut call: impl FnMut() -> F) -> Result<T> {
        let mut pause = PAUSE;
        loop {
            match call().await {
                Err(fault) if fault.is_outage() => {
                    if !self.away.swap(true, Ordering::Relaxed) {
                        warn!(%fault, "the store cannot be reached; waiting for it");
                    }
                    self.clock.sleep(fault.after.unwrap_or(pause)).await;
                    pause = (pause * 2).min(LONGEST);
                }
                ended => {
                    if ended.is_ok() && self.away.swap(false, Ordering::Relaxed) {
                        info!("the store can be reached again");
                    }
                    return ended;
                }
            }
        }
    }
}

#[async_trait]
impl Store for PatientStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.patiently(|| self.inner.put_new(key, body.clone())).await
    }

    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.patiently(|| self.inner.put_new_soon(key, body.clone())).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.patiently(|| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        self.patiently(|| self.inner.get_range(key, offset, length)).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let listed =
            async move { store.patiently(|| store.inner.list(&prefix).try_collect::<Vec<_>>()).await };
        futures::stream::once(listed)
            .map_ok(|listed| futures::stream::iter(listed.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.patiently(|| self.inner.list_folders(prefix)).await
    }

    async fn object_lock(&self) -> Option<ObjectLock> {
        self.inner.object_lock().await
    }

    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DirectoryStore, FaultyStore, Misbehaviour};
    use super::*;
    use crate::clock::{Clock, Tick};

    /// Waits for nothing.
    #[derive(Debug)]
    struct Hasty;

    #[async_trait]
    impl Clock for Hasty {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn tick(&self) -> Tick {
            Tick::default()
        }
        async fn sleep(&self, _: Duration) {
            tokio::task::yield_now().await;
        }
    }

    fn patient(faults: Vec<Misbehaviour>) -> (tempfile::TempDir, SharedStore) {
        let dir = tempfile::tempdir().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirectoryStore::new(dir.path())), faults);
        (dir, PatientStore::shared(Arc::new(faulty), Arc::new(Hasty)))
    }

    #[tokio::test]
    async fn an_outage_is_waited_for_by_every_call() {
        let (_dir, store) = patient((0..5).map(|n| Misbehaviour::Away(3 * n + 1, 3 * n + 3)).collect());
        let key = Key::parse("runs/a/plan.json").unwrap();
        assert_eq!(store.put_new(&key, "x".into()).await.unwrap(), Put::Created);
        assert_eq!(store.get(&key).await.unwrap().unwrap(), "x");
        assert_eq!(store.get_range(&key, 0, 1).await.unwrap().unwrap(), "x");
        assert_eq!(store.list("runs/").try_collect::<Vec<_>>().await.unwrap().len(), 1);
        assert_eq!(store.list_folders("runs/").await.unwrap(), ["a"]);
    }

    #[tokio::test]
    async fn a_full_store_is_not_waited_for() {
        let (_dir, store) = patient(vec![Misbehaviour::FullFrom(1)]);
        let key = Key::parse("a").unwrap();
        assert_eq!(store.put_new(&key, "x".into()).await.unwrap_err().code, "store.full");
    }
}
