//! Tasks whose input is too long for a message: it lies in the run as listings, cut into buckets by the hash of a name.

use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{Kind, RunId};
use lakehold_proto::store::SharedStore;
use lakehold_proto::task::{Bucket, Shard, TaskSpec};
use lakehold_worker::capture::Listing;
use serde::Serialize;

/// Tasks of one kind that are being written down.
#[derive(Debug)]
pub(crate) struct Listed {
    listing: Listing,
    of: u32,
}

impl Listed {
    /// In so many tasks.
    pub(crate) fn new(store: &SharedStore, run: RunId, of: u32) -> Self {
        Self { listing: Listing::new(Arc::clone(store), run, of), of }
    }

    /// Takes a line in. Those of one name come to one task, in the order in which they are handed in.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn push(&mut self, name: &str, line: &impl Serialize) -> Result<()> {
        let line = serde_json::to_vec(line)
            .map_err(|e| Fault::new(Class::Bug, "run.encode", "write down what a task is to do", e))?;
        self.push_line(name, &line).await
    }

    /// The same, of a line that is JSON already.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn push_line(&mut self, name: &str, line: &[u8]) -> Result<()> {
        self.listing.push(Bucket::of_key(name, self.of).index, line).await
    }

    /// The tasks that have anything to do: `task` is what they have in common.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn finish(self, stage: u16, kind: Kind, yields: Arc<[Kind]>) -> Result<Vec<TaskSpec>> {
        let of = self.of;
        let frames = self.listing.finish(of).await?;
        let task = |(number, input): (usize, Vec<_>)| TaskSpec {
            kind: kind.clone(),
            shard: Shard::whole().cut(Bucket { index: number as u32, of }),
            stage,
            yields: Arc::clone(&yields),
            long: false,
            input,
        };
        Ok(frames.into_iter().enumerate().filter(|(_, input)| !input.is_empty()).map(task).collect())
    }
}
