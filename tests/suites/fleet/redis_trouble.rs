//! Redis gone, slow, full, demoted or failed over: what is said, how soon, and that it is over when it is over.

use std::time::Duration;

use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::redis::{CarefulLocks, RedisLocks};
use lakehold_proto::locks::{BucketKey, Limit, Locks};
use lakehold_tests::component::free_port;
use lakehold_tests::component::redis::{Redis, Watched};

use super::redis::{config, connect};

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);
/// A call takes a second at most; the rest is for a machine that has much else to do.
const SOON: Duration = Duration::from_millis(2_500);

/// Takes a lock that nobody has.
async fn acquire(locks: &dyn Locks) -> Result<(), Fault> {
    let mine = Nonce::random();
    let taken = locks.acquire(&mine.to_string(), mine, LONG).await?;
    assert!(taken);
    Ok(())
}

/// Calls until it fails this way, and no call may take long.
async fn fails_with(locks: &RedisLocks, clock: &SharedClock, code: &str) {
    let start = clock.tick();
    loop {
        let began = clock.tick();
        let answer = acquire(locks).await;
        let took = clock.tick().since(began);
        assert!(took < SOON, "{took:?} for {answer:?}");
        match answer {
            Err(fault) if fault.code == code => {
                assert_eq!(fault.class, Class::Unavailable, "{fault:?}");
                assert!(fault.hint.is_some() && fault.to_string().contains("127.0.0.1"), "{fault:?}");
                return;
            }
            other => assert!(clock.tick().since(start) < PATIENCE, "{code} was not said, but {other:?}"),
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
}

async fn works_again(locks: &dyn Locks, clock: &SharedClock) {
    let start = clock.tick();
    while let Err(fault) = acquire(locks).await {
        assert!(clock.tick().since(start) < PATIENCE, "it does not come back: {fault}");
        clock.sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_wrong_and_works_again_when_it_is_not() {
    let clock = SystemClock::shared();
    let mut redis = Redis::start(&["--maxmemory-policy", "noeviction"]).await;
    let locks = connect(&config(&redis.url(), "trouble")).await.unwrap();
    acquire(&locks).await.unwrap();

    // A connection that was closed while nobody used it is not worth a word.
    for _ in 0..5 {
        redis.cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
        acquire(&locks).await.unwrap();
    }
    redis.cli(&["script", "flush"]);
    acquire(&locks).await.unwrap();

    redis.cli(&["config", "set", "maxmemory", "1"]);
    fails_with(&locks, &clock, "locks.full").await;
    let full = connect(&config(&redis.url(), "trouble")).await.unwrap_err();
    assert_eq!(full.code, "locks.full", "{full}");
    redis.cli(&["config", "set", "maxmemory", "0"]);
    works_again(&locks, &clock).await;

    redis.cli(&["replicaof", "127.0.0.1", &free_port().to_string()]);
    fails_with(&locks, &clock, "locks.read-only").await;
    redis.cli(&["replicaof", "no", "one"]);
    works_again(&locks, &clock).await;

    redis.cli(&["config", "set", "min-replicas-to-write", "1"]);
    fails_with(&locks, &clock, "locks.refused").await;
    redis.cli(&["config", "set", "min-replicas-to-write", "0"]);
    works_again(&locks, &clock).await;

    redis.server.freeze();
    fails_with(&locks, &clock, "locks.silent").await;
    redis.server.thaw();
    works_again(&locks, &clock).await;

    redis.server.kill();
    fails_with(&locks, &clock, "locks.unreachable").await;
    redis.restart().await;
    works_again(&locks, &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn begins_alone_when_redis_is_not_there_yet() {
    let clock = SystemClock::shared();
    let mut redis = Redis::start(&[]).await;
    redis.server.kill();
    let config = config(&redis.url(), "later");
    assert_eq!(connect(&config).await.unwrap_err().code, "locks.unreachable");
    let careful = CarefulLocks::connect(&config, clock.clone()).await.unwrap();
    assert_eq!(careful.alone().map(|why| why.code), Some("locks.unreachable"));
    assert_eq!(careful.announce("w", 1).await.unwrap_err().code, "locks.unreachable");
    acquire(&careful).await.unwrap();
    let (key, limit) =
        (BucketKey::new("w", "f", "read"), Limit { per_second: 100.0, start: 100.0, burst: 9 });
    let began = clock.tick();
    while careful.take(&key, limit, 9).await.unwrap().permits == 0 {
        assert!(clock.tick().since(began) < PATIENCE, "alone, and no permit");
        clock.sleep(Duration::from_millis(20)).await;
    }
    redis.restart().await;
    let began = clock.tick();
    while careful.announce("w", 1).await.is_err() {
        assert!(clock.tick().since(began) < PATIENCE, "Redis is there, and not used");
        clock.sleep(Duration::from_millis(20)).await;
    }
    assert!(careful.alone().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinels_goes_on() {
    let clock = SystemClock::shared();
    let mut watched = Watched::start().await;
    let config = config(&watched.url(), "sentinel");
    let unknown = super::redis::config(&watched.url().replace("/m", "/unknown"), "sentinel");
    assert_eq!(connect(&unknown).await.unwrap_err().code, "locks.no-primary");

    let bare = connect(&config).await.unwrap();
    let careful = CarefulLocks::connect(&config, clock.clone()).await.unwrap();
    let mine = Nonce::random();
    assert!(careful.acquire("task", mine, LONG).await.unwrap());
    assert!(!bare.acquire("task", Nonce::random(), LONG).await.unwrap());

    // The first Sentinel of the address goes too: the others are asked.
    watched.sentinels[0].server.kill();
    watched.servers[0].server.kill();
    let (key, limit) =
        (BucketKey::new("w", "f", "read"), Limit { per_second: 100.0, start: 100.0, burst: 9 });
    let began = clock.tick();
    let mut was_alone = false;
    loop {
        careful.take(&key, limit, 1).await.unwrap();
        assert!(
            careful.acquire("task", mine, LONG).await.unwrap(),
            "a renewal never fails for want of Redis"
        );
        let alone = careful.alone().is_some();
        if was_alone && !alone {
            break;
        }
        was_alone |= alone;
        assert!(clock.tick().since(began) < PATIENCE, "was alone: {was_alone}; {:?}", careful.alone());
        clock.sleep(Duration::from_millis(20)).await;
    }
    // A failover that took two attempts leaves two primaries for a moment, until the Sentinels see it.
    let primaries = || {
        let is_primary = |redis: &&Redis| redis.cli(&["role"]).starts_with("master");
        watched.servers[1..].iter().filter(is_primary).count()
    };
    let began = clock.tick();
    while primaries() != 1 {
        assert!(clock.tick().since(began) < PATIENCE, "{} primaries", primaries());
        clock.sleep(Duration::from_millis(50)).await;
    }
    both_use_one_server(&bare, &careful, &clock).await;

    // The old primary comes back as what it was; it is not believed.
    watched.servers[0].restart().await;
    both_use_one_server(&bare, &careful, &clock).await;
}

/// Tries with ever new locks until one holder keeps the other out.
async fn both_use_one_server(one: &dyn Locks, other: &dyn Locks, clock: &SharedClock) {
    let began = clock.tick();
    loop {
        let (mine, yours) = (Nonce::random(), Nonce::random());
        let name = mine.to_string();
        let taken = (one.acquire(&name, mine, LONG).await, other.acquire(&name, yours, LONG).await);
        if matches!(taken, (Ok(true), Ok(false))) {
            return;
        }
        assert!(clock.tick().since(began) < PATIENCE, "{taken:?}");
        clock.sleep(Duration::from_millis(20)).await;
    }
}
