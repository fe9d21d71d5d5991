//! The script of a bucket against the arithmetic it must do, and a fleet of clients against what a workspace allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, SystemClock, Tick};
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::redis::CarefulLocks;
use lakehold_proto::locks::{Bucket, BucketKey, Claim, Feedback, Limit, Locks as _};
use lakehold_tests::component::redis::Redis;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::redis::{aged, config, connect};

#[tokio::test(flavor = "multi_thread")]
async fn the_script_gives_what_the_pure_bucket_gives() {
    let redis = Redis::start(&[]).await;
    let locks = connect(&config(&redis.url(), "same")).await.unwrap();
    for seed in 0..40 {
        aged(&redis, "same");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut limit = Limit {
            per_second: rng.random_range(0.05..200.0),
            start: rng.random_range(0.05..200.0),
            burst: rng.random_range(0..20),
        };
        let key = BucketKey::new("same", "family", &seed.to_string());
        // What the script is told is the time of day, and may be set back; the pure bucket's time never is.
        let (mut told, mut pure) = (Duration::from_micros(1_760_000_000_123_456), Duration::ZERO);
        let mut bucket: Option<Bucket> = None;
        for step in 0..250 {
            match rng.random_range(0..100) {
                0 => told -= Duration::from_micros(rng.random_range(1..4_000_000_000)),
                1 => limit.per_second = rng.random_range(0.05..200.0),
                _ => {
                    let most = [50, 5_000, 700_000, 5_000_000, 100_000_000][rng.random_range(0..5)];
                    let passed = Duration::from_micros(rng.random_range(0..most));
                    (told, pure) = (told + passed, pure + passed);
                }
            }
            let now = Tick::at(pure);
            if let Some(bucket) = bucket.as_mut().filter(|_| rng.random_bool(0.01)) {
                bucket.drain(now);
                redis.cli(&["set", "lakehold:{same}:emptied", &told.as_micros().to_string()]);
            }
            let bucket = bucket.get_or_insert_with(|| Bucket::new(limit, now));
            let rate = if rng.random_bool(0.7) {
                let wanted = rng.random_range(0..12);
                let answer = locks.ask_at(&key, limit, wanted, told).await.unwrap();
                let grant = bucket.take(limit, wanted, now);
                assert_eq!(answer.grant, grant, "seed {seed}, step {step}: {limit:?} {bucket:?}");
                answer.rate
            } else {
                let pause = Duration::from_micros(rng.random_range(0..6_000_000));
                let feedback = match rng.random_range(0..4) {
                    0 => Feedback::Throttled(pause),
                    1 => Feedback::Unused(rng.random_range(0..5)),
                    count => Feedback::Fine(count),
                };
                bucket.feed(limit, feedback, now);
                locks.feed_at(&key, limit, feedback, told).await.unwrap()
            };
            assert_eq!(rate.to_bits(), bucket.rate().to_bits(), "seed {seed}, step {step}: {bucket:?}");
        }
    }
}

const LIMIT: Limit = Limit { per_second: 60.0, start: 60.0, burst: 6 };
const CLIENTS: u32 = 4;

/// Permits, and between which moments they were given.
type Given = (Tick, Tick, u32);

/// Takes whatever it can get until told to stop.
async fn take_all(locks: Arc<CarefulLocks>, clock: SharedClock, stop: Arc<AtomicBool>) -> Vec<Given> {
    let key = BucketKey::new("w", "f", "read");
    let mut given = Vec::new();
    while !stop.load(Relaxed) {
        let asked = clock.tick();
        let grant = locks.take(&key, LIMIT, 3).await.unwrap();
        if grant.permits > 0 {
            given.push((asked, clock.tick(), grant.permits));
        }
        clock.sleep(grant.wait.clamp(Duration::from_millis(5), Duration::from_millis(50))).await;
    }
    given
}

/// The most that was certainly given in some span of this length.
fn most_in(given: &[Given], span: Duration) -> u32 {
    let within = |from: Tick| {
        let inside = |(asked, got, _): &&Given| *asked >= from && *got < from.plus(span);
        given.iter().filter(inside).map(|(.., permits)| permits).sum()
    };
    given.iter().map(|(asked, ..)| within(*asked)).max().unwrap_or_default()
}

