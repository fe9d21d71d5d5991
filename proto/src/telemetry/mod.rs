//! What both binaries tell of themselves while they work: logs, traces, metrics, and whether they live.
//!
//! **Traces** go by OTLP over HTTP to where OpenTelemetry's own variables say: `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, with `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and the others.
//! Where neither is set nothing is traced, and nothing is paid. A collector that is away, or never answers, costs spans and
//! [`SILENCE`] at the end of the process, and nothing else: spans wait in a bounded queue, are sent by a thread of their own,
//! and are dropped when it is full.
//!
//! **Attributes** have the names of OpenTelemetry's semantic conventions, and ours, which begin with `lakehold.`. None holds
//! a query string, a body or a secret. A span of what failed has the status of an error, with the fault's code as
//! `error.type` and without its text.

mod http;
mod metrics;
mod place;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter as Exports,
};
use tracing::{Instrument as _, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use http::{Monitor, listen};
pub use metrics::{Metrics, metrics};
pub use place::{Place, Placed, root_span};

use crate::clock::SystemClock;
use crate::fault::{Class, Fault, Result};
use crate::ids::{Nonce, RunId};

/// How long the last spans may take on their way to the collector when the process ends.
const FLUSH: Duration = Duration::from_secs(5);
/// How long the process waits there for a collector that takes nothing. One far away may need a second for its first answer.
const SILENCE: Duration = Duration::from_secs(2);
/// Spans that may wait for the collector. The default of 2 048 is less than one busy second.
const WAITING: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const MOST_WAITING: usize = 16_384;
/// What the clients of broker and bucket log in detail holds messages, passwords and session tokens.
const NEVER: &str = "lapin=off,aws_config=warn,aws_runtime=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_sigv4=warn";

/// What was set up; ends with [`Telemetry::end`].
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<Traces>,
}

#[derive(Debug)]
struct Traces {
    provider: SdkTracerProvider,
    /// Hears of batches that the collector took.
    taken: Receiver<()>,
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
    let traces = if wanted() { Some(traces(service)?) } else { None };
    let layer = traces.as_ref().map(|Traces { provider, .. }| {
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
    if let Some(Traces { provider, .. }) = &traces {
        global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends what waits, for as long as the collector takes it, but no longer than a few seconds. To be called when the
    /// runtime has ended.
    pub fn end(self) {
        let Some(Traces { provider, taken }) = self.traces else { return };
        // The thread that exports is only told to end: it sends what waits, and hangs up.
        let _ = provider.shutdown_with_timeout(Duration::ZERO);
        let clock = SystemClock::shared();
        loop {
            match taken.recv_timeout(SILENCE) {
                Ok(()) if clock.tick().elapsed() < FLUSH => {}
                Err(RecvTimeoutError::Disconnected) => return,
                _ => return tracing::warn!("the last spans did not reach the collector"),
            }
        }
    }
}

/// Carries `call` out in `span`, which fails when `call` does.
///
/// # Errors
/// Those of `call`.
pub async fn within<T>(span: Span, call: impl Future<Output = Result<T>>) -> Result<T> {
    call.instrument(span.clone()).await.inspect_err(|fault| failed(&span, fault.code))
}

/// Marks `span` as one of what failed, with the code of a fault. Lines of log tell the fault themselves.
pub fn failed(span: &Span, code: &str) {
    span.set_attribute("error.type", code.to_owned());
    span.set_status(Status::error(""));
}

/// Lets `span` be found by its run. Lines of log have `run.id`, and do not carry this one as well.
pub fn of_run(span: &Span, run: RunId) {
    span.set_attribute("lakehold.run.id", run.to_string());
}

/// Tells of each batch that the collector took; hangs up when it is dropped, after the last.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    taken: SyncSender<()>,
}

impl Exports for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.exporter.export(batch).await?;
        // One that was not heard of yet says the same.
        let _ = self.taken.try_send(());
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
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

fn traces(service: &'static str) -> Result<Traces> {
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
    let exporter = exporter.map_err(|e| {
        Fault::new(Class::Config, "telemetry.otlp", "read OTEL_EXPORTER_OTLP_ENDPOINT and its like", e)
            .hint("name a collector's URL such as http://127.0.0.1:4318, or unset the variable")
    })?;
    let mut batches = BatchConfigBuilder::default();
    if std::env::var_os(WAITING).is_none() {
        batches = batches.with_max_queue_size(MOST_WAITING);
    }
    let (sender, taken) = sync_channel(1);
    let exporter = Telling { exporter, taken: sender };
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let resource = resource
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Nonce::random().to_string()))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_id_generator(place::Ids::default())
        .with_resource(resource)
        .build();
    Ok(Traces { provider, taken })
}
