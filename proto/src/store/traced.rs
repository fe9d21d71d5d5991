//! A store whose every call is a span: what a run's time went into is seen in its trace.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tracing::{Instrument as _, Span, info_span};

use super::{Key, Listed, ObjectLock, Properties, Put, SharedStore, Store};
use crate::fault::Result;

/// Passes every call on, in a span of its own.
#[derive(Debug)]
pub struct Traced(SharedStore);

impl Traced {
    /// Over `store`.
    pub fn over(store: SharedStore) -> SharedStore {
        Arc::new(Self(store))
    }
}

/// What belongs to no run or task (a listing of snapshots, say) is not traced: it would be a trace of one span.
fn belongs() -> bool {
    !Span::current().is_none()
}

fn span(operation: &'static str, key: &str) -> Span {
    if !belongs() {
        return Span::none();
    }
    info_span!("store", otel.name = operation, otel.kind = "client", lakehold.store.key = key)
}

fn upload(key: &Key, body: &Bytes) -> Span {
    if !belongs() {
        return Span::none();
    }
    info_span!(
        "store",
        otel.name = "put",
        otel.kind = "client",
        lakehold.store.key = key.as_str(),
        lakehold.store.bytes = body.len()
    )
}

#[async_trait]
impl Store for Traced {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        let span = upload(key, &body);
        self.0.put_new(key, body).instrument(span).await
    }

    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        let span = upload(key, &body);
        self.0.put_new_soon(key, body).instrument(span).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get(key).instrument(span("get", key.as_str())).await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        self.0.get_range(key, offset, length).instrument(span("get", key.as_str())).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let (listed, span) = (self.0.list(prefix), span("list", prefix));
        // The span lasts as long as the listing.
        listed.map(move |one| span.in_scope(|| one)).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.list_folders(prefix).instrument(span("list", prefix)).await
    }

    async fn object_lock(&self) -> Option<ObjectLock> {
        self.0.object_lock().await
    }

    fn properties(&self) -> Properties {
        self.0.properties()
    }

    fn location(&self) -> String {
        self.0.location()
    }
}
