//! A collector of traces: takes OTLP over HTTP on loopback, and keeps what it is told.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The name of the service that sent it.
    pub service: String,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// The span.
    pub span: Span,
}

impl Seen {
    pub fn trace(&self) -> String {
        digits(&self.span.trace_id)
    }

    pub fn id(&self) -> String {
        digits(&self.span.span_id)
    }

    /// The id of its parent; empty for a root.
    pub fn parent(&self) -> String {
        digits(&self.span.parent_span_id)
    }

    /// What it failed with: its status is that of an error. Empty where it does not say.
    pub fn error(&self) -> Option<&str> {
        let status = self.span.status.as_ref()?;
        let said = self.attributes.get("error.type").map_or("", String::as_str);
        (status.code() == StatusCode::Error).then_some(said)
    }

    pub fn links(&self) -> Vec<String> {
        self.span.links.iter().map(|link| digits(&link.span_id)).collect()
    }
}

/// It stops with its runtime.
#[derive(Clone, Debug)]
pub struct Collector {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { url, seen: Arc::default() };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        collector
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be set to.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn spans(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Spans whose parent nobody sent.
    pub fn orphans(&self) -> Vec<Seen> {
        let spans = self.spans();
        let known: HashSet<_> = spans.iter().map(Seen::id).collect();
        spans
            .into_iter()
            .filter(|span| !span.parent().is_empty() && !known.contains(&span.parent()))
            .collect()
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let told = ExportTraceServiceRequest::decode(body).unwrap();
    let mut seen = collector.seen.lock().unwrap();
    for resource in told.resource_spans {
        let about = attributes(&resource.resource.unwrap_or_default().attributes);
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(Seen { service: service.clone(), attributes: attributes(&span.attributes), span });
        }
    }
}

fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    given.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
