//! Many careful clients and one server that is killed, wiped and cut off, in time that is only counted. What all of them
//! were given is compared with what the workspace allows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::clock::Clock;
use crate::locks::redis::fleet::SILENCE;
use crate::locks::{Bucket, Claim};

const LIMIT: Limit = Limit { per_second: 50.0, start: 50.0, burst: 5 };
const STEP: u64 = 10;
/// How often a worker says that it is alive, in milliseconds.
const ALIVE: u64 = 5_000;
const NOTICE: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
struct Counted(Mutex<Tick>);

#[async_trait]
impl Clock for Counted {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn tick(&self) -> Tick {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, _: Duration) {}
}

/// The server, as the scripts make it.
#[derive(Debug)]
struct Server {
    up: bool,
    /// How long each client needs to see that it is up.
    seen_after: Vec<Tick>,
    cut: HashSet<usize>,
    /// Until when each client counts as alive.
    alive: HashMap<usize, Tick>,
    /// When all buckets count as empty.
    emptied: Tick,
    buckets: HashMap<BucketKey, Bucket>,
    rejoin: Option<Tick>,
}

impl Server {
    fn wipe(&mut self, now: Tick) {
        (self.emptied, self.rejoin) = (now, None);
        self.buckets.clear();
        self.alive.clear();
    }
}

#[derive(Debug)]
struct Client {
    number: usize,
    clock: Arc<Counted>,
    server: Arc<Mutex<Server>>,
}

impl Client {
    fn with<T>(&self, answer: impl FnOnce(&mut Server, Tick) -> T) -> Result<T> {
        let mut server = self.server.lock().unwrap();
        if !server.up || server.cut.contains(&self.number) {
            return Err(Fault::new(Class::Unavailable, "locks.unreachable", "ask", "it is gone"));
        }
        Ok(answer(&mut server, self.clock.tick()))
    }

    fn bucket<T>(&self, key: &BucketKey, limit: Limit, f: impl FnOnce(&mut Bucket, Tick) -> T) -> Result<T> {
        self.with(|server, now| {
            let emptied = server.emptied;
            let fresh = || Bucket::drained(limit, emptied.min(now));
            let bucket = server.buckets.entry(key.clone()).or_insert_with(fresh);
            if emptied <= now {
                bucket.drain(emptied);
            }
            f(bucket, now)
        })
    }
}

#[async_trait]
impl Locks for Client {
    async fn acquire(&self, _: &str, _: Nonce, _: Duration) -> Result<bool> {
        self.with(|_, _| true)
    }

    async fn release(&self, _: &str, _: Nonce) -> Result<()> {
        self.with(|_, _| ())
    }

    async fn held(&self, _: &str) -> Result<bool> {
        self.with(|_, _| true)
    }

    async fn enter(&self, _: &str, _: Nonce, claim: Claim, _: u32, _: Duration) -> Result<u32> {
        self.with(|_, _| claim.wanted)
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        Ok(self.ask(key, limit, wanted).await?.grant)
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        self.bucket(key, limit, |bucket, now| bucket.feed(limit, feedback, now))
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        self.with(|server, _| server.buckets.get(key).map(Bucket::rate))
    }
}

#[async_trait]
impl Shared for Client {
    fn reachable(&self) -> bool {
        let server = self.server.lock().unwrap();
        server.up && !server.cut.contains(&self.number) && server.seen_after[self.number] <= self.clock.tick()
    }

    async fn rejoin(&self) -> Result<Duration> {
        self.with(|server, now| {
            if server.rejoin.is_none_or(|moment| moment <= now) {
                (server.rejoin, server.emptied) = (Some(now.plus(NOTICE)), now.plus(NOTICE));
            }
            server.emptied.since(now)
        })
    }

    async fn ask(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Answer> {
        self.bucket(key, limit, |bucket, now| {
            let grant = bucket.take(limit, wanted, now);
            Answer { grant, rate: bucket.rate(), paused: false }
        })
    }

    async fn announce(&self, _: &str, _: u32) -> Result<Census> {
        self.with(|server, now| server.alive.insert(self.number, now.plus(SILENCE)))?;
        self.workers().await
    }

    async fn withdraw(&self, _: &str) -> Result<()> {
        self.with(|_, _| ())
    }

    async fn workers(&self) -> Result<Census> {
        self.with(|server, now| {
            server.alive.retain(|_, ends| *ends > now);
            Census { workers: server.alive.len() as u32, slots: 1 }
        })
    }
}

/// A fleet and its server.
struct World {
    clock: Arc<Counted>,
    server: Arc<Mutex<Server>>,
    clients: Vec<CarefulLocks<Client>>,
    rng: StdRng,
    /// What was given, and in which millisecond.
    given: Vec<(u64, u32)>,
    at: u64,
}

impl World {
    async fn new(clients: usize, seed: u64) -> Self {
        let server = Server {
            up: true,
            seen_after: Vec::new(),
            cut: HashSet::new(),
            alive: HashMap::new(),
            emptied: Tick::default(),
            buckets: HashMap::new(),
            rejoin: None,
        };
        let mut world = Self {
            clock: Arc::default(),
            server: Arc::new(Mutex::new(server)),
            clients: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            given: Vec::new(),
            at: 0,
        };
        for _ in 0..clients {
            let client = world.begins(false);
            world.clients.push(client);
        }
        // Twice, so that the first knows of the last.
        for client in world.clients.iter().chain(&world.clients) {
            client.announce("worker", 1).await.unwrap();
        }
        world
    }

