//! Counts what a task takes. Shared with the source's client, which may have many calls under way at once.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakehold_proto::locks::{BucketKey, Limit};
use lakehold_proto::outcome::{Calls, Figures};
use lakehold_proto::telemetry::metrics;

use crate::progress::Done;

/// Counts calls and bytes of one task, and passes them on to the live figures.
#[derive(Debug)]
pub struct Meter {
    figures: Mutex<Figures>,
    done: Arc<Done>,
}

impl Meter {
    /// A meter at zero that also feeds `done`.
    pub fn new(done: Arc<Done>) -> Self {
        Self { figures: Mutex::default(), done }
    }

    /// Counts one request that was sent.
    pub fn called(&self, family: &str) {
        metrics().called(family);
        self.done.calls.fetch_add(1, Relaxed);
        self.calls(family, |calls| calls.made += 1);
    }

    /// Counts one request that was answered 429 or 503.
    pub fn throttled(&self, family: &str) {
        metrics().throttled(family);
        self.done.throttled.fetch_add(1, Relaxed);
        self.calls(family, |calls| calls.throttled += 1);
    }

    /// Counts one request that is sent again.
    pub fn retried(&self, family: &str) {
        self.calls(family, |calls| calls.retried += 1);
    }

    /// Counts time spent waiting for the budget of `key`.
    pub fn waited(&self, family: &str, key: &BucketKey, limit: Limit, time: Duration) {
        metrics().waited(family, time);
        self.calls(family, |calls| calls.waited_ms += time.as_millis() as u64);
        *self.done.bound_by.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((key.clone(), (limit.per_second * 1000.0) as u64));
    }

    /// Counts bytes of bodies read from the environment.
    pub fn read(&self, bytes: u64) {
        metrics().read(bytes);
        self.done.bytes.fetch_add(bytes, Relaxed);
        self.with(|figures| figures.bytes_read += bytes);
    }

    /// Counts frames that were opened.
    pub fn opened(&self, frames: u64) {
        self.with(|figures| figures.frames += frames);
    }

    /// What was counted so far.
    pub fn figures(&self) -> Figures {
        self.with(|figures| figures.clone())
    }

    fn calls(&self, family: &str, count: impl FnOnce(&mut Calls)) {
        self.with(|figures| match figures.calls.get_mut(family) {
            Some(calls) => count(calls),
            None => count(figures.calls.entry(family.to_owned()).or_default()),
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Figures) -> T) -> T {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
