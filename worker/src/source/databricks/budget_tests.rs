//! The budget against clocks and locks that do as they are told.

use async_trait::async_trait;
use jiff::Timestamp;
use lakehold_proto::clock::Clock;
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::{Claim, Locks, MemoryLocks};

use super::super::families::{PERMISSIONS, SCIM};
use super::super::room;
use super::*;
use crate::progress::Done;

/// Time that passes only while all wait: it jumps to the end of the wait that ends first.
#[derive(Debug, Default)]
struct Jumping(Mutex<Time>);

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    waits: Vec<Duration>,
    /// Waits that began or ended so far.
    changes: u64,
}

/// A wait, until it ends or is dropped.
struct Wait<'a>(&'a Jumping, Duration);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut time = lock(&self.0.0);
        let at = time.waits.iter().position(|until| *until == self.1).unwrap();
        time.waits.swap_remove(at);
        time.changes += 1;
    }
}

#[async_trait]
impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn tick(&self) -> Tick {
        Tick::at(lock(&self.0).now)
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.tick().plus(duration).elapsed();
        {
            let mut time = lock(&self.0);
            time.waits.push(until);
            time.changes += 1;
        }
        let _wait = Wait(self, until);
        while lock(&self.0).now < until {
            let changes = lock(&self.0).changes;
            // Whoever does not wait goes on first.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let mut time = lock(&self.0);
            if time.changes == changes && time.waits.iter().all(|other| until <= *other) {
                time.now = time.now.max(until);
            }
        }
    }
}

/// Locks that count what they are asked, and can be down.
#[derive(Debug)]
struct Counting {
    inner: MemoryLocks,
    takes: AtomicU32,
    claims: AtomicU32,
    down: AtomicBool,
    unused: AtomicU32,
}

#[async_trait]
impl Locks for Counting {
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.acquire(name, token, ttl).await
    }

    async fn release(&self, name: &str, token: Nonce) -> Result<()> {
        self.inner.release(name, token).await
    }

    async fn held(&self, name: &str) -> Result<bool> {
        self.inner.held(name).await
    }

    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32> {
        self.claims.fetch_add(1, Relaxed);
        self.inner.enter(room, token, claim, places, ttl).await
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        self.takes.fetch_add(1, Relaxed);
        if self.down.load(Relaxed) {
            return Err(Fault::new(Class::Unavailable, "locks.down", "take permits", "refused"));
        }
        self.inner.take(key, limit, wanted).await
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        if let Feedback::Unused(count) = feedback {
            self.unused.fetch_add(count, Relaxed);
        }
        self.inner.feed(key, limit, feedback).await
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        self.inner.rate(key).await
    }
}

struct Bench {
    clock: Arc<Jumping>,
    locks: Arc<Counting>,
    budget: Arc<Budget>,
    meter: Arc<Meter>,
}

fn bench() -> Bench {
    let clock = Arc::new(Jumping::default());
    let locks = Arc::new(Counting {
        inner: MemoryLocks::new(clock.clone()),
        takes: AtomicU32::new(0),
        claims: AtomicU32::new(0),
        down: AtomicBool::new(false),
        unused: AtomicU32::new(0),
    });
    let budget = budget(&clock, &locks);
    Bench { clock, locks, budget, meter: Arc::new(Meter::new(Arc::new(Done::default()))) }
}

/// What one process has of it.
fn budget(clock: &Arc<Jumping>, locks: &Arc<Counting>) -> Arc<Budget> {
    Arc::new(Budget::new(locks.clone(), clock.clone(), "w".into(), 1.0, 16))
}

