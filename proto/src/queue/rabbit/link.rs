//! A connection that is always being kept up: our own supervisor, since the library's recovery gives up, does not tell
//! refusals from trouble, and does not heal channels.
//!
//! It connects, watches until the connection is lost, and connects again after 0.2 to 15 seconds (with jitter), for ever.
//! It is a task of its own: whoever waits for the connection may be cancelled. Who loses a connection in mid-call gets a
//! fault and asks for the next one; nothing is replayed here.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::{Connection, Event};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::config::Endpoint;
use super::dial::dial;
use super::faults;
use super::topology::Declared;
use crate::clock::{SharedClock, Tick};
use crate::fault::{Fault, Result};

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);
/// A connection that lived this long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(10);
/// The library tells of a loss; in case it does not, this is how often we look.
const LOOK: Duration = Duration::from_secs(1);
/// How long a broker has to answer our good-bye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What every link of a queue shares.
pub(super) struct Site {
    pub(super) endpoint: Endpoint,
    pub(super) clock: SharedClock,
    pub(super) declared: Declared,
    /// By us, for good.
    pub(super) closed: AtomicBool,
}

impl Site {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// See the module.
pub(super) struct Link {
    state: Arc<watch::Sender<State>>,
    supervisor: JoinHandle<()>,
    site: Arc<Site>,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// When the phase began.
    pub(super) since: Tick,
}

#[derive(Clone)]
pub(super) enum Phase {
    /// Not connected, and why; `None` before the first attempt has failed.
    Down(Option<Fault>),
    Up {
        connection: Arc<Connection>,
        /// Why the broker takes no messages from us just now.
        blocked: Option<String>,
    },
    /// By us, for good.
    Closed,
}

impl Link {
    /// Starts to connect. `purpose` tells our connections apart in logs and in the broker's lists.
    pub(super) fn start(site: &Arc<Site>, purpose: &'static str) -> Self {
        let state = State { phase: Phase::Down(None), since: site.clock.tick() };
        let state = Arc::new(watch::Sender::new(state));
        let supervisor = Supervisor { site: Arc::clone(site), purpose, state: Arc::clone(&state) };
        Self { state, supervisor: tokio::spawn(supervisor.run()), site: Arc::clone(site) }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    /// What no waiting mends: a refusal, a mistake in the configuration, or that the link was closed.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        self.when(|_blocked| true).await
    }

    /// The same for one that the broker takes messages from.
    pub(super) async fn writable(&self) -> Result<Arc<Connection>> {
        self.when(Option::is_none).await
    }

    async fn when(&self, good: impl Fn(&Option<String>) -> bool) -> Result<Arc<Connection>> {
        let context = || format!("wait for a connection to {}", self.site.endpoint.shown);
        let mut states = self.state.subscribe();
        loop {
            match &states.borrow_and_update().phase {
                Phase::Up { connection, blocked } if good(blocked) && connection.status().connected() => {
                    return Ok(Arc::clone(connection));
                }
                Phase::Down(Some(fault)) if !fault.class.may_retry() => return Err(fault.clone()),
                Phase::Closed => return Err(faults::closed(context())),
                Phase::Up { .. } | Phase::Down(_) => {}
            }
            states.changed().await.map_err(|_gone| faults::closed(context()))?;
        }
    }

    /// The fault of somebody whose patience ended while `context`.
    pub(super) fn impatience(&self, context: String) -> Fault {
        match self.state().phase {
            Phase::Down(Some(fault)) => fault.while_doing(context),
            Phase::Up { blocked: Some(reason), .. } => faults::blocked(context, &reason),
            Phase::Closed => faults::closed(context),
            Phase::Down(None) => {
                faults::unreachable(context, format!("{} does not answer", self.site.endpoint.shown))
            }
            Phase::Up { .. } => faults::silent(context),
        }
    }

    /// Says good-bye; what is unsettled goes back to its queue.
    pub(super) async fn close(&self) {
        self.supervisor.abort();
        let closed = State { phase: Phase::Closed, since: self.site.clock.tick() };
        if let Phase::Up { connection, .. } = self.state.send_replace(closed).phase {
            tokio::select! {
                said = connection.close(200, "done".into()) => {
                    if let Err(e) = said {
                        debug!(error = %e, "the connection was lost before it was closed");
                    }
                }
                () = self.site.clock.sleep(GOODBYE) => debug!("the broker did not answer our good-bye"),
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

struct Supervisor {
    site: Arc<Site>,
    purpose: &'static str,
    state: Arc<watch::Sender<State>>,
}

impl Supervisor {
    async fn run(self) {
        let (purpose, broker) = (self.purpose, &self.site.endpoint.shown);
        let mut pause = SHORTEST;
        let mut told = false;
        loop {
            let fault = match dial(&self.site.endpoint, purpose, &self.site.clock).await {
                Ok(connection) => {
                    info!(purpose, broker, "connected to the broker");
                    told = false;
                    // Whoever answers now may not be who answered before, or may have been wiped.
                    self.site.declared.forget_all();
                    let connection = Arc::new(connection);
                    self.set(Phase::Up { connection: Arc::clone(&connection), blocked: None });
                    let began = self.site.clock.tick();
                    let fault = self.until_lost(connection).await;
                    if self.site.clock.tick().since(began) >= GOOD {
                        pause = SHORTEST;
                    }
                    fault
                }
                Err(fault) => fault,
            };
            // Once for each loss: an outage of a night is not a log of a night.
            if told {
                debug!(purpose, %fault, "still no connection to the broker");
            } else {
                warn!(purpose, %fault, "no connection to the broker; trying again until there is one");
                told = true;
            }
            self.set(Phase::Down(Some(fault)));
            let jitter = rand::rng().random_range(0.5..=1.0);
            self.site.clock.sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Watches a connection to its end, and answers what ended it.
    async fn until_lost(&self, connection: Arc<Connection>) -> Fault {
        let mut events = pin!(connection.events_listener());
        let mut reason = String::from("an alarm of the broker");
        let mut last = None;
        loop {
            let status = connection.status();
            if !status.connected() {
                let context = format!("talk to {}", self.site.endpoint.shown);
                let lost = || faults::lost(&context, "the connection was closed");
                return last.map_or_else(lost, |e| faults::of(&e, &context));
            }
            self.block(status.blocked().then_some(&reason));
            last = None;
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => reason = why,
                    // Of a channel, unless the connection is gone too.
                    Some(Event::Error(e)) => last = Some(e),
                    Some(_) | None => {}
                },
                () = self.site.clock.sleep(LOOK) => {}
            }
        }
    }

    fn set(&self, phase: Phase) {
        self.state.send_replace(State { phase, since: self.site.clock.tick() });
    }

    fn block(&self, now: Option<&String>) {
        let since = self.site.clock.tick();
        let changed = self.state.send_if_modified(|state| match &mut state.phase {
            Phase::Up { blocked, .. } if blocked.as_ref() != now => {
                *blocked = now.cloned();
                state.since = since;
                true
            }
            Phase::Up { .. } | Phase::Down(_) | Phase::Closed => false,
        });
        match (changed, now) {
            (true, Some(reason)) => warn!(purpose = self.purpose, %reason, "the broker takes no messages"),
            (true, None) => info!(purpose = self.purpose, "the broker takes messages again"),
            (false, _) => {}
        }
    }
}