fn sum_in(given: &[Given], from: Tick, until: Tick) -> u32 {
    given.iter().filter(|(_, got, _)| *got >= from && *got < until).map(|(.., permits)| permits).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_stays_within_the_limit_whatever_becomes_of_redis() {
    let mut redis = Redis::start(&[]).await;
    let clock = SystemClock::shared();
    let (mut fleet, mut takers, stop) = (Vec::new(), Vec::new(), Arc::new(AtomicBool::new(false)));
    for number in 0..CLIENTS {
        let config = config(&redis.url(), "limit");
        let locks = Arc::new(CarefulLocks::connect(&config, clock.clone()).await.unwrap());
        locks.announce(&number.to_string(), 1).await.unwrap();
        fleet.push(locks);
    }
    for locks in &fleet {
        locks.announce("0", 1).await.unwrap();
        takers.push(tokio::spawn(take_all(locks.clone(), clock.clone(), stop.clone())));
    }
    let pass = async |seconds: f64| {
        let from = clock.tick();
        clock.sleep(Duration::from_secs_f64(seconds)).await;
        (from, clock.tick())
    };
    let all = async |alone: bool| {
        let began = clock.tick();
        while fleet.iter().any(|locks| locks.alone().is_some() != alone) {
            assert!(clock.tick().since(began) < Duration::from_secs(30), "not all became alone: {alone}");
            clock.sleep(Duration::from_millis(10)).await;
        }
    };

    let well = pass(3.0).await;
    redis.cli(&["flushall"]);
    pass(2.0).await;
    redis.cli(&["script", "flush"]);
    pass(1.0).await;
    redis.server.freeze();
    all(true).await;
    let frozen = pass(4.0).await;
    redis.server.thaw();
    all(false).await;
    pass(3.0).await;
    redis.server.kill();
    all(true).await;
    let killed = pass(4.0).await;
    redis.restart().await;
    all(false).await;
    pass(3.0).await;
    redis.server.kill();
    redis.restart().await;
    pass(1.5).await;
    all(false).await;
    let again = pass(4.0).await;

    stop.store(true, Relaxed);
    let mut given = Vec::new();
    for taker in takers {
        given.extend(taker.await.unwrap());
    }
    given.sort();
    let (one, ten) = (most_in(&given, Duration::from_secs(1)), most_in(&given, Duration::from_secs(10)));
    assert!(f64::from(one) <= 1.1 * LIMIT.per_second, "{one} in a second");
    assert!(ten <= 606, "{ten} in ten seconds");
    for (what, (from, until)) in [("at first", well), ("at last", again)] {
        let (sum, due) = (sum_in(&given, from, until), until.since(from).as_secs_f64() * LIMIT.per_second);
        assert!(f64::from(sum) > 0.7 * due, "{what}: {sum} of {due}");
    }
    for (what, (from, until)) in [("frozen", frozen), ("killed", killed)] {
        let (sum, due) =
            (sum_in(&given, from, until), until.since(from).as_secs_f64() * LIMIT.per_second * 0.1);
        assert!(
            f64::from(sum) > 0.5 * due && f64::from(sum) <= due + f64::from(CLIENTS),
            "{what}: {sum} of {due}"
        );
    }
    eprintln!("{one} in a second, {ten} in ten seconds, of 60 a second with a burst of 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_so_many_are_in_a_room_while_workers_die() {
    let redis = Redis::start(&[]).await;
    let config = config(&redis.url(), "room");
    let ttl = Duration::from_millis(400);
    let clock = SystemClock::shared();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..12_u64 {
        let (locks, clock) = (connect(&config).await.unwrap(), clock.clone());
        workers.spawn(async move {
            let (mut rng, mut inside) = (StdRng::seed_from_u64(number), Vec::new());
            while inside.len() < 8 {
                let token = Nonce::random();
                let one = Claim { wanted: 1, in_use: 0 };
                if locks.enter("r", token, one, 3, ttl).await.unwrap() == 0 {
                    clock.sleep(Duration::from_millis(rng.random_range(5..40))).await;
                    continue;
                }
                let from = clock.tick();
                clock.sleep(Duration::from_millis(rng.random_range(5..60))).await;
                inside.push((from, clock.tick()));
                // One in eight dies with its place, which is free again when its time is over.
                if rng.random_bool(0.875) {
                    locks.enter("r", token, Claim::default(), 3, ttl).await.unwrap();
                }
            }
            inside
        });
    }
    let inside: Vec<(Tick, Tick)> = workers.join_all().await.into_iter().flatten().collect();
    for (at, _) in &inside {
        let together = inside.iter().filter(|(from, until)| from <= at && until > at).count();
        assert!(together <= 3, "{together} at once");
    }
    assert_eq!(inside.len(), 96);
}
