//! Listings: what one task found and others will fetch, written down in the run's part of the store.
//!
//! A listing of a hundred thousand items passes through bounded memory: lines gather in parts, and every few megabytes all
//! parts are written as one object, a frame for each. How many buckets they make is known at the end: a bucket is the parts
//! whose number is its own modulo the number of buckets. What was not written by then is put together first, so that a
//! bucket of a listing of a few megabytes is one frame. The tasks' messages name their frames.

use bytes::Bytes;
use lakehold_proto::fault::Result;
use lakehold_proto::format::{Located, PackBuilder, read_located};
use lakehold_proto::ids::RunId;
use lakehold_proto::store::{Key, SharedStore, Store};

/// Bytes that gather before they are written.
const SPILL: usize = 512 * 1024;

/// Writes a listing in parts. A line must not contain a newline byte: JSON as one line.
#[derive(Debug)]
pub struct Listing {
    store: SharedStore,
    run: RunId,
    parts: Vec<Vec<u8>>,
    gathered: usize,
    frames: Vec<Vec<Located>>,
}

impl Listing {
    /// A listing of the run, in `parts` parts.
    pub fn new(store: SharedStore, run: RunId, parts: u32) -> Self {
        let parts = parts.max(1) as usize;
        Self { store, run, parts: vec![Vec::new(); parts], gathered: 0, frames: vec![Vec::new(); parts] }
    }

    /// Takes a line for `part`.
    ///
    /// # Errors
    /// The store's.
    pub async fn push(&mut self, part: u32, line: &[u8]) -> Result<()> {
        let lines = &mut self.parts[part as usize];
        lines.extend_from_slice(line);
        lines.push(b'\n');
        self.gathered += line.len() + 1;
        if self.gathered >= SPILL { self.spill().await } else { Ok(()) }
    }

    /// Writes what is left. Returns the frames of each of `of` buckets, in order; `of` divides the number of parts.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(mut self, of: u32) -> Result<Vec<Vec<Located>>> {
        let of = (of.max(1) as usize).min(self.parts.len());
        for part in of..self.parts.len() {
            let lines = std::mem::take(&mut self.parts[part]);
            self.parts[part % of].extend_from_slice(&lines);
            let written = std::mem::take(&mut self.frames[part]);
            self.frames[part % of].extend(written);
        }
        self.spill().await?;
        self.frames.truncate(of);
        Ok(self.frames)
    }

    async fn spill(&mut self) -> Result<()> {
        let mut pack = PackBuilder::new();
        let mut written = Vec::new();
        for (part, lines) in self.parts.iter_mut().enumerate().filter(|(_, lines)| !lines.is_empty()) {
            written.push((part, pack.add(0, lines)?));
            lines.clear();
        }
        self.gathered = 0;
        if written.is_empty() {
            return Ok(());
        }
        let sealed = pack.finish();
        self.store.put_new(&Key::listing(self.run, sealed.hash), sealed.bytes).await?;
        for (part, frame) in written {
            self.frames[part].push(frame.located(sealed.hash));
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
