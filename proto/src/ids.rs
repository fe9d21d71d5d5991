//! Names and ids, each a type of its own, so that none can be taken for another.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rand::Rng as _;
use rand::distr::{Distribution, StandardUniform};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::fault::{Class, Fault};

/// What all random ids are drawn from.
fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    #[cfg(feature = "conformance")]
    if let Some(drawn) = seeded::draw() {
        return drawn;
    }
    rand::rng().random()
}

/// Ids that are the same each time: for simulations, which must replay.
#[cfg(feature = "conformance")]
pub mod seeded {
    use std::cell::RefCell;

    use rand::distr::{Distribution, StandardUniform};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng as _};

    thread_local! {
        static DICE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    /// From now on the ids that this thread draws follow from `seed`; from `None` they are random again.
    pub fn begin(seed: Option<u64>) {
        DICE.set(seed.map(StdRng::seed_from_u64));
    }

    pub(super) fn draw<T>() -> Option<T>
    where
        StandardUniform: Distribution<T>,
    {
        DICE.with_borrow_mut(|dice| dice.as_mut().map(Rng::random))
    }
}

/// The SHA-256 of some bytes, in lower-case hexadecimal when written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Finishes a running hash.
    pub fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let mut bytes = [0; 32];
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(Fault::new(
                Class::Integrity,
                "id.hash",
                "read a hash",
                format!("{text:?} is not 64 lower-case hexadecimal digits"),
            )),
        }
    }
}

impl TryFrom<Cow<'_, str>> for Hash {
    type Error = Fault;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// The name of an environment: `[a-z0-9][a-z0-9-]{0,62}`, so that it can be part of a store key and of a DNS name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvName(String);

impl EnvName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EnvName {
    type Error = Fault;

    fn try_from(name: String) -> Result<Self, Fault> {
        let fits = (1..=63).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            return Ok(Self(name));
        }
        Err(Fault::new(
            Class::Config,
            "config.env-name",
            "read an environment's name",
            format!("{name:?} does not fit"),
        )
        .hint("use 1 to 63 of a-z, 0-9 and -, not beginning with -"))
    }
}

impl FromStr for EnvName {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self, Fault> {
        Self::try_from(name.to_owned())
    }
}