    /// A worker that knows nothing yet, cut off from the beginning or not.
    fn begins(&mut self, cut: bool) -> CarefulLocks<Client> {
        let mut server = self.server.lock().unwrap();
        let number = server.seen_after.len();
        server.seen_after.push(Tick::default());
        if cut {
            server.cut.insert(number);
        }
        drop(server);
        let client = Client { number, clock: self.clock.clone(), server: self.server.clone() };
        let client = CarefulLocks::around(client, self.clock.clone());
        client.state().phase = self.rng.random();
        client
    }

    fn now(&self) -> Tick {
        self.clock.tick()
    }

    /// Everybody wants as much as it can get, for so many seconds. Answers how much that was.
    async fn run(&mut self, seconds: f64) -> u32 {
        let key = BucketKey::new("w", "f", "read");
        let until = self.at + (seconds * 1_000.0) as u64;
        let mut sum = 0;
        while self.at < until {
            self.at += STEP;
            *self.clock.0.lock().unwrap() = Tick::at(Duration::from_millis(self.at));
            for (number, client) in self.clients.iter().enumerate() {
                if self.at % ALIVE == number as u64 * STEP {
                    _ = client.announce("worker", 1).await;
                }
                if self.rng.random_bool(0.5) {
                    let wanted = self.rng.random_range(1..=5);
                    let permits = client.take(&key, LIMIT, wanted).await.unwrap().permits;
                    self.given.push((self.at, permits));
                    sum += permits;
                }
            }
        }
        sum
    }

    fn down(&self) {
        self.server.lock().unwrap().up = false;
    }

    fn up(&mut self, empty: bool) {
        let now = self.now();
        let mut server = self.server.lock().unwrap();
        server.up = true;
        if empty {
            server.wipe(now);
        }
        for seen in &mut server.seen_after {
            *seen = now.plus(Duration::from_millis(self.rng.random_range(0..3_000)));
        }
    }

    /// The most that was given in any span of so many seconds.
    fn most_in(&self, seconds: u64) -> u32 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for &(at, permits) in &self.given {
            sum += permits;
            while self.given[first].0 + seconds * 1_000 <= at {
                sum -= self.given[first].1;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}

/// Four troubles, one after the other, or one before the last is over. Answers the most that was given in a second and in ten.
async fn troubled(seed: u64, overlap: bool) -> (u32, u32) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(rng.random_range(1..=9), seed).await;
    world.run(2.0).await;
    for _ in 0..4 {
        match rng.random_range(0..3) {
            0 => {
                let now = world.now();
                world.server.lock().unwrap().wipe(now);
            }
            kind => {
                world.down();
                let long = if !overlap && rng.random_bool(0.2) { 45.0 } else { 6.0 };
                world.run(rng.random_range(0.0..long)).await;
                world.up(kind == 1);
            }
        }
        world.run(rng.random_range(0.0..12.0)).await;
        while !overlap && world.clients.iter().any(|client| client.alone().is_some()) {
            world.run(0.1).await;
        }
    }
    (world.most_in(1), world.most_in(10))
}

#[tokio::test]
async fn all_together_stay_within_the_limit_whatever_becomes_of_the_server() {
    for seed in 0..100 {
        let (one, ten) = troubled(seed, false).await;
        assert!(f64::from(one) <= 1.1 * LIMIT.per_second && ten <= 505, "seed {seed}: {one}, {ten}");
        // A server that is wiped while all are about to go back to it forgets when that was to be.
        let (one, ten) = troubled(seed, true).await;
        assert!(f64::from(one) <= 1.2 * LIMIT.per_second && ten <= 555, "seed {seed}: {one}, {ten}");
    }
}

#[tokio::test]
async fn some_that_are_cut_off_take_no_more_than_a_tenth() {
    for seed in 0..20 {
        let mut world = World::new(5, seed).await;
        world.run(3.0).await;
        world.server.lock().unwrap().cut = (0..=(seed as usize % 4)).collect();
        world.run(20.0).await;
        world.server.lock().unwrap().cut.clear();
        world.run(20.0).await;
        let (one, ten) = (world.most_in(1), world.most_in(10));
        assert!(one <= 60 && ten <= 555, "{one} in a second and {ten} in ten, seed {seed}");
    }
}

/// Some or all are cut off for minutes, and meanwhile four of those are started anew or are new.
#[tokio::test]
async fn however_long_some_are_cut_off_all_together_stay_near_the_limit() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let all = rng.random_range(2..=8);
        let mut world = World::new(all, seed).await;
        world.run(3.0).await;
        let cut = if seed % 4 == 0 { all } else { rng.random_range(1..all) };
        world.server.lock().unwrap().cut = (0..cut).collect();
        for restarted in 0..4 {
            world.run(rng.random_range(15.0..35.0)).await;
            let client = world.begins(true);
            if restarted < cut && rng.random_bool(0.5) {
                world.clients[restarted] = client;
            } else {
                world.clients.push(client);
            }
        }
        world.run(40.0).await;
        world.server.lock().unwrap().cut.clear();
        world.run(20.0).await;
        let (one, ten) = (world.most_in(1), world.most_in(10));
        // The limit, a tenth of it, a hundredth for each of the four; a burst of the fleet, and one of each that was alone.
        let alone = 5 + cut as u32 + 4;
        assert!(one <= 57 + alone && ten <= 570 + alone, "{one} in a second and {ten} in ten, seed {seed}");
    }
}

