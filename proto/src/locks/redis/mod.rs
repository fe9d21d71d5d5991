//! Locks and the rate budget of a whole fleet, in Redis: [`RedisLocks`], and around it [`CarefulLocks`], which goes on by
//! itself while Redis cannot be reached.
//!
//! **What may be lost**: everything. Redis can be killed, wiped, filled, failed over to a replica that lags, or restored from
//! an old dump; then a lock may have two holders for a while, and a bucket begins again. No safety rests on either.
//!
//! **Time** is the server's, so the clocks of workers do not matter; one that is set back passes no time (see the scripts).
//! **Every call is one atomic script**, and no call takes more than a second. **A bucket** that the server has not seen is
//! taken for one that was empty when the server's memory began, and has filled since: a server that came back empty so
//! gives the rate and no burst on top of what was used before, and one that has been there for a while gives the burst
//! that is due to a bucket nobody has used.
//!
//! # Addresses
//!
//! | form | |
//! |---|---|
//! | `rediss://[user[:password]@]host[:port][/db]` | one server, by TLS |
//! | `redis://…` | in the clear: to loopback only, unless [`RedisConfig::insecure`] |
//! | `unix:///path[?db=N&user=…&pass=…]` | a socket of this machine |
//! | `rediss+sentinel://[user[:password]@]host[:port][,host2[:port]…]/master[/db]` | the primary that Sentinels name; user and password are the servers' |
//! | `redis+sentinel://…` | the same in the clear |
//!
//! The parameters `sentinel-username` and `sentinel-password` are for Sentinels that want some. With TLS, Sentinels must name
//! the servers as their certificates do (`sentinel announce-hostnames`, `resolve-hostnames`). Redis Cluster is not
//! supported: what is kept fits into one small server many times over.
//!
//! # What Redis needs
//!
//! Redis 6.2 or later, or Valkey (tested with 7.0; others read). Neither persistence nor replicas are needed. Memory is a few
//! megabytes; `maxmemory-policy noeviction`, since an evicted bucket begins again. With replicas,
//! `min-replicas-to-write 1` keeps a primary that was cut off from giving a second budget. An ACL user needs no more
//! than `ACL SETUSER lakehold on >PASSWORD` and [`RIGHTS`].
//!
//! # Keys
//!
//! All begin with `lakehold:{prefix}:`, so that two installations may share a server: `lock:`, `room:` and `rate:` with
//! the name, `fleet`, `emptied`, `rejoin` and `probe`. All but `emptied` expire by themselves.

mod address;
pub mod careful;
mod connect;
mod faults;
mod fleet;
mod link;
mod modest;
mod scripts;

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use redis::ScriptInvocation;

pub use careful::CarefulLocks;
pub use fleet::Census;

use self::address::Address;
use self::careful::{Answer, Shared};
use self::connect::Connector;
use self::link::{Link, Twice};
use self::scripts::Scripts;
use super::{BucketKey, Claim, Feedback, Grant, Limit, Locks};
use crate::clock::SharedClock;
use crate::fault::{Class, Fault, Result};
use crate::ids::Nonce;
use crate::secret::Secret;

/// The least rights of an ACL user. `select` is for a database other than 0 alone; before Redis 7 it is `+script` in place
/// of `+script|load`. On Sentinels, `+sentinel|get-master-addr-by-name` is all.
pub const RIGHTS: &str = "resetchannels ~lakehold:* -@all +evalsha +script|load +select +time +get +set +del \
    +hget +hmget +hset +hdel +hgetall +pexpire +pttl";

/// The longest pause that is written down: a `Retry-After` beyond it is a mistake.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Where Redis is, and how to come to it.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The address, with user and password; see the module for its forms.
    pub url: Secret,
    /// What keeps two installations on one server apart: the id of the store. Not empty, and without braces.
    pub prefix: String,
    /// Whether an address in the clear may lead over a network.
    pub insecure: bool,
    /// What `rediss` trusts and shows; `None` trusts what this machine trusts.
    pub tls: Option<RedisTls>,
}

/// Certificates, as PEM.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// The authorities to trust, in place of those this machine trusts.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate, with those above it, and its key.
    pub identity: Option<(Vec<u8>, Secret)>,
}

