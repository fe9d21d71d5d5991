//! The world of one seed: its dice, its troubles, its processes, and the log of all that happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::clock::{Clock, SharedClock, Tick};
use lakehold_proto::ids::TaskId;
use lakehold_proto::outcome::OutcomeId;
use lakehold_proto::queue::Message;
use lakehold_proto::task::{Assignment, Batch, Report, Reported};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Notify, watch};

use super::queue::Line;
use super::time::Time;

/// What may go wrong. All of it is allowed by what the ports promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    StoreRefuses,
    StoreConflicts,
    StoreAnswerLost,
    StorePutLate,
    StorePutTorn,
    StoreListStale,
    StoreListBreaks,
    QueueRefuses,
    QueueConfirmLost,
    QueueAcknowledgementFails,
    QueueMischief,
    LocksRefuse,
    KillWorker,
    KillCoordinator,
    HangUp,
    WipeQueue,
    ForgetQueue,
    WipeLocks,
    Freeze,
    CutOff,
    StoreDown,
    QueueDown,
    LocksDown,
    PowerLoss,
    Stop,
    /// Nobody serves the queue at first, for longer than all attempts at a task may be silent.
    NoWorkers,
}

use Trouble::*;

/// Each trouble, with its name and how likely it is each time it could strike. Those from `HangUp` on are disasters: they
/// could strike every few seconds.
#[rustfmt::skip]
pub const TROUBLES: &[(Trouble, &str, f64)] = &[
    (StoreRefuses,              "store-refused",       0.008),
    (StoreConflicts,            "store-409",           0.02),
    (StoreAnswerLost,           "store-answer-lost",   0.03),
    (StorePutLate,              "store-put-late",      0.5),
    // These two are told, not tossed: whoever dies while he writes tears, and what is being written may not be listed yet.
    (StorePutTorn,              "store-put-torn",      0.0),
    (StoreListStale,            "store-list-stale",    0.0),
    (StoreListBreaks,           "store-list-broken",   0.02),
    (QueueRefuses,              "queue-refused",       0.02),
    (QueueConfirmLost,          "queue-confirm-lost",  0.02),
    (QueueAcknowledgementFails, "queue-ack-failed",    0.04),
    (QueueMischief,             "queue-mischief",      0.15),
    (LocksRefuse,               "locks-refused",       0.04),
    (KillWorker,                "kill-worker",         1.0),
    (KillCoordinator,           "kill-coordinator",    0.8),
    (HangUp,                    "hang-up",             0.2),
    (WipeQueue,                 "queue-wiped",         0.1),
    (ForgetQueue,               "queue-forgot",        0.1),
    (WipeLocks,                 "locks-wiped",         0.1),
    (Freeze,                    "frozen",              0.15),
    (CutOff,                    "cut-off",             0.1),
    (StoreDown,                 "store-down",          0.06),
    (QueueDown,                 "queue-down",          0.08),
    (LocksDown,                 "locks-down",          0.1),
    (PowerLoss,                 "power-loss",          0.06),
    (Stop,                      "stopped",             0.1),
    (NoWorkers,                 "no-workers",          0.02),
];

/// What a process reaches over a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Store,
    Queue,
    Locks,
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) time: Arc<Time>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: StdRng,
    /// How much likelier than usual each trouble is in this world; most are left out of most worlds, so that those that are
    /// there are seen alone, too.
    likelier: BTreeMap<Trouble, f64>,
    /// No trouble strikes from here on.
    calm: Duration,
    struck: BTreeMap<Trouble, u64>,
    down: BTreeMap<Service, Duration>,
    lives: Vec<Weak<Life>>,
    born: u64,
    /// Attempts of which an outcome was stored.
    stored: BTreeSet<(TaskId, u32)>,
    violations: Vec<String>,
    log: Log,
}

#[derive(Debug)]
struct Log {
    hasher: DefaultHasher,
    text: Option<String>,
}

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        if let Some(kept) = &mut self.text {
            kept.push_str(text);
        }
        Ok(())
    }
}

impl World {
    /// A world without troubles, in which everything answers at once.
    pub(super) fn calm() -> Arc<Self> {
        Self::made(StdRng::seed_from_u64(0), BTreeMap::new(), Duration::ZERO, false)
    }

