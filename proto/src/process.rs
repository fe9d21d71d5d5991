//! What both binaries do alike when they start.

use tokio::runtime::{Builder, Runtime};

use crate::fault::{Class, Fault, Result};

/// Threads for calls that block, all of which are short: files, and sorting. Each has an arena of the allocator to itself,
/// so more of them cost memory and bring nothing.
const BLOCKING: usize = 4;

/// The allocator gives memory back from here on, in bytes: glibc's own value at start.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM: std::ffi::c_int = 128 * 1024;

/// The runtime, for `main` to begin with.
///
/// # Errors
/// `Unavailable` when the system gives no threads.
pub fn runtime() -> Result<Runtime> {
    give_memory_back();
    let runtime = Builder::new_multi_thread().max_blocking_threads(BLOCKING).enable_all().build();
    runtime.map_err(|e| Fault::new(Class::Unavailable, "process.threads", "start", e))
}

/// Keeps glibc from raising the sizes from which it gives memory back, as it does with each large buffer that is freed: a
/// process that filled some packs would hold a third more for ever.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "the one setting that has no safe call; an environment variable would need a restart"
    )]
    // SAFETY: it changes two numbers of the allocator under its lock, whatever other threads do.
    // <https://man7.org/linux/man-pages/man3/mallopt.3.html>
    unsafe {
        // It can only fail for an unknown parameter, and then nothing has changed.
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM);
    }
}

/// Gives the system back what was freed, wherever it lies: for the moment when much of it was, and long work begins.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator has no safe call for it")]
    // SAFETY: it gives pages back that nobody has, under the allocator's locks.
    // <https://man7.org/linux/man-pages/man3/malloc_trim.3.html>
    unsafe {
        // Whether there was anything to give back does not matter.
        libc::malloc_trim(0);
    }
}