impl Bench {
    /// Makes `count` calls by `callers` at once, and tells how long they took.
    async fn calls(&self, family: &'static Family, callers: u32, count: u32) -> Duration {
        let began = self.clock.tick();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let (budget, meter) = (Arc::clone(&self.budget), Arc::clone(&self.meter));
            tasks.spawn(async move {
                for _ in 0..count / callers {
                    let leave = enter(&budget, family, &meter).await;
                    budget.fine(leave).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        self.clock.tick().since(began)
    }
}

async fn enter(budget: &Budget, family: &'static Family, meter: &Meter) -> Leave {
    budget.enter(family, Verb::Read, family.bucket("w", None, Verb::Read), meter).await
}

#[tokio::test]
async fn the_rate_is_used_and_not_exceeded() {
    let bench = bench();
    let took = bench.calls(&PERMISSIONS, 10, 1_000).await.as_secs_f64();
    assert!((9.5..10.6).contains(&took), "1000 calls at 100 a second took {took} s");
    let asked = bench.locks.takes.load(Relaxed);
    assert!(asked < 500, "the shared budget was asked {asked} times for 1000 calls");
    assert!(bench.meter.figures().calls["permissions"].waited_ms > 0);
}

#[tokio::test]
async fn a_pause_stops_everybody_also_with_permits_in_hand() {
    let bench = bench();
    let leave = enter(&bench.budget, &PERMISSIONS, &bench.meter).await;
    leave.pool.hand().permits = 5;
    let pool = Arc::clone(&leave.pool);
    bench.budget.throttled(leave, Duration::from_secs(7)).await;
    assert_eq!(pool.hand().permits, 0);
    let took = bench.calls(&PERMISSIONS, 1, 1).await;
    assert!(took >= Duration::from_secs(7), "{took:?}");
}

#[tokio::test]
async fn permits_nobody_wants_go_back() {
    let bench = bench();
    let leave = enter(&bench.budget, &PERMISSIONS, &bench.meter).await;
    leave.pool.hand().permits = 3;
    bench.budget.fine(leave).await;
    assert_eq!(bench.locks.unused.load(Relaxed), 3);
}

#[tokio::test]
async fn without_the_shared_budget_calls_go_on_slowly_and_then_return() {
    let bench = bench();
    bench.locks.down.store(true, Relaxed);
    let took = bench.calls(&PERMISSIONS, 2, 40).await.as_secs_f64();
    assert!((17.0..22.0).contains(&took), "40 calls at 2 a second took {took} s");
    let asked = bench.locks.takes.load(Relaxed);
    assert!(asked <= 6, "a budget that is down was asked {asked} times in 20 s");
    bench.locks.down.store(false, Relaxed);
    bench.clock.sleep(AGAIN).await;
    let took = bench.calls(&PERMISSIONS, 2, 100).await.as_secs_f64();
    assert!(took < 2.0, "100 calls at 100 a second took {took} s");
}

#[tokio::test]
async fn a_family_keeps_to_its_cap() {
    let bench = bench();
    let first = enter(&bench.budget, &SCIM, &bench.meter).await;
    let second = enter(&bench.budget, &SCIM, &bench.meter).await;
    let third = enter(&bench.budget, &SCIM, &bench.meter);
    assert!(futures::FutureExt::now_or_never(third).is_none(), "scim allows two at once");
    drop((first, second));
    enter(&bench.budget, &SCIM, &bench.meter).await;
}

#[tokio::test]
async fn a_cap_is_kept_by_all_processes_together() {
    let bench = bench();
    let other = budget(&bench.clock, &bench.locks);
    let first = enter(&bench.budget, &SCIM, &bench.meter).await;
    let second = enter(&other, &SCIM, &bench.meter).await;
    let mut third = Box::pin(enter(&bench.budget, &SCIM, &bench.meter));
    for _ in 0..1_000 {
        assert!(futures::poll!(&mut third).is_pending(), "two are under way");
        tokio::task::yield_now().await;
    }
    drop(second);
    // The other process wants nothing any more, and gives its place back.
    let third = third.await;
    drop((first, third));
    let asked = bench.locks.claims.load(Relaxed);
    let took = bench.calls(&PERMISSIONS, 10, 1_000).await;
    let asked = bench.locks.claims.load(Relaxed) - asked;
    assert!(asked < 60, "{asked} questions for 1000 calls in {took:?}");
}

#[tokio::test]
async fn places_that_nobody_uses_are_given_back() {
    let bench = bench();
    let other = budget(&bench.clock, &bench.locks);
    bench.calls(&SCIM, 10, 10).await;
    let began = bench.clock.tick();
    let long = enter(&other, &SCIM, &bench.meter).await;
    let second = enter(&other, &SCIM, &bench.meter).await;
    let took = bench.clock.tick().since(began);
    assert!(took < Duration::from_secs(3), "the second of two places was free after {took:?}");
    // A call that takes its time keeps its place, however long it is.
    drop(second);
    bench.clock.sleep(10 * room::TTL).await;
    let both = futures::future::join(
        enter(&bench.budget, &SCIM, &bench.meter),
        enter(&bench.budget, &SCIM, &bench.meter),
    );
    let mut both = Box::pin(both);
    let waited = futures::future::select(&mut both, bench.clock.sleep(10 * room::TTL)).await;
    assert!(matches!(waited, futures::future::Either::Right(_)), "one of two places is in use");
    drop(long);
    both.await;
}