    /// The world of `seed`; its log is kept if wanted.
    pub(super) fn troubled(seed: u64, keep_log: bool) -> Arc<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let calm = Duration::from_secs(dice.random_range(5..120));
        let mut likelier = BTreeMap::new();
        for &(trouble, ..) in TROUBLES {
            if dice.random_bool(0.5) {
                likelier.insert(trouble, dice.random_range(0.3..2.0));
            }
        }
        Self::made(dice, likelier, calm, keep_log)
    }

    fn made(dice: StdRng, likelier: BTreeMap<Trouble, f64>, calm: Duration, keep_log: bool) -> Arc<Self> {
        let log = Log { hasher: DefaultHasher::new(), text: keep_log.then(String::new) };
        let state = State {
            dice,
            likelier,
            calm,
            struck: BTreeMap::new(),
            down: BTreeMap::new(),
            lives: Vec::new(),
            born: 0,
            stored: BTreeSet::new(),
            violations: Vec::new(),
            log,
        };
        Arc::new(Self { time: Arc::default(), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this world has troubles at all.
    pub(super) fn is_troubled(&self) -> bool {
        self.state().calm > Duration::ZERO
    }

    /// From when on no trouble strikes.
    pub(super) fn calm_from(&self) -> Duration {
        self.state().calm
    }

    /// Tosses.
    pub(super) fn draw<T>(&self, toss: impl FnOnce(&mut StdRng) -> T) -> T {
        toss(&mut self.state().dice)
    }

    /// How likely `trouble` is here and now.
    pub(super) fn chance(&self, trouble: Trouble) -> f64 {
        let now = self.time.now();
        let state = self.state();
        let usual = TROUBLES.iter().find(|(each, ..)| *each == trouble).map_or(0.0, |row| row.2);
        let likelier = if now < state.calm { state.likelier.get(&trouble).copied() } else { None };
        (usual * likelier.unwrap_or(0.0)).min(1.0)
    }

    /// Whether `trouble` strikes now.
    pub(super) fn strikes(&self, trouble: Trouble) -> bool {
        let chance = self.chance(trouble);
        let strikes = chance > 0.0 && self.state().dice.random_bool(chance);
        if strikes {
            self.count(trouble);
        }
        strikes
    }

    /// Counts a trouble that struck.
    pub(super) fn count(&self, trouble: Trouble) {
        *self.state().struck.entry(trouble).or_default() += 1;
    }

    /// What struck, and how often.
    pub(super) fn struck(&self) -> BTreeMap<Trouble, u64> {
        self.state().struck.clone()
    }

    /// A pause of up to `most`, where there are troubles; most are short.
    pub(super) async fn dawdle(&self, most: Duration) {
        if self.is_troubled() {
            let share: f64 = self.draw(|dice| dice.random_range(0.0..1.0));
            self.time.sleep(most.mul_f64(share * share)).await;
        }
    }

    /// Writes a line into the log.
    pub(super) fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        let now = self.time.now();
        let log = &mut self.state().log;
        // Writing into memory cannot fail.
        _ = writeln!(log, "{:>10.3} {who:<14} {what}", now.as_secs_f64());
    }

    /// Takes down that a promise was broken.
    pub(super) fn violated(&self, what: impl fmt::Display) {
        self.note("", format_args!("BROKEN: {what}"));
        self.state().violations.push(what.to_string());
    }

    /// The promises that were broken.
    pub(super) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// The hash of the log, and the log itself where it was kept.
    pub(super) fn log(&self) -> (u64, Option<String>) {
        let state = self.state();
        (state.log.hasher.finish(), state.log.text.clone())
    }

    /// Makes a service unreachable for everybody.
    pub(super) fn take_down(&self, service: Service, time: Duration) {
        let until = self.time.now() + time;
        self.state().down.insert(service, until);
    }

    /// Takes down that an outcome lies in the store.
    pub(super) fn stored(&self, outcome: OutcomeId) {
        self.state().stored.insert((outcome.task, outcome.attempt));
    }

    /// Whether an attempt left an outcome in the store.
    pub(super) fn has_stored(&self, task: TaskId, attempt: u32) -> bool {
        self.state().stored.contains(&(task, attempt))
    }

    /// A new process. One that has a way to die may also be struck by disasters.
    pub(super) fn bear(self: &Arc<Self>, name: &str, dies: Option<Trouble>) -> Arc<Life> {
        let dying = dies.is_some_and(|dies| self.strikes(dies));
        let fuse = dying.then(|| self.draw(|dice| dice.random_range(1..200)));
        let (origin, skew) = self.draw(|dice| (dice.random_range(0..10_000), dice.random_range(-7200..7200)));
        let mut state = self.state();
        state.born += 1;
        let life = Arc::new(Life {
            name: format!("{name}.{}", state.born),
            world: Arc::clone(self),
            origin: Duration::from_secs(origin),
            skew: SignedDuration::from_secs(skew),
            line: Line::default(),
            state: Mutex::new(Moments { fuse, ..Moments::default() }),
            death: Notify::new(),
        });
        if dies.is_some() {
            state.lives.push(Arc::downgrade(&life));
        }
        life
    }

    /// The processes that live.
    pub(super) fn lives(&self) -> Vec<Arc<Life>> {
        self.state().lives.retain(|life| life.strong_count() > 0);
        let lives: Vec<_> = self.state().lives.iter().filter_map(Weak::upgrade).collect();
        lives.into_iter().filter(|life| !life.state().dead).collect()
    }
}

/// One life of a process, from its start to its end.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) name: String,
    pub(super) world: Arc<World>,
    /// Its connection to the broker.
    pub(super) line: Line,
    origin: Duration,
    skew: SignedDuration,
    state: Mutex<Moments>,
    death: Notify,
}

