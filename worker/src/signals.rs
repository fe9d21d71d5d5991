//! Requests to end, from a person (Ctrl-C) or a service manager (SIGTERM).

use lakehold_proto::fault::{Class, Fault, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made, so that a request that comes between two waits is not lost.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen. From here on neither signal ends the process by itself.
    ///
    /// # Errors
    /// `Unavailable` when the system does not let us.
    pub fn listen() -> Result<Self> {
        let on = |kind| {
            signal(kind).map_err(|e| {
                Fault::new(Class::Unavailable, "process.signals", "listen for requests to end", e)
            })
        };
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Waits for the next request.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
