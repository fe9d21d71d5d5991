//! Where a span stands in a trace, and how that travels between processes.
//!
//! Ids of spans that several processes must know are not passed around but follow from ids that they know already: the root
//! of a run's trace from the run, the span of a delivery from its nonce. So whoever ends a run can send its root, a retry
//! can link to the attempt before, and nothing of it is state.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::ids::{Nonce, RunId, TraceId};

/// The header that W3C Trace Context gives it. <https://www.w3.org/TR/trace-context/>
const TRACEPARENT: &str = "traceparent";

/// A span's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: TraceId,
    /// The span's id within it.
    pub span: Nonce,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl Place {
    /// The root of a run's trace: its id is the random half of the run's.
    pub fn root_of(run: RunId, trace: TraceId) -> Self {
        Self { trace, span: run.tail(), sampled: true }
    }

    /// How it travels beside a message.
    pub fn headers(self) -> BTreeMap<String, String> {
        let flags = u8::from(self.sampled);
        BTreeMap::from([(TRACEPARENT.to_owned(), format!("00-{}-{}-{flags:02x}", self.trace, self.span))])
    }

    /// Reads what travelled beside a message. What is not understood is no context.
    pub fn read(headers: &BTreeMap<String, String>) -> Option<Self> {
        let mut fields = headers.get(TRACEPARENT)?.split('-').skip(1);
        let trace = TraceId::try_from(std::borrow::Cow::Borrowed(fields.next()?)).ok()?;
        let span = Nonce::try_from(std::borrow::Cow::Borrowed(fields.next()?)).ok()?;
        let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    fn context(self) -> SpanContext {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        SpanContext::new(trace_id(self.trace), span_id(self.span), flags, true, TraceState::NONE)
    }
}

/// Puts spans where they belong. Where nothing is traced each of these does nothing.
pub trait Placed: Sized {
    /// Below a span of another process, or of an earlier life of this one.
    #[must_use]
    fn below(self, parent: Place) -> Self;

    /// Beside another span that has to do with it.
    #[must_use]
    fn linked(self, other: Place) -> Self;

    /// At an id that others can know. To be called last.
    #[must_use]
    fn at(self, place: Place) -> Self;

    /// Where it is; `None` where it is not recorded.
    fn place(&self) -> Option<Place>;
}

impl Placed for Span {
    fn below(self, parent: Place) -> Self {
        // It fails where nothing is traced.
        let _ = self.set_parent(Context::new().with_remote_span_context(parent.context()));
        self
    }

    fn linked(self, other: Place) -> Self {
        self.add_link(other.context());
        self
    }

    fn at(self, place: Place) -> Self {
        NEXT.set(Some(place));
        // A span gets its id when somebody first asks where it is.
        let _ = self.context();
        NEXT.set(None);
        self
    }

    fn place(&self) -> Option<Place> {
        let context = self.context();
        let context = context.span().span_context().clone();
        let ours = |text: String| std::borrow::Cow::<'static, str>::Owned(text);
        let place = Place {
            trace: ours(context.trace_id().to_string()).try_into().ok()?,
            span: ours(context.span_id().to_string()).try_into().ok()?,
            sampled: context.is_sampled(),
        };
        (context.is_valid() && context.is_sampled()).then_some(place)
    }
}

/// Sends the root span of a run's trace, which has ended: it may have begun in another process. With an `error.type` among
/// its `attributes` the run has failed.
pub fn root_span(
    place: Place,
    name: &'static str,
    began: Timestamp,
    ended: Timestamp,
    attributes: Vec<(&'static str, String)>,
) {
    let has_failed = attributes.iter().any(|(name, _)| *name == "error.type");
    let attributes = attributes.into_iter().map(|(name, value)| KeyValue::new(name, value));
    let tracer = global::tracer("lakehold");
    let builder =
        SpanBuilder::from_name(name).with_start_time(SystemTime::from(began)).with_attributes(attributes);
    NEXT.set(Some(place));
    let mut span = tracer.build_with_context(builder, &Context::new());
    NEXT.set(None);
    if has_failed {
        span.set_status(Status::error(""));
    }
    span.end_with_timestamp(SystemTime::from(ended));
}

thread_local! {
    /// The ids of the next span made on this thread, where they are not random.
    static NEXT: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Makes ids: those asked for, else random ones.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> opentelemetry::TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |place| trace_id(place.trace))
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |place| span_id(place.span))
    }
}

fn trace_id(id: TraceId) -> opentelemetry::TraceId {
    opentelemetry::TraceId::from_hex(&id.to_string()).unwrap_or(opentelemetry::TraceId::INVALID)
}

fn span_id(id: Nonce) -> SpanId {
    SpanId::from_hex(&id.to_string()).unwrap_or(SpanId::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_travels_as_w3c_says_and_nonsense_is_no_place() {
        let run = RunId::new(Timestamp::UNIX_EPOCH);
        let place = Place::root_of(run, TraceId::random());
        assert_eq!(Place::read(&place.headers()), Some(place));
        let unsampled = Place { sampled: false, ..place };
        assert!(unsampled.headers()["traceparent"].ends_with("-00"));
        assert_eq!(Place::read(&unsampled.headers()), Some(unsampled));
        for nonsense in ["", "00", "00-xyz-1-01", "00-0af7651916cd43dd8448eb211c80319c"] {
            let headers = BTreeMap::from([("traceparent".to_owned(), nonsense.to_owned())]);
            assert_eq!(Place::read(&headers), None, "{nonsense}");
        }
    }

    #[test]
    fn spans_that_nobody_traces_have_no_place() {
        let span = tracing::info_span!("nowhere")
            .below(Place::root_of(RunId::new(Timestamp::UNIX_EPOCH), TraceId::random()));
        assert_eq!(span.place(), None);
    }
}