impl RedisConfig {
    /// Redis at `url`, for the installation `prefix`.
    pub fn new(url: Secret, prefix: impl Into<String>) -> Self {
        Self { url, prefix: prefix.into(), insecure: false, tls: None }
    }
}

/// [`Locks`] in Redis. Whatever keeps a call from being carried out is a fault, nearly always `Unavailable`; the table of
/// codes is in `faults.rs`. Wants a tokio runtime, in which it keeps its connection up until it is dropped.
#[derive(Debug)]
pub struct RedisLocks {
    link: Link,
    scripts: Scripts,
    keys: Keys,
}

impl RedisLocks {
    /// Checks `config` and begins to connect in the background: calls wait for the first attempt, and no longer than a second.
    ///
    /// # Errors
    /// `Config`: the address or a certificate cannot be used.
    pub fn open(config: &RedisConfig, clock: SharedClock) -> Result<Self> {
        let keys = Keys::new(&config.prefix)?;
        let address = Address::read(config)?;
        let connector = Connector { address, clock, probe: keys.one("probe"), first: AtomicUsize::new(0) };
        Ok(Self { link: Link::open(connector), scripts: Scripts::new(), keys })
    }

    /// Opens it, and waits until Redis has answered.
    ///
    /// # Errors
    /// As [`RedisLocks::open`], and what keeps Redis from being used now: `Denied`, `Unavailable`, or `Config` when its
    /// certificate is not trusted.
    pub async fn connect(config: &RedisConfig, clock: SharedClock) -> Result<Self> {
        let locks = Self::open(config, clock)?;
        locks.ready().await?;
        Ok(locks)
    }

    /// Waits until Redis has answered, at most about three seconds.
    ///
    /// # Errors
    /// What keeps it from being used now.
    pub async fn ready(&self) -> Result<()> {
        self.link.ready().await
    }

    async fn lock(
        &self,
        context: &'static str,
        verb: &str,
        name: &str,
        token: &str,
        ttl: u64,
    ) -> Result<bool> {
        let mut script = self.scripts.lock.prepare_invoke();
        script.key(self.keys.of("lock", name)).arg(verb).arg(token).arg(ttl);
        self.link.call(context, Twice::Harmless, &script).await
    }

    fn bucket(&self, key: &BucketKey, limit: Limit, verb: &str, figure: u64) -> ScriptInvocation<'_> {
        let mut script = self.scripts.bucket.prepare_invoke();
        script.key(self.keys.of("rate", key.as_str())).key(self.keys.one("emptied"));
        script.arg(verb).arg(limit.per_second.to_string()).arg(limit.start.to_string());
        script.arg(limit.burst.max(1)).arg(figure);
        script
    }

    /// [`Shared::ask`] at `now` by the bucket's own time, in place of the server's: for the test that compares the script
    /// with [`super::Bucket`].
    ///
    /// # Errors
    /// As [`Locks::take`].
    #[cfg(feature = "conformance")]
    pub async fn ask_at(&self, key: &BucketKey, limit: Limit, wanted: u32, now: Duration) -> Result<Answer> {
        let mut script = self.bucket(key, limit, "take", u64::from(wanted));
        script.arg(micros(now));
        self.asked(&script).await
    }

    /// [`Locks::feed`] at `now`, as in [`RedisLocks::ask_at`]. Answers the rate.
    ///
    /// # Errors
    /// As [`Locks::feed`].
    #[cfg(feature = "conformance")]
    pub async fn feed_at(
        &self,
        key: &BucketKey,
        limit: Limit,
        feedback: Feedback,
        now: Duration,
    ) -> Result<f64> {
        let (verb, figure) = told(feedback);
        let mut script = self.bucket(key, limit, verb, figure);
        script.arg(micros(now));
        Ok(self.asked(&script).await?.rate)
    }

    async fn asked(&self, script: &ScriptInvocation<'_>) -> Result<Answer> {
        let (permits, wait, pause, rate): (u32, f64, f64, f64) =
            self.link.call("take permits", Twice::Harmless, script).await?;
        let paused = pause > 0.0;
        let wait = match permits {
            // The server writes numbers that are whole and positive; the cast is exact.
            0 if paused => Duration::from_micros(pause as u64),
            0 => Duration::try_from_secs_f64(wait).unwrap_or_default().max(Duration::from_millis(1)),
            _ => Duration::ZERO,
        };
        Ok(Answer { grant: Grant { permits, wait }, rate, paused })
    }
}

