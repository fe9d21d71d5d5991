//! What both binaries tell of themselves while they work: logs, traces, metrics, and whether they live.
//!
//! **Traces** go by OTLP over HTTP to where OpenTelemetry's own variables say: `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, with `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and the others.
//! Where neither is set nothing is traced, and nothing is paid. A collector that is away costs spans and nothing else: they
//! wait in a bounded queue, are sent by a thread of their own, and are dropped when it is full.

mod http;
mod metrics;
mod place;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use http::{Monitor, listen};
pub use metrics::{Metrics, metrics};
pub use place::{Place, Placed, root_span};

use crate::fault::{Class, Fault, Result};
use crate::ids::Nonce;

/// How long the last spans may take on their way to the collector when the process ends.
const FLUSH: Duration = Duration::from_secs(5);
/// Spans that may wait for the collector. The default of 2 048 is less than one busy second.
const WAITING: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const MOST_WAITING: usize = 16_384;
/// What the clients of broker and bucket log in detail holds messages, passwords and session tokens.
const NEVER: &str = "lapin=off,aws_config=warn,aws_runtime=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_sigv4=warn";

/// What was set up; ends with [`Telemetry::end`].
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Begins to log to standard error what `filter` lets through, with `colours` or without, and to trace where the
/// environment asks for it. `service` is the name of the binary. To be called before the runtime is there: what exports
/// has a thread of its own.
///
/// # Errors
/// `Config` when the filter, or a variable of OpenTelemetry, cannot be understood.
pub fn start(service: &'static str, filter: &str, colours: bool) -> Result<Telemetry> {
    let filter = EnvFilter::try_new(format!("{filter},{NEVER}")).map_err(|e| {
        Fault::new(Class::Config, "usage.log", "read --log or RUST_LOG", e)
            .hint("write a level such as `info`, or `lakehold=debug`")
    })?;
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let traces = if wanted() { Some(provider(service)?) } else { None };
    let layer = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("lakehold"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_ours))
    });
    let begun = tracing_subscriber::registry().with(layer).with(log.with_filter(filter)).try_init();
    begun.map_err(|e| Fault::new(Class::Bug, "process.log", "begin to log", e))?;
    if let Some(provider) = &traces {
        global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends what waits, within a few seconds. To be called when the runtime has ended.
    pub fn end(self) {
        if let Some(traces) = self.traces
            && let Err(e) = traces.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(error = %e, "the last spans did not reach the collector");
        }
    }
}

/// Only what is ours is traced: spans and warnings of the libraries below may hold what no collector should see.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().starts_with("lakehold");
    ours && (metadata.is_span() || *metadata.level() <= tracing::Level::WARN)
}

/// Whether the environment names a collector, and does not switch tracing off.
fn wanted() -> bool {
    let set = |name| std::env::var(name).is_ok_and(|value: String| !value.trim().is_empty());
    let is =
        |name, word| std::env::var(name).is_ok_and(|value: String| value.trim().eq_ignore_ascii_case(word));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

fn provider(service: &'static str) -> Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
    let exporter = exporter.map_err(|e| {
        Fault::new(Class::Config, "telemetry.otlp", "read OTEL_EXPORTER_OTLP_ENDPOINT and its like", e)
            .hint("name a collector's URL such as http://127.0.0.1:4318, or unset the variable")
    })?;
    let mut batches = BatchConfigBuilder::default();
    if std::env::var_os(WAITING).is_none() {
        batches = batches.with_max_queue_size(MOST_WAITING);
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let resource = resource
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Nonce::random().to_string()))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_id_generator(place::Ids::default())
        .with_resource(resource)
        .build())
}