#[derive(Debug, Default)]
struct Moments {
    /// Steps until it is killed.
    fuse: Option<u64>,
    dead: bool,
    frozen_until: Duration,
    cut_off_until: Duration,
    stops: Vec<watch::Sender<bool>>,
    /// Batches that it sent.
    sent: BTreeSet<Batch>,
    /// Attempts of which it told that their outcomes cannot be stored.
    unwritable: BTreeSet<(TaskId, u32)>,
    /// Whether it was ever held up.
    held_up: bool,
}

impl Life {
    fn state(&self) -> MutexGuard<'_, Moments> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment at which anything may happen to the process: before and after whatever it does to the world outside.
    pub(super) async fn step(&self) {
        self.world.dawdle(Duration::from_millis(60)).await;
        loop {
            let frozen = self.state().frozen_until.saturating_sub(self.world.time.now());
            if frozen.is_zero() {
                break;
            }
            self.world.time.sleep(frozen).await;
        }
        let dead = {
            let state = &mut *self.state();
            state.fuse = state.fuse.map(|left| left.saturating_sub(1));
            state.dead || state.fuse == Some(0)
        };
        if dead {
            self.die().await;
        }
    }

    /// Ends the process here.
    pub(super) async fn die(&self) -> ! {
        self.kill();
        std::future::pending().await
    }

    /// Ends the process wherever it is.
    pub(super) fn kill(&self) {
        self.state().dead = true;
        self.death.notify_one();
    }

    /// Waits until the process ends by force.
    pub(super) async fn death(&self) {
        self.death.notified().await;
    }

    /// Takes all its time away, as a suspended machine does.
    pub(super) fn freeze(&self, time: Duration) {
        let mut state = self.state();
        state.frozen_until = self.world.time.now() + time;
        state.held_up = true;
    }

    /// Takes the network away.
    pub(super) fn cut_off(&self, time: Duration) {
        self.state().cut_off_until = self.world.time.now() + time;
    }

    /// Notes what it sends.
    pub(super) fn sends(&self, message: &Message) {
        if let Ok(assignment) = message.read::<Assignment>() {
            self.state().sent.insert(assignment.batch);
        }
        for Report { task, attempt, what, .. } in message.read::<Vec<Report>>().unwrap_or_default() {
            if matches!(what, Reported::StoreFailed | Reported::StoreAway) {
                self.state().unwritable.insert((task, attempt));
            }
        }
    }

    /// Checks that the work on what it acknowledges lies in the store, or that it told why not.
    pub(super) fn acknowledges(&self, message: &Message) {
        let Ok(Assignment { task, attempt, long: false, .. }) = message.read() else { return };
        let attempt = (task.id(), attempt);
        if !self.world.has_stored(attempt.0, attempt.1) && !self.state().unwritable.contains(&attempt) {
            self.world.violated(format_args!("{} is acknowledged before its outcome is stored", attempt.0));
        }
    }

    /// The batches it sent; none of a process that was held up, which may act on what it saw long ago.
    pub(super) fn sent(&self) -> BTreeSet<Batch> {
        let state = self.state();
        if state.held_up { BTreeSet::new() } else { state.sent.clone() }
    }

    /// Whether it can reach `service` now.
    pub(super) fn reaches(&self, service: Service) -> bool {
        let now = self.world.time.now();
        let down = self.world.state().down.get(&service).copied();
        self.state().cut_off_until <= now && down.is_none_or(|until| until <= now)
    }

    /// How it is asked to end. One for each who listens: what wakes first of several is left to chance.
    pub(super) fn stopper(&self) -> watch::Receiver<bool> {
        let (stop, stopped) = watch::channel(false);
        self.state().stops.push(stop);
        stopped
    }

    /// Asks the process to end.
    pub(super) fn stop(&self) {
        // Who listens no more has ended already.
        self.state().stops.iter().for_each(|stop| _ = stop.send(true));
    }

    /// Writes a line into the log.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        self.world.note(&self.name, what);
    }

    /// Its clock: its wall clock is wrong, and its ticks begin anywhere.
    pub(super) fn clock(self: &Arc<Self>) -> SharedClock {
        Arc::new(LifeClock(Arc::clone(self)))
    }
}

#[derive(Debug)]
struct LifeClock(Arc<Life>);

#[async_trait]
impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        let began = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56);
        began + SignedDuration::from_millis(self.0.world.time.now().as_millis() as i64) + self.0.skew
    }

    fn tick(&self) -> Tick {
        Tick::at(self.0.origin + self.0.world.time.now())
    }

    async fn sleep(&self, duration: Duration) {
        self.0.world.time.sleep(duration).await;
    }
}