#[async_trait]
impl Locks for RedisLocks {
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool> {
        self.lock("take a lock", "acquire", name, &token.to_string(), millis(ttl)).await
    }

    async fn release(&self, name: &str, token: Nonce) -> Result<()> {
        self.lock("release a lock", "release", name, &token.to_string(), 0).await.map(|_| ())
    }

    async fn held(&self, name: &str) -> Result<bool> {
        self.lock("look at a lock", "held", name, "", 0).await
    }

    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32> {
        let mut script = self.scripts.room.prepare_invoke();
        script.key(self.keys.of("room", room)).arg(token.to_string()).arg(claim.wanted).arg(claim.in_use);
        script.arg(places).arg(millis(ttl));
        self.link.call("take places", Twice::Harmless, &script).await
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        Ok(self.ask(key, limit, wanted).await?.grant)
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        let (verb, figure) = told(feedback);
        // Permits that came back twice would be permits nobody gave.
        let twice = if verb == "unused" { Twice::Harmful } else { Twice::Harmless };
        let script = self.bucket(key, limit, verb, figure);
        self.link.call::<redis::Value>("tell what became of calls", twice, &script).await.map(|_| ())
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        let any = Limit { per_second: 1.0, start: 1.0, burst: 1 };
        let script = self.bucket(key, any, "rate", 0);
        self.link.call("look at a rate", Twice::Harmless, &script).await
    }
}

#[async_trait]
impl Shared for RedisLocks {
    fn reachable(&self) -> bool {
        self.link.is_up()
    }

    async fn rejoin(&self) -> Result<Duration> {
        let mut script = self.scripts.rejoin.prepare_invoke();
        script.key(self.keys.one("rejoin")).key(self.keys.one("emptied")).arg(millis(link::NOTICE));
        self.link
            .call("go back to the shared budget", Twice::Harmless, &script)
            .await
            .map(Duration::from_millis)
    }

    async fn ask(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Answer> {
        self.asked(&self.bucket(key, limit, "take", u64::from(wanted))).await
    }

    async fn announce(&self, worker: &str, slots: u32) -> Result<Census> {
        self.fleet("announce a worker", "announce", worker, slots).await
    }

    async fn withdraw(&self, worker: &str) -> Result<()> {
        self.fleet("withdraw a worker", "withdraw", worker, 0).await.map(|_| ())
    }

    async fn workers(&self) -> Result<Census> {
        self.fleet("count the workers", "count", "", 0).await
    }
}

/// The names under which things lie.
#[derive(Debug)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn new(prefix: &str) -> Result<Self> {
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            let detail = format!("{prefix:?} is empty or has braces");
            return Err(Fault::new(Class::Config, "locks.prefix", "name the installation in Redis", detail));
        }
        // The braces keep all keys in one slot, for proxies that spread keys over servers.
        Ok(Self { prefix: format!("lakehold:{{{prefix}}}:") })
    }

    fn one(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    fn of(&self, what: &str, name: &str) -> String {
        format!("{}{what}:{name}", self.prefix)
    }
}

/// What the script calls it, and the number that belongs to it.
fn told(feedback: Feedback) -> (&'static str, u64) {
    match feedback {
        Feedback::Fine(count) => ("fine", u64::from(count)),
        Feedback::Throttled(pause) => ("throttled", micros(pause.min(LONGEST_PAUSE))),
        Feedback::Unused(count) => ("unused", u64::from(count)),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// At least one: Redis knows no time that is over at once.
fn millis(duration: Duration) -> u64 {
    // A thousand years; Redis adds it to the time of day.
    const LONGEST: u128 = 31_557_600_000_000;
    u64::try_from(duration.as_millis().clamp(1, LONGEST)).unwrap_or(1)
}
