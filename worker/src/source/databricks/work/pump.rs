//! Keeps a few items under way at once, and hands what they make to the capture one by one.

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lakehold_proto::fault::Result;

use super::make::Made;
use crate::capture::Capture;

/// Items of one task under way at once. Together with the other tasks of the worker that keeps every family of calls busy
/// at its documented rate; what each holds in memory is bounded by its bodies.
pub(super) const AT_ONCE: usize = 8;

/// Futures under way, in the order in which they end.
pub(super) struct Pump<T> {
    flying: FuturesUnordered<BoxFuture<'static, T>>,
}

impl<T> Pump<T> {
    pub(super) fn new() -> Self {
        Self { flying: FuturesUnordered::new() }
    }

    /// Whether another may begin.
    pub(super) fn has_room(&self) -> bool {
        self.flying.len() < AT_ONCE
    }

    pub(super) fn begin(&mut self, future: BoxFuture<'static, T>) {
        self.flying.push(future);
    }

    /// The next that ends; `None` when none is under way.
    pub(super) async fn next(&mut self) -> Option<T> {
        self.flying.next().await
    }
}

impl Pump<Made> {
    /// Begins another, when there is room: until then hands in what ends.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn add(
        &mut self,
        capture: &mut Capture,
        future: BoxFuture<'static, Made>,
    ) -> Result<()> {
        while !self.has_room() {
            self.hand_in(capture).await?;
        }
        self.begin(future);
        Ok(())
    }

    /// Hands in all that is under way.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn finish(mut self, capture: &mut Capture) -> Result<()> {
        while !self.flying.is_empty() {
            self.hand_in(capture).await?;
        }
        Ok(())
    }

    async fn hand_in(&mut self, capture: &mut Capture) -> Result<()> {
        let Some(made) = self.next().await else { return Ok(()) };
        for (kind, draft) in made.drafts {
            capture.add(&kind, draft).await?;
        }
        Ok(())
    }
}
