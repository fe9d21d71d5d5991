//! Listings: what one task found and others will fetch, written down in the run's part of the store.
//!
//! A listing of a hundred thousand items passes through bounded memory: lines gather by bucket, and every few megabytes all
//! buckets are written as one object, a frame for each. The tasks' messages name their frames.

use bytes::Bytes;
use lakehold_proto::fault::Result;
use lakehold_proto::format::{Located, PackBuilder, read_located};
use lakehold_proto::ids::RunId;
use lakehold_proto::store::{Key, SharedStore, Store};

/// Bytes that gather before they are written.
const SPILL: usize = 2 * 1024 * 1024;

/// Writes a listing in buckets. A line must not contain a newline byte: JSON as one line.
#[derive(Debug)]
pub struct Listing {
    store: SharedStore,
    run: RunId,
    buckets: Vec<Vec<u8>>,
    gathered: usize,
    frames: Vec<Vec<Located>>,
}

impl Listing {
    pub(super) fn new(store: SharedStore, run: RunId, buckets: u32) -> Self {
        let buckets = buckets.max(1) as usize;
        Self {
            store,
            run,
            buckets: vec![Vec::new(); buckets],
            gathered: 0,
            frames: vec![Vec::new(); buckets],
        }
    }

    /// Takes a line for `bucket`.
    ///
    /// # Errors
    /// The store's.
    pub async fn push(&mut self, bucket: u32, line: &[u8]) -> Result<()> {
        let lines = &mut self.buckets[bucket as usize];
        lines.extend_from_slice(line);
        lines.push(b'\n');
        self.gathered += line.len() + 1;
        if self.gathered >= SPILL { self.spill().await } else { Ok(()) }
    }

    /// Writes what is left. Returns each bucket's frames, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(mut self) -> Result<Vec<Vec<Located>>> {
        self.spill().await?;
        Ok(self.frames)
    }

    async fn spill(&mut self) -> Result<()> {
        let mut pack = PackBuilder::new();
        let mut written = Vec::new();
        for (bucket, lines) in self.buckets.iter_mut().enumerate().filter(|(_, lines)| !lines.is_empty()) {
            written.push((bucket, pack.add(0, lines)?));
            lines.clear();
        }
        self.gathered = 0;
        if written.is_empty() {
            return Ok(());
        }
        let sealed = pack.finish();
        self.store.put_new(&Key::listing(self.run, sealed.hash), sealed.bytes).await?;
        for (bucket, frame) in written {
            self.frames[bucket].push(frame.located(sealed.hash));
        }
        Ok(())
    }
}

/// The lines of one frame.
pub(super) async fn read(store: &dyn Store, run: RunId, frame: &Located) -> Result<Vec<Bytes>> {
    let lines = read_located(store, &Key::listing(run, frame.object), frame).await?;
    let end_of = |from: usize| lines[from..].iter().position(|&b| b == b'\n').map(|n| from + n);
    let mut split = Vec::new();
    let mut from = 0;
    while let Some(end) = end_of(from) {
        split.push(lines.slice(from..end));
        from = end + 1;
    }
    Ok(split)
}
