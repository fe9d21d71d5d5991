//! What both binaries do alike when they start.

use tokio::runtime::{Builder, Runtime};

use crate::fault::{Class, Fault, Result};

/// Threads for calls that block, all of which are short: files, and sorting. Each has an arena of the allocator to itself,
/// so more of them cost memory and bring nothing.
const BLOCKING: usize = 4;

/// The runtime.
///
/// # Errors
/// `Unavailable` when the system gives no threads.
pub fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().max_blocking_threads(BLOCKING).enable_all().build();
    runtime.map_err(|e| Fault::new(Class::Unavailable, "process.threads", "start", e))
}