#[tokio::test]
async fn a_fleet_started_anew_while_redis_is_gone_is_slow_and_has_its_first_calls_at_once() {
    let mut world = World::new(8, 1).await;
    world.run(2.0).await;
    world.down();
    for number in 0..8 {
        world.clients[number] = world.begins(false);
    }
    let first = world.run(0.5).await;
    assert_eq!(first, 8, "one of each");
    let sum = world.run(60.0).await;
    assert!((200..=248).contains(&sum), "eight hundredths of 50 a second for 60 seconds: {sum}");
}

#[tokio::test]
async fn workers_that_fell_silent_still_have_their_part() {
    let mut world = World::new(8, 1).await;
    world.server.lock().unwrap().cut = (0..6).collect();
    world.run(90.0).await;
    assert_eq!(world.clients[7].workers().await.unwrap().workers, 2);
    world.down();
    let sum = world.run(30.0).await;
    assert!((100..=158).contains(&sum), "a tenth of 50 a second for 30 seconds: {sum}");
}

#[tokio::test]
async fn work_goes_on_slowly_and_then_together() {
    let mut world = World::new(4, 1).await;
    world.run(2.0).await;
    world.down();
    let alone = world.run(60.0).await;
    assert!((250..=304).contains(&alone), "a tenth of 50 a second for 60 seconds: {alone}");
    assert_eq!(world.clients[0].alone().unwrap().code, "locks.unreachable");
    assert_eq!(world.clients[0].workers().await.unwrap().workers, 4);
    world.up(true);
    world.run(8.0).await;
    let back = world.run(20.0).await;
    assert!((990..=1_005).contains(&back), "50 a second for 20 seconds: {back}");
    assert!(world.clients.iter().all(|client| client.alone().is_none()));
}

#[tokio::test]
async fn a_pause_outlives_the_server_that_knew_of_it() {
    let mut world = World::new(2, 1).await;
    let key = BucketKey::new("w", "f", "read");
    world.run(1.0).await;
    world.clients[0].feed(&key, LIMIT, Feedback::Throttled(Duration::from_secs(30))).await.unwrap();
    world.down();
    world.clients[0].acquire("a", Nonce::numbered(1), Duration::from_secs(1)).await.unwrap();
    world.up(true);
    // The other never noticed, and the new server knows nothing: until the one that does is back.
    world.run(10.0).await;
    assert_eq!(world.run(15.0).await, 0, "the rest of the pause holds for both");
    assert!(world.run(10.0).await > 50);
}

#[tokio::test]
async fn alone_a_lock_is_ours_and_a_lease_of_others_unknown() {
    let mut world = World::new(2, 1).await;
    let (mine, yours) = (Nonce::numbered(1), Nonce::numbered(2));
    let long = Duration::from_secs(60);
    world.down();
    let client = &world.clients[0];
    assert!(client.acquire("a", mine, long).await.unwrap());
    assert!(!client.acquire("a", yours, long).await.unwrap(), "not twice in one process");
    assert!(client.held("a").await.unwrap());
    let fault = client.held("b").await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "locks.unreachable"));
    let three = Claim { wanted: 3, in_use: 0 };
    assert_eq!(client.enter("room", mine, three, 5, long).await.unwrap(), 2, "half of five places");
    assert_eq!(client.enter("room", yours, three, 5, long).await.unwrap(), 0);
    world.up(false);
    world.run(8.0).await;
    let client = &world.clients[0];
    assert_eq!(client.enter("room", yours, three, 5, long).await.unwrap(), 3);
    assert!(client.held("b").await.unwrap());
}