impl From<EnvName> for String {
    fn from(name: EnvName) -> Self {
        name.0
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A kind of item, such as `job` or `uc_table`. The sources' tables are the only place where kinds are made; the engine
/// carries them and never compares them with a literal.
///
/// There are some dozens of kinds, and a million tasks that name them: each name is kept once, for the life of the process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Kind(&'static str);

static KINDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Kind {
    /// The kind of a row in a source's table.
    pub const fn of(name: &'static str) -> Self {
        Self(name)
    }

    /// A kind read from a store or typed by a person; whether it exists is for the source's table to say.
    pub fn named(name: impl AsRef<str>) -> Self {
        let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kinds.get(name.as_ref()).copied().unwrap_or_else(|| {
            let kept: &'static str = name.as_ref().to_owned().leak();
            kinds.insert(kept);
            kept
        });
        Self(kept)
    }

    /// The kind as text.
    pub fn as_str(&self) -> &'static str {
        self.0
    }
}

// By hand: a derived one would ask for text that lives for ever.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer).map(Self::named)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! uuid_id {
    ($name:ident, $prefix:literal, $what:literal) => {
        #[doc = concat!("The id of a ", $what, ": a UUIDv7, printed with the prefix `", $prefix, "-`.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Cow<'_, str>", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by `now`. The rest is random, so ids made in one millisecond still differ.
            pub fn new(now: Timestamp) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
                let random: [u8; 10] = random();
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The id with all its digits and without dashes or prefix, as it stands in store keys.
            pub fn digits(&self) -> String {
                self.0.simple().to_string()
            }

            /// The first twelve digits (its millisecond): what people type and tables show.
            pub fn short(&self) -> String {
                let mut digits = self.digits();
                digits.truncate(12);
                digits
            }

            /// Whether `typed` (with or without prefix and dashes) is a prefix of this id.
            pub fn starts_with(&self, typed: &str) -> bool {
                let typed = typed.strip_prefix(concat!($prefix, "-")).unwrap_or(typed).replace('-', "");
                !typed.is_empty() && self.digits().starts_with(&typed.to_ascii_lowercase())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{}"), self.digits())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = Fault;

            fn from_str(text: &str) -> Result<Self, Fault> {
                let digits = text.strip_prefix(concat!($prefix, "-")).unwrap_or(text);
                Uuid::try_parse(digits).map(Self).map_err(|e| {
                    Fault::new(
                        Class::Integrity,
                        "id.uuid",
                        concat!("read the id of a ", $what),
                        format!("{text:?}: {e}"),
                    )
                })
            }
        }

        impl TryFrom<Cow<'_, str>> for $name {
            type Error = Fault;

            fn try_from(text: Cow<'_, str>) -> Result<Self, Fault> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

uuid_id!(RunId, "run", "run");
uuid_id!(SnapshotId, "snap", "snapshot");

impl RunId {
    /// Its random half: the id of the root span of the run's trace.
    pub fn tail(&self) -> Nonce {
        Nonce(self.0.as_u64_pair().1)
    }

    /// The id of the run that a schedule wants of `environment` for `due`: the same whoever works it out, so that of
    /// several that begin it at once all but one find its plan in the store. Spread over a minute, so that the short ids of
    /// environments that are due together differ.
    pub fn scheduled(environment: &EnvName, due: Timestamp) -> Self {
        let seed = Hash::of(format!("scheduled\n{environment}\n{due}"));
        let [a, b, rest @ ..] = *seed.bytes();
        let millis =
            u64::try_from(due.as_millisecond()).unwrap_or(0) + u64::from(u16::from_be_bytes([a, b]) % 60_000);
        let mut random = [0; 10];
        random.copy_from_slice(&rest[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

/// The id of a task: the first 16 bytes of the SHA-256 of what the task is. Whoever makes the same task makes the same
/// id, so no subtree of a run can be doubled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct TaskId([u8; 16]);

impl TaskId {
    /// The id of the task whose canonical description is `canonical` (see [`crate::task::Task::id`]).
    pub fn of(canonical: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Hash::of(canonical).bytes()[..16]);
        Self(id)
    }

    /// The first half of the id, as a number.
    pub fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// The id without its prefix, as it stands in store keys.
    pub fn digits(&self) -> String {
        hex::encode(self.0)
    }

    /// The name of the lock that whoever works on the task holds.
    pub fn lock(&self) -> String {
        format!("task/{self}")
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task-{}", self.digits())
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<Cow<'_, str>> for TaskId {
    type Error = Fault;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Fault> {
        let mut id = [0; 16];
        match hex::decode_to_slice(text.strip_prefix("task-").unwrap_or(&text), &mut id) {
            Ok(()) => Ok(Self(id)),
            Err(e) => Err(Fault::new(
                Class::Integrity,
                "id.task",
                "read the id of a task",
                format!("{text:?}: {e}"),
            )),
        }
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.to_string()
    }
}

/// Which of possibly several deliveries of one attempt wrote something: random, and different for each delivery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct Nonce(u64);

impl Nonce {
    /// A nonce nobody else has.
    pub fn random() -> Self {
        Self(random())
    }

    /// The nonce with this number: for simulations, which must replay.
    pub const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<Cow<'_, str>> for Nonce {
    type Error = Fault;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Fault> {
        u64::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|e| Fault::new(Class::Integrity, "id.nonce", "read a nonce", format!("{text:?}: {e}")))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.to_string()
    }
}

/// The id of a run's trace, as W3C Trace Context writes it: 32 hexadecimal digits, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct TraceId(u128);

impl TraceId {
    /// A trace id nobody else has.
    pub fn random() -> Self {
        Self(random::<u128>().max(1))
    }

    /// The trace of a task that has one of its own: all its attempts are in it.
    pub fn of_task(task: TaskId) -> Self {
        Self(u128::from_be_bytes(task.0).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<Cow<'_, str>> for TraceId {
    type Error = Fault;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Fault> {
        u128::from_str_radix(&text, 16).map(Self).map_err(|e| {
            Fault::new(Class::Integrity, "id.trace", "read a trace id", format!("{text:?}: {e}"))
        })
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_names_are_narrow() {
        for good in ["prod", "a", "0-9", &"x".repeat(63)] {
            assert!(good.parse::<EnvName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "Prod", "a_b", "a/b", "..", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<EnvName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_print_with_their_prefix_and_read_back() {
        let run = RunId::new(Timestamp::from_millisecond(1_754_013_600_000).unwrap());
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        assert!(
            run.starts_with(&run.short()) && run.starts_with(&run.to_string()[..9]) && !run.starts_with("")
        );
        let json = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), run);
    }

    #[test]
    fn a_scheduled_run_has_one_id_for_each_environment_and_time() {
        let (a, b): (EnvName, EnvName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(RunId::scheduled(&a, at(1_754_013_600)), RunId::scheduled(&a, at(1_754_013_600)));
        assert_ne!(RunId::scheduled(&a, at(1_754_013_600)), RunId::scheduled(&b, at(1_754_013_600)));
        assert!(RunId::scheduled(&a, at(1_754_013_600)) < RunId::scheduled(&a, at(1_754_013_660)));
    }

    #[test]
    fn hashes_are_lower_case_hexadecimal() {
        let hash = Hash::of("");
        assert_eq!(hash.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(hash.to_string().to_uppercase().parse::<Hash>().is_err());
        assert!("e3b0".parse::<Hash>().is_err());
    }
}
