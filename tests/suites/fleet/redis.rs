//! Redis as locks and rate budget, while it is well: its promises, its forms of address, and who may come in.

use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::redis::careful::Shared as _;
use lakehold_proto::locks::redis::{CarefulLocks, Census, RIGHTS, RedisConfig, RedisLocks, RedisTls};
use lakehold_proto::locks::{BucketKey, Claim, Feedback, Limit, Locks, conformance};
use lakehold_proto::secret::Secret;
use lakehold_tests::component::certificates::Certificates;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::program::Program;

const LONG: Duration = Duration::from_secs(60);

pub(super) fn config(url: &str, prefix: &str) -> RedisConfig {
    RedisConfig::new(Secret::new(url), prefix)
}

pub(super) async fn connect(config: &RedisConfig) -> Result<RedisLocks, Fault> {
    RedisLocks::connect(config, SystemClock::shared()).await
}

/// The suite wants a server that has been there for a while, so that a fresh bucket is due its burst.
pub(super) fn aged(redis: &Redis, prefix: &str) {
    redis.cli(&["set", &format!("lakehold:{{{prefix}}}:emptied"), "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_promises_of_the_port_alone_and_with_care() {
    let redis = Redis::start(&[]).await;
    for prefix in ["bare", "careful", "socket"] {
        aged(&redis, prefix);
    }
    conformance::all(&connect(&config(&redis.url(), "bare")).await.unwrap()).await;
    let careful =
        CarefulLocks::connect(&config(&redis.url(), "careful"), SystemClock::shared()).await.unwrap();
    conformance::all(&careful).await;
    assert!(careful.alone().is_none());
    let socket = format!("unix://{}?db=3", redis.socket().display());
    let socket = connect(&config(&socket, "socket")).await.unwrap();
    let (mine, yours) = (Nonce::random(), Nonce::random());
    assert!(socket.acquire("a", mine, LONG).await.unwrap());
    // Neither another database nor another prefix sees it.
    for apart in [config(&redis.url(), "socket"), config(&format!("{}/3", redis.url()), "other")] {
        assert!(connect(&apart).await.unwrap().acquire("a", yours, LONG).await.unwrap());
    }
    // All keys are ours, and all but one end by themselves. (Names are free text, so lines would tell nothing.)
    let others = "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
                  if not key:find('^lakehold:{') or redis.call('PTTL', key) < 0 and not key:find(':emptied$') \
                  then table.insert(found, key) end end return found";
    assert_eq!(redis.cli(&["eval", others, "0"]), "");
    assert!(redis.cli(&["dbsize"]).parse::<u32>().unwrap() > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_user_with_the_least_rights_does_everything_and_others_are_denied() {
    let redis = Redis::start(&[]).await;
    redis.cli(&["config", "set", "requirepass", "root-pass"]);
    let cli = |command: &[&str]| redis.cli(&[&["--no-auth-warning", "-a", "root-pass"], command].concat());
    let user = |name: &str, rights: &str| {
        let rights = rights.split_whitespace();
        let command: Vec<&str> =
            ["acl", "setuser", name, "on", ">hunter2@/"].into_iter().chain(rights).collect();
        assert_eq!(cli(&command), "OK");
    };
    user("lakehold", RIGHTS);
    let page = include_str!("../../../deploy/fleet.md");
    assert!(page.contains(RIGHTS), "what the page for people says");
    // So are the addresses that it shows.
    let program = Program::new(&[("prod", "https://adb-1.1.azuredatabricks.net")], "token");
    let sound = std::fs::read_to_string(program.path("lakehold.yaml")).unwrap();
    let sentinels = page.split('`').find(|word| word.starts_with("rediss+sentinel://")).unwrap();
    let shown: Vec<_> = page.lines().filter(|line| line.starts_with("redis: ")).collect();
    assert_eq!(shown.len(), 2);
    for (line, secret) in shown.into_iter().zip(["hunter2", sentinels]) {
        std::fs::write(program.path("secret"), secret).unwrap();
        let line = line.replace("/run/secrets/redis", program.path("secret").to_str().unwrap());
        program.configure(&format!("{sound}queue: amqps://mq.example/dr\n{line}\n"));
        let told = program.run("config validate").await;
        assert_eq!(told.code, Some(0), "{told:#?}");
    }
    user("stranger", "~lakehold:* +get");
    cli(&["set", "lakehold:{acl}:emptied", "1"]);
    let at = |login: &str, db: u8| config(&format!("redis://{login}@127.0.0.1:{}/{db}", redis.port), "acl");

    let locks = connect(&at("lakehold:hunter2%40%2F", 0)).await.unwrap();
    conformance::all(&locks).await;
    locks.announce("w", 4).await.unwrap();
    locks.withdraw("w").await.unwrap();
    locks.rejoin().await.unwrap();
    connect(&at("lakehold:hunter2%40%2F", 2)).await.unwrap();

    for login in ["lakehold:hunter3", "nobody:hunter3", ":hunter3", "stranger:hunter2%40%2F"] {
        let config = at(login, 0);
        let bare = connect(&config).await.unwrap_err();
        let careful = CarefulLocks::connect(&config, SystemClock::shared()).await.unwrap_err();
        for fault in [bare, careful] {
            assert_eq!((fault.class, fault.code), (Class::Denied, "locks.denied"), "{login}: {fault}");
            let said = format!("{fault} {fault:?} {config:?}");
            assert!(!said.contains("hunter"), "{said}");
            assert!(fault.hint.is_some() && said.contains("127.0.0.1"), "{said}");
        }
    }
    let nobody = connect(&config(&redis.url(), "acl")).await.unwrap_err();
    assert_eq!(nobody.code, "locks.denied", "{nobody}");
    // The password changes while we work: the fleet goes on alone.
    let careful =
        CarefulLocks::connect(&at("lakehold:hunter2%40%2F", 0), SystemClock::shared()).await.unwrap();
    user("lakehold", "resetpass >other");
    cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
    assert!(careful.acquire("a", Nonce::random(), LONG).await.unwrap());
    assert_eq!(careful.alone().map(|why| why.code), Some("locks.denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_authority_it_is_given_and_shows_its_own_certificate() {
    let certificates = Certificates::new();
    let open = Redis::start_tls(&certificates, false).await;
    let mutual = Redis::start_tls(&certificates, true).await;
    let address = |redis: &Redis, host: &str| format!("rediss://{host}:{}", redis.tls_port.unwrap());
    let with = |url: String, tls: RedisTls| RedisConfig { tls: Some(tls), ..config(&url, "tls") };
    let ca = || Some(certificates.read("ca.pem"));
    let key = || Secret::new(String::from_utf8(certificates.read("client.key")).unwrap());

    for host in ["127.0.0.1", "localhost"] {
        let tls = RedisTls { ca: ca(), identity: None };
        let locks = connect(&with(address(&open, host), tls)).await.unwrap();
        assert!(locks.acquire(host, Nonce::random(), LONG).await.unwrap());
    }
    let unknown = connect(&config(&address(&open, "localhost"), "tls")).await.unwrap_err();
    assert_eq!((unknown.class, unknown.code), (Class::Config, "locks.tls"), "{unknown}");

    let identity = Some((certificates.read("client.pem"), key()));
    let locks = connect(&with(address(&mutual, "localhost"), RedisTls { ca: ca(), identity })).await.unwrap();
    assert!(locks.acquire("mutual", Nonce::random(), LONG).await.unwrap());
    let bare = connect(&with(address(&mutual, "localhost"), RedisTls { ca: ca(), identity: None })).await;
    assert!(bare.is_err(), "a client without a certificate came in");

    let broken = RedisTls { ca: Some(b"-----BEGIN CERTIFICATE-----\n!".to_vec()), identity: None };
    let broken = connect(&with(address(&open, "localhost"), broken)).await.unwrap_err();
    assert_eq!((broken.class, broken.code), (Class::Config, "locks.tls"), "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_the_workers_that_are_alive() {
    let redis = Redis::start(&[]).await;
    let config = config(&redis.url(), "fleet");
    let clock = SystemClock::shared();
    let (one, two) = (
        CarefulLocks::connect(&config, clock.clone()).await.unwrap(),
        CarefulLocks::connect(&config, clock).await.unwrap(),
    );
    assert_eq!(one.workers().await.unwrap(), Census::default());
    assert_eq!(one.announce("worker one", 16).await.unwrap(), Census { workers: 1, slots: 16 });
    assert_eq!(two.announce("{two}", 8).await.unwrap(), Census { workers: 2, slots: 24 });
    assert_eq!(one.announce("worker one", 4).await.unwrap(), Census { workers: 2, slots: 12 });
    two.withdraw("{two}").await;
    assert_eq!(two.workers().await.unwrap(), Census { workers: 1, slots: 4 });
    // One that fell silent, one from before the server's clock was set back, and one that is not ours.
    let key = "lakehold:{fleet}:fleet";
    for (name, what) in [("silent", "1000 9"), ("ahead", "9999999999999 9"), ("foreign", "what?")] {
        redis.cli(&["hset", key, name, what]);
    }
    assert_eq!(one.workers().await.unwrap(), Census { workers: 1, slots: 4 });
    let left: u64 = redis.cli(&["pttl", key]).parse().unwrap();
    assert!(left <= 15_000, "{left} ms until the last worker counts as gone");
    // A place of somebody dead, from before the clock was set back, is not kept for ever either.
    redis.cli(&["hset", "lakehold:{fleet}:room:r", "dead", "1 1 9999999999999"]);
    let claim = Claim { wanted: 1, in_use: 0 };
    assert_eq!(one.enter("r", Nonce::random(), claim, 1, LONG).await.unwrap(), 1);
    // News about buckets passes through the one that is careful.
    let (bucket, limit) = (BucketKey::new("w", "f", "read"), Limit { per_second: 9.0, start: 9.0, burst: 2 });
    one.feed(&bucket, limit, Feedback::Throttled(LONG)).await.unwrap();
    assert!(two.take(&bucket, limit, 1).await.unwrap().wait > LONG / 2);
}
