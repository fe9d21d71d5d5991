//! A cap on calls under way, which all processes share: places taken for many calls at once, and asked for again every second.
//!
//! **Fairness**: where there are fewer places than are wanted, each process has an equal part; within one, callers come in
//! order. **Cancellation**: a caller that is gone frees its place. **Places that nobody uses** are given back within two
//! seconds. **When nobody can be asked**, the cap is this process's own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::{Claim, SharedLocks};
use tokio::sync::Notify;

/// Places are kept for so long before the next caller asks again, so that others get their part.
const TURN: Duration = Duration::from_secs(1);
/// How often more are asked for.
const LOOK: Duration = Duration::from_millis(50);
/// Who does not answer for this long is down.
const PATIENCE: Duration = Duration::from_secs(2);
/// Places of a process that has died are free after this long: one that lives asks again before.
pub(super) const TTL: Duration = Duration::from_secs(6);

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    name: String,
    places: u32,
    token: Nonce,
    locks: SharedLocks,
    clock: SharedClock,
    /// Held by the one caller that asks for all.
    gate: tokio::sync::Mutex<()>,
    /// Held while asking, so that answers come in the order of the questions.
    asking: tokio::sync::Mutex<()>,
    freed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: u32,
    in_use: u32,
    may: u32,
    /// When a caller asked last.
    asked: Option<Tick>,
    /// Whether somebody sees to it that what is not used is given back.
    kept: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_use == 0
    }
}

/// A place for one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Room>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state().in_use -= 1;
        self.0.freed.notify_one();
    }
}

/// Counts a caller among those that wait, until it is dropped.
struct Waiting<'a>(&'a Room);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Room {
    pub(super) fn new(name: String, places: u32, locks: SharedLocks, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            name,
            places: places.max(1),
            token: Nonce::random(),
            locks,
            clock,
            gate: tokio::sync::Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            state: Mutex::default(),
        })
    }

    /// Waits for a place.
    pub(super) async fn enter(self: &Arc<Self>) -> Seat {
        self.state().waiting += 1;
        let _waiting = Waiting(self);
        let _gate = self.gate.lock().await;
        loop {
            let now = self.clock.tick();
            let wait = {
                let mut state = self.state();
                let age = state.asked.map_or(TURN, |asked| now.since(asked));
                if state.in_use < state.may && age < TURN {
                    state.in_use += 1;
                    return Seat(Arc::clone(self));
                }
                if state.in_use < state.may { Duration::ZERO } else { LOOK.saturating_sub(age) }
            };
            if wait.is_zero() && self.turn().await {
                continue;
            }
            tokio::select! {
                () = self.freed.notified() => {}
                () = self.clock.sleep(wait.max(LOOK)) => {}
            }
        }
    }

    /// Asks for a place for each caller, and tells whether one is free.
    async fn turn(self: &Arc<Self>) -> bool {
        self.ask().await;
        let mut state = self.state();
        state.asked = Some(self.clock.tick());
        if !std::mem::replace(&mut state.kept, true) {
            tokio::spawn(Arc::clone(self).keep());
        }
        state.in_use < state.may
    }

    /// Says every second what is still wanted, unless a caller does; ends when nothing is.
    async fn keep(self: Arc<Self>) {
        loop {
            self.clock.sleep(TURN).await;
            let asked = self.state().asked;
            if asked.is_some_and(|asked| self.clock.tick().since(asked) < TURN) {
                continue;
            }
            self.ask().await;
            let mut state = self.state();
            if state.is_idle() && state.may == 0 {
                state.kept = false;
                return;
            }
        }
    }

    /// Says what is wanted, and hears what may be used.
    async fn ask(&self) {
        let _asking = self.asking.lock().await;
        let claim = {
            let mut state = self.state();
            if state.is_idle() {
                // Who comes now must not use what is being given back.
                state.may = 0;
            }
            Claim { wanted: (state.in_use + state.waiting).min(self.places), in_use: state.in_use }
        };
        let may = tokio::select! {
            may = self.locks.enter(&self.name, self.token, claim, self.places, TTL) => may.unwrap_or(self.places),
            () = self.clock.sleep(PATIENCE) => self.places,
        };
        self.state().may = may;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
