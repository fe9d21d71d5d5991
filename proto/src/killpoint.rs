//! The steps of the protocol at which a test can kill the process that passes them: `LAKEHOLD_KILL=worker.after-outcome:3`
//! kills it when it passes that one for the third time (without a number: the first). Nothing of this is in a build without
//! the feature `conformance`, and so nothing in a release.

/// All steps, in the order in which a run meets them. A test kills at each; a step that is passed and not listed here ends
/// the process of a test by a panic.
pub const POINTS: [&str; 19] = [
    "coordinator.before-plan",
    "coordinator.after-plan",
    "coordinator.before-publish",
    "coordinator.before-confirm",
    "coordinator.after-confirm",
    "worker.after-deliver",
    "worker.after-lock",
    "worker.mid-export",
    "worker.mid-pack",
    "worker.after-pack",
    "worker.before-outcome",
    "worker.after-outcome",
    "worker.after-report",
    "worker.before-acknowledge",
    "coordinator.before-segment",
    "coordinator.after-segment",
    "coordinator.before-manifest",
    "coordinator.after-manifest",
    "coordinator.before-report",
];

/// The steps that only a restore passes.
pub const OF_RESTORE: [&str; 2] = ["worker.after-create", "worker.after-made"];

/// The steps that only the restore of a database passes besides.
pub const OF_DATABASE: [&str; 4] =
    ["worker.after-load", "worker.after-indexes", "worker.before-swap", "worker.half-swapped"];

#[cfg(feature = "conformance")]
pub use armed::{during, is_armed, killpoint};

/// Whether some step kills.
#[cfg(not(feature = "conformance"))]
pub const fn is_armed() -> bool {
    false
}

/// Passes a step.
#[cfg(not(feature = "conformance"))]
pub const fn killpoint(_: &'static str) {}

/// Passes a step that lies in the midst of `work`.
#[cfg(not(feature = "conformance"))]
pub async fn during<T>(_: &'static str, work: impl Future<Output = T>) -> T {
    work.await
}

#[cfg(feature = "conformance")]
mod armed {
    use std::convert::Infallible;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{OF_DATABASE, OF_RESTORE, POINTS};

    /// The step that kills, and how often it may be passed before.
    static ARMED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let wanted = std::env::var("LAKEHOLD_KILL").ok()?;
        let (point, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((point.to_owned(), AtomicU32::new(nth.parse().unwrap_or(1))))
    });

    /// Whether some step kills.
    pub fn is_armed() -> bool {
        ARMED.is_some()
    }

    /// Passes a step; does not return when the process is to die there.
    pub fn killpoint(point: &'static str) {
        let Some((wanted, left)) = &*ARMED else { return };
        let listed = [&POINTS[..], &OF_RESTORE, &OF_DATABASE].iter().any(|points| points.contains(&point));
        assert!(listed, "{point} is not listed");
        if wanted == point && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal may take a moment, in which nothing more must happen.
            loop {
                std::thread::park();
            }
        }
    }

    /// Passes a step that lies in the midst of `work`: when it has begun and does not end at once.
    pub async fn during<T>(point: &'static str, work: impl Future<Output = T>) -> T {
        let pass = async {
            tokio::task::yield_now().await;
            killpoint(point);
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            done = work => done,
            never = pass => match never {},
        }
    }
}
