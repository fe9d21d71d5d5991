//! A store whose every call is a span: what a run's time went into is seen in its trace.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tracing::{Span, info_span};

use super::{Key, Listed, ObjectLock, Properties, Put, SharedStore, Store};
use crate::fault::Result;
use crate::telemetry::{failed, within};

/// Passes every call on, in a span of its own.
#[derive(Debug)]
pub struct Traced {
    store: SharedStore,
    bucket: Option<Bucket>,
}

/// Where in S3 the store is.
#[derive(Debug)]
struct Bucket {
    name: String,
    /// What stands before each key.
    root: String,
}

impl Traced {
    /// Over `store`.
    pub fn over(store: SharedStore) -> SharedStore {
        Arc::new(Self { store, bucket: None })
    }

    /// Over `store`, which is the folder `prefix` of `bucket`: spans say so in the words of S3.
    pub fn over_bucket(store: SharedStore, bucket: &str, prefix: &str) -> SharedStore {
        let root = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Arc::new(Self { store, bucket: Some(Bucket { name: bucket.to_owned(), root }) })
    }

    /// What belongs to no run or task (a listing of snapshots, say) is not traced: it would be a trace of one span.
    fn span(&self, operation: &'static str, key: &Key, bytes: Option<usize>) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        let bucket = self.bucket.as_ref();
        // <https://opentelemetry.io/docs/specs/semconv/object-stores/s3/>
        info_span!(
            "store",
            otel.name = operation,
            otel.kind = "client",
            lakehold.store.key = key.as_str(),
            lakehold.store.bytes = bytes,
            aws.s3.bucket = bucket.map(|bucket| bucket.name.as_str()),
            aws.s3.key = bucket.map(|bucket| format!("{}{key}", bucket.root))
        )
    }

    /// The same of a listing, which is of no one object.
    fn listing(&self, prefix: &str) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        let bucket = self.bucket.as_ref();
        info_span!(
            "store",
            otel.name = "list",
            otel.kind = "client",
            lakehold.store.key = prefix,
            aws.s3.bucket = bucket.map(|bucket| bucket.name.as_str())
        )
    }
}

#[async_trait]
impl Store for Traced {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        let span = self.span("put", key, Some(body.len()));
        within(span, self.store.put_new(key, body)).await
    }

    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        let span = self.span("put", key, Some(body.len()));
        within(span, self.store.put_new_soon(key, body)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        within(self.span("get", key, None), self.store.get(key)).await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        within(self.span("get", key, None), self.store.get_range(key, offset, length)).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let (listed, span) = (self.store.list(prefix), self.listing(prefix));
        // The span lasts as long as the listing.
        let told =
            move |one: Result<Listed>| span.in_scope(|| one.inspect_err(|fault| failed(&span, fault.code)));
        listed.map(told).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        within(self.listing(prefix), self.store.list_folders(prefix)).await
    }

    async fn object_lock(&self) -> Option<ObjectLock> {
        self.store.object_lock().await
    }

    fn properties(&self) -> Properties {
        self.store.properties()
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use futures::TryStreamExt as _;
    use opentelemetry::trace::{Status, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use tracing::Instrument as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    use super::*;
    use crate::store::{DirectoryStore, FaultyStore, Misbehaviour};

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_span_tells_the_object_and_whether_the_call_failed() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _traced = tracing_subscriber::registry().with(layer).set_default();
        let dir = tempfile::tempdir().unwrap();
        let away = vec![Misbehaviour::Away(2, 4)];
        let store = Arc::new(FaultyStore::new(Arc::new(DirectoryStore::new(dir.path())), away));
        let store = Traced::over_bucket(store, "backups", "dr");
        let key = Key::identity();
        let calls = async {
            store.put_new(&key, Bytes::from_static(b"four")).await.unwrap();
            store.get(&key).await.unwrap_err();
            store.list("runs/").try_collect::<Vec<_>>().await.unwrap_err();
        };
        calls.instrument(info_span!("run")).await;
        let spans = kept.0.lock().unwrap();
        let told = |name: &str| {
            let span = spans.iter().find(|span| span.name == name).unwrap();
            let attributes =
                span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string()));
            (attributes.collect::<BTreeMap<_, _>>(), span.status.clone())
        };
        let (put, status) = told("put");
        assert_eq!(
            (put["aws.s3.bucket"].as_str(), put["aws.s3.key"].as_str()),
            ("backups", "dr/lakehold.json")
        );
        assert_eq!((put["lakehold.store.bytes"].as_str(), status), ("4", Status::Unset));
        for name in ["get", "list"] {
            let (failed, status) = told(name);
            assert_eq!((failed["error.type"].as_str(), status), ("store.away", Status::error("")), "{name}");
        }
    }
}
