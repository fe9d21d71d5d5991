//! Holds an environment for one backup at a time: by the operating system where the store is a directory, and by the locks
//! that processes share. It saves work, and nothing rests on it: two coordinators at once end in one manifest.

use std::time::Duration;

use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Nonce};
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::store::{DirectoryStore, EnvironmentLock};
use tokio::task::JoinHandle;
use tracing::warn;

/// How long a shared lock lives without renewal.
const TTL: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a lock is waited for that may be left over from a process that was killed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked for meanwhile.
const ASK: Duration = Duration::from_millis(500);

/// An environment that is held. Give it back by [`Held::release`]; what is dropped ends by itself within seconds.
#[derive(Debug)]
pub struct Held {
    _file: Option<EnvironmentLock>,
    locks: SharedLocks,
    name: String,
    token: Nonce,
    renewal: JoinHandle<()>,
}

impl Held {
    /// Takes the environment; who shares a lock with other machines waits for it up to `patience`.
    ///
    /// # Errors
    /// `Conflict` (`lock.held`, exit 11) when somebody else backs it up.
    pub async fn take(
        environment: &EnvName,
        directory: Option<&DirectoryStore>,
        locks: &SharedLocks,
        clock: &SharedClock,
        patience: Duration,
    ) -> Result<Self> {
        let holder = || format!("process {} since {}", std::process::id(), clock.now());
        let file =
            directory.map(|directory| directory.lock_environment(environment, &holder())).transpose()?;
        let (name, token) = (format!("backup/{environment}"), Nonce::random());
        wait(environment, (&name, token), locks, clock, patience).await?;
        let renewal =
            tokio::spawn(renew(name.clone(), token, SharedLocks::clone(locks), SharedClock::clone(clock)));
        Ok(Self { _file: file, locks: SharedLocks::clone(locks), name, token, renewal })
    }

    /// Gives the environment back.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(fault) = self.locks.release(&self.name, self.token).await {
            warn!(%fault, "cannot release a lock; it ends by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn wait(
    environment: &EnvName,
    (name, token): (&str, Nonce),
    locks: &SharedLocks,
    clock: &SharedClock,
    patience: Duration,
) -> Result<()> {
    let began = clock.tick();
    loop {
        match locks.acquire(name, token, TTL).await {
            Ok(true) => return Ok(()),
            Ok(false) if clock.tick().since(began) < patience => clock.sleep(ASK).await,
            Ok(false) => {
                let detail = "it is held by another process of the fleet";
                return Err(Fault::new(Class::Conflict, "lock.held", format!("lock {environment}"), detail)
                    .hint("wait until that backup ends; `lakehold runs` tells what is under way"));
            }
            Err(fault) => {
                warn!(%fault, "no lock to be had; going on without");
                return Ok(());
            }
        }
    }
}

async fn renew(name: String, token: Nonce, locks: SharedLocks, clock: SharedClock) {
    loop {
        clock.sleep(RENEWAL).await;
        match locks.acquire(&name, token, TTL).await {
            Ok(true) => {}
            Ok(false) => {
                warn!(lock = name, "the lock went to another coordinator; both go on, and one commits");
            }
            Err(fault) => warn!(%fault, "cannot renew a lock; going on without"),
        }
    }
}
