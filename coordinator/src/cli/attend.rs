//! Stays with a run of this process: shows how far it is, and passes a person's wish to stop on to it.

use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_worker::signals::Signals;
use tokio::sync::watch;

use super::Context;
use crate::backup::progress::Watched;
use crate::engine::view::RunView;
use crate::output::say;
use crate::running::Running;

/// What work that is attended gets.
#[derive(Debug)]
pub(super) struct Attended<'a> {
    running: &'a Running,
    context: &'a Context,
    stopped: watch::Receiver<bool>,
}

/// Lets `work` run. Ctrl-C once stops taking tasks and lets those under way finish; twice ends at once. `doing` is what a
/// person interrupts.
pub(super) async fn attend<T>(
    running: &Running,
    context: &Context,
    doing: &'static str,
    work: impl AsyncFnOnce(Attended<'_>) -> Result<T>,
) -> Result<T> {
    let signals = Signals::listen()?;
    let (stop, stopped) = watch::channel(false);
    let work = async {
        let ended = work(Attended { running, context, stopped }).await;
        if ended.as_ref().is_err_and(|fault| fault.class == Class::Cancelled) {
            running.finish_tasks().await;
        }
        ended
    };
    tokio::select! {
        ended = work => ended,
        fault = interrupted_twice(signals, stop, doing) => Err(fault),
    }
}

impl Attended<'_> {
    /// Tells when a person wants it to stop.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.clone()
    }

    /// Carries something out, and shows how far it is meanwhile.
    pub(super) async fn watch<T>(
        &self,
        environments: Vec<(EnvName, Option<u64>)>,
        work: impl AsyncFnOnce(&RunView, watch::Receiver<bool>) -> Result<T>,
    ) -> Result<T> {
        let view = RunView::default();
        let watched = Watched {
            environments,
            workers: self
                .running
                .progress()
                .map(|done| (done, Arc::clone(&self.running.backup.engine.locks))),
            view: &view,
            clock: Arc::clone(&self.context.clock),
        };
        let show = async {
            if !self.context.quiet {
                watched.show().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = work(&view, self.stopped.clone()) => ended,
            () = show => Err(Fault::new(Class::Bug, "run.display", "show progress", "the display ended before the run")),
        }
    }
}

/// Waits for the second request to end; passes the first one on.
async fn interrupted_twice(mut signals: Signals, stop: watch::Sender<bool>, doing: &'static str) -> Fault {
    signals.next().await;
    say(
        "stopping: tasks under way are finished first; press Ctrl-C again to stop at once (nothing is lost either way)",
    );
    // The run may have ended by itself meanwhile.
    let _ = stop.send(true);
    signals.next().await;
    Fault::new(Class::Cancelled, "run.interrupted", doing, "it was interrupted")
        .hint("run the same command with --resume to go on where it stopped")
}
