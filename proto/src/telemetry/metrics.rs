//! The metrics of a process, for Prometheus. They carry the truth that traces sample: each counts everything. No label
//! names a run, a task or an item, of which there is no end.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(&'static str, String);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        use prometheus_client::encoding::EncodeLabel as _;
        (self.0, self.1.as_str()).encode(encoder.encode_label())
    }
}

/// What is counted. One of each process: see [`metrics`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    tasks: Family<Label, Counter>,
    seconds: Histogram,
    redelivered: Counter,
    without_lock: Counter,
    calls: Family<Label, Counter>,
    throttled: Family<Label, Counter>,
    waited: Family<Label, Counter<f64, std::sync::atomic::AtomicU64>>,
    bytes_read: Counter,
    bytes_stored: Counter,
    sent: Counter,
    outcomes: Family<Label, Counter>,
    environments: Family<Label, Counter>,
    last_good: Family<Label, Gauge<f64, std::sync::atomic::AtomicU64>>,
    age: Family<Label, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

/// This process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut all = Self {
            registry: Registry::with_prefix("lakehold"),
            tasks: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.005, 3.0, 11)),
            redelivered: Counter::default(),
            without_lock: Counter::default(),
            calls: Family::default(),
            throttled: Family::default(),
            waited: Family::default(),
            bytes_read: Counter::default(),
            bytes_stored: Counter::default(),
            sent: Counter::default(),
            outcomes: Family::default(),
            environments: Family::default(),
            last_good: Family::default(),
            age: Family::default(),
        };
        let r = &mut all.registry;
        r.register("worker_tasks", "Deliveries of tasks carried out, by how they ended", all.tasks.clone());
        r.register_with_unit(
            "worker_task_duration",
            "Time a delivery took",
            Unit::Seconds,
            all.seconds.clone(),
        );
        r.register(
            "worker_redelivered",
            "Deliveries that were not the first of their message",
            all.redelivered.clone(),
        );
        r.register(
            "worker_without_lock",
            "Deliveries worked on without a lock, since none was to be had",
            all.without_lock.clone(),
        );
        r.register("api_calls", "Calls sent to environments, by API family", all.calls.clone());
        r.register("api_throttled", "Calls answered 429 or 503, by API family", all.throttled.clone());
        r.register_with_unit(
            "api_waited",
            "Time spent waiting for the rate budget, by API family",
            Unit::Seconds,
            all.waited.clone(),
        );
        r.register_with_unit("read", "Bodies read from environments", Unit::Bytes, all.bytes_read.clone());
        r.register_with_unit(
            "stored",
            "Packs and indexes written to the store",
            Unit::Bytes,
            all.bytes_stored.clone(),
        );
        r.register("coordinator_sent", "Attempts sent to the queue", all.sent.clone());
        r.register(
            "coordinator_outcomes",
            "Outcomes heard of, by how the attempt ended",
            all.outcomes.clone(),
        );
        r.register(
            "coordinator_environments",
            "Environments whose part of a run ended, by how",
            all.environments.clone(),
        );
        r.register_with_unit(
            "last_good_snapshot_timestamp",
            "When the last good snapshot of an environment was taken; 0 for never",
            Unit::Seconds,
            all.last_good.clone(),
        );
        r.register_with_unit(
            "last_good_snapshot_age",
            "How old the last good snapshot of an environment is; +Inf for never",
            Unit::Seconds,
            all.age.clone(),
        );
        all
    }

    /// A delivery was carried out, and ended so.
    pub fn task(&self, ended: &'static str, took: Duration) {
        self.tasks.get_or_create(&Label("result", ended.into())).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A delivery was not the first of its message.
    pub fn redelivered(&self) {
        self.redelivered.inc();
    }

    /// A delivery was worked on without a lock.
    pub fn without_lock(&self) {
        self.without_lock.inc();
    }

    /// A call was sent.
    pub fn called(&self, family: &str) {
        self.calls.get_or_create(&Label("family", family.into())).inc();
    }

    /// A call was answered 429 or 503.
    pub fn throttled(&self, family: &str) {
        self.throttled.get_or_create(&Label("family", family.into())).inc();
    }

    /// A call waited for the rate budget.
    pub fn waited(&self, family: &str, time: Duration) {
        self.waited.get_or_create(&Label("family", family.into())).inc_by(time.as_secs_f64());
    }

    /// Bytes of bodies came from an environment.
    pub fn read(&self, bytes: u64) {
        self.bytes_read.inc_by(bytes);
    }

    /// Bytes went into the store.
    pub fn stored(&self, bytes: u64) {
        self.bytes_stored.inc_by(bytes);
    }

    /// An attempt was sent to the queue.
    pub fn sent(&self) {
        self.sent.inc();
    }

    /// An outcome was heard of.
    pub fn outcome(&self, ended: &'static str) {
        self.outcomes.get_or_create(&Label("result", ended.into())).inc();
    }

    /// An environment's part of a run ended.
    pub fn environment(&self, ended: &'static str) {
        self.environments.get_or_create(&Label("state", ended.into())).inc();
    }

    /// How an environment's last good snapshot stands: when it was taken and how old it is, in seconds; `None` for never.
    pub fn last_good(&self, environment: &str, stands: Option<(f64, f64)>) {
        let (taken, age) = stands.unwrap_or((0.0, f64::INFINITY));
        let label = Label("environment", environment.into());
        self.last_good.get_or_create(&label).set(taken);
        self.age.get_or_create(&label).set(age);
    }

    /// All of it in the text form of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails never.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_backed_up_is_told_as_infinitely_old() {
        let metrics = Metrics::new();
        metrics.last_good("prod", None);
        metrics.last_good("dev", Some((1_754_013_600.0, 30.0)));
        metrics.task("complete", Duration::from_millis(20));
        let text = metrics.text();
        for line in [
            "lakehold_last_good_snapshot_age_seconds{environment=\"prod\"} inf",
            "lakehold_last_good_snapshot_timestamp_seconds{environment=\"prod\"} 0.0",
            "lakehold_last_good_snapshot_age_seconds{environment=\"dev\"} 30.0",
            "lakehold_worker_tasks_total{result=\"complete\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
