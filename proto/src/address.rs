//! Addresses: how a person names an environment, a snapshot, or an item in one.
//!
//! ```text
//! address  = "live:" ENV [":" item]            the environment itself
//!          | ENV ["@" when] [":" item]         a snapshot; without "@" the latest
//!          | a JSON string that holds one      as `-o name` writes what would not stay one line
//! when     = "latest" | time | id              id: 4 or more hexadecimal digits, with or without "snap-" and dashes
//! time     = 2026-08-01 | 2026-08-01T02:00Z | 2026-08-01T02:00:30+02:00 | 20260801T020000Z
//! item     = KIND ["/" which]
//! which    = NAME | NAME "#" KEY | "#" KEY     to the end of the text, whatever is in it
//! ```
//!
//! Names may contain anything, also `/ : @ #` and newlines, so nothing behind the first `/` of an item is a separator by
//! itself: what `which` means is decided by the items there are ([`Which::fits`]). `#KEY` alone always fits at most one.
//! An environment that is called `live` is addressed with an `@`: `live@latest:job`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::fault::{Class, Fault, Result};
use crate::ids::{EnvName, Kind};

/// What a person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The environment.
    pub environment: EnvName,
    /// Which state of it.
    pub state: Moment,
    /// The item or kind in it.
    pub item: Option<ItemAddress>,
}

/// Which state of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The environment itself, as it is now.
    Live,
    /// A snapshot.
    Snapshot(When),
}

/// Which snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The latest full one.
    Latest,
    /// The latest full one at or before this time.
    At(Timestamp),
    /// The one whose id begins so, also a scoped one. Lower-case digits without prefix and dashes.
    Id(String),
}

/// A kind, or items of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemAddress {
    /// The kind, as typed.
    pub kind: Kind,
    /// Which item; `None` means all of the kind.
    pub which: Option<Which>,
}

/// What stands behind the kind: a name, a name and a key, or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which(String);

/// How well an item fits a [`Which`]. Of the items that fit best one is meant; several are twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The text is the item's name.
    Name,
    /// The text is the item's name, `#` and its key.
    NameAndKey,
    /// The text is `#` and the item's key.
    Key,
}

impl Which {
    /// What was typed, to the letter.
    pub fn as_typed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The form that fits no other item of the kind.
    pub fn of_key(key: &str) -> Self {
        Self(format!("#{key}"))
    }

    /// The form that people read: it tells twins apart.
    pub fn of_twin(name: &str, key: &str) -> Self {
        Self(format!("{name}#{key}"))
    }

    /// Whether and how well an item with this name and key fits.
    pub fn fits(&self, name: &str, key: &str) -> Option<Fit> {
        let text = self.0.as_str();
        if text.strip_prefix('#') == Some(key) {
            return Some(Fit::Key);
        }
        if text.strip_prefix(name).and_then(|rest| rest.strip_prefix('#')) == Some(key) {
            return Some(Fit::NameAndKey);
        }
        (text == name).then_some(Fit::Name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('"') {
            // No environment begins so. It is the only way to type a name with a NUL.
            let read: String = serde_json::from_str(text).map_err(|e| {
                wrong(text, format!("it begins as a JSON string and is none: {e}"))
                    .hint("quote it as JSON does, inside the quotes of the shell")
            })?;
            return read
                .strip_prefix('"')
                .map_or_else(|| read.parse(), |_| Err(wrong(text, "it is quoted twice")));
        }
        if let Some(rest) = text.strip_prefix("live:") {
            let (environment, item) = match rest.split_once(':') {
                Some((environment, item)) => (environment, Some(item)),
                None => (rest, None),
            };
            return Self::new(text, environment, Moment::Live, item);
        }
        let Some(end) = text.find(['@', ':']) else {
            return Self::new(text, text, Moment::Snapshot(When::Latest), None);
        };
        let (environment, rest) = (&text[..end], &text[end + 1..]);
        if text[end..].starts_with(':') {
            return Self::new(text, environment, Moment::Snapshot(When::Latest), Some(rest));
        }
        let (when, item) = split_when(rest).ok_or_else(|| {
            wrong(text, format!("{rest:?} names no snapshot"))
                .hint("write @latest, @2026-08-01, @2026-08-01T02:00Z, or @ and the first digits of an id")
        })?;
        Self::new(text, environment, Moment::Snapshot(when), item)
    }
}

impl Address {
    fn new(text: &str, environment: &str, state: Moment, item: Option<&str>) -> Result<Self> {
        let environment = environment
            .parse()
            .map_err(|fault: Fault| wrong(text, &fault.detail).hint(fault.hint.unwrap_or_default()))?;
        let item =
            item.map(|item| item.parse().map_err(|fault: Fault| wrong(text, fault.detail))).transpose()?;
        Ok(Self { environment, state, item })
    }
}

impl FromStr for ItemAddress {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, which) = match text.split_once('/') {
            Some((kind, which)) => (kind, Some(which)),
            None => (text, None),
        };
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if kind.is_empty() || !kind.bytes().all(fits) {
            return Err(wrong(text, format!("{kind:?} is no kind"))
                .hint("write KIND or KIND/NAME, such as job/nightly"));
        }
        if which == Some("") {
            return Err(wrong(text, "it ends with a / and names no item")
                .hint(format!("write {kind} for all of them")));
        }
        Ok(Self { kind: Kind::named(kind), which: which.map(Which::as_typed) })
    }
}

/// Splits what stands behind `@` where a moment ends: the shortest beginning that is one and ends at a `:` or at the end.
/// Times contain colons; that none of them is cut there holds because a time with an hour must have minutes and a zone.
fn split_when(text: &str) -> Option<(When, Option<&str>)> {
    let ends = text.match_indices(':').map(|(at, _)| at).chain([text.len()]);
    ends.into_iter().find_map(|end| Some((read_when(&text[..end])?, text.get(end + 1..))))
}

fn read_when(text: &str) -> Option<When> {
    if text == "latest" {
        return Some(When::Latest);
    }
    if let Some(time) = read_time(text) {
        return Some(When::At(time));
    }
    let digits = text.strip_prefix("snap-").unwrap_or(text);
    // Dashes only where ids have them, or a mistyped day would be taken for one.
    let dashes = digits.match_indices('-').all(|(at, _)| matches!(at, 8 | 13 | 18 | 23));
    let digits = digits.replace('-', "").to_ascii_lowercase();
    let fits = dashes && (4..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(When::Id(digits))
}

/// A day means its end, so that the day's own snapshots are among those at or before it.
fn read_time(text: &str) -> Option<Timestamp> {
    let utc = |civil: DateTime| TimeZone::UTC.to_timestamp(civil).ok();
    let bytes = text.as_bytes();
    if bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-' {
        return utc(text.parse::<Date>().ok()?.at(23, 59, 59, 999_999_999));
    }
    if bytes.len() == 16 && bytes[8] == b'T' {
        return utc(DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?);
    }
    let zoned = text.ends_with('Z') || text.get(text.len().checked_sub(6)?..)?.starts_with(['+', '-']);
    let hour_and_minute = bytes.len() >= 17 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':';
    (zoned && hour_and_minute).then(|| text.parse().ok()).flatten()
}

fn wrong(text: &str, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Config, "address.wrong", format!("read the address {text:?}"), detail)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Moment::Live => write!(f, "live:{}", self.environment)?,
            Moment::Snapshot(when) => write!(f, "{}@{when}", self.environment)?,
        }
        match &self.item {
            Some(item) => write!(f, ":{item}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::At(time) => write!(f, "{time}"),
            Self::Id(digits) => f.write_str(digits),
        }
    }
}

impl fmt::Display for ItemAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Some(which) => write!(f, "{}/{}", self.kind, which.0),
            None => write!(f, "{}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom as _;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn read(text: &str) -> Address {
        text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    fn at(text: &str) -> Moment {
        Moment::Snapshot(When::At(text.parse().unwrap()))
    }

    #[test]
    fn the_examples_of_the_design() {
        let latest = Moment::Snapshot(When::Latest);
        assert_eq!(read("prod").state, latest);
        assert_eq!(read("prod@latest"), read("prod"));
        assert_eq!(read("prod@2026-08-01T02:00Z").state, at("2026-08-01T02:00:00Z"));
        assert_eq!(read("prod@20260801T020000Z").state, at("2026-08-01T02:00:00Z"));
        assert_eq!(read("prod@2026-08-01T04:00+02:00:job").state, at("2026-08-01T02:00:00Z"));
        assert_eq!(read("prod@2026-08-01").state, at("2026-08-01T23:59:59.999999999Z"));
        assert_eq!(read("prod@snap-0198aabb-CC").state, Moment::Snapshot(When::Id("0198aabbcc".into())));
        assert_eq!(read("live:prod").state, Moment::Live);
        let item = read("prod@latest:job/nightly-etl").item.unwrap();
        assert_eq!((item.kind.as_str(), item.which.unwrap().as_str()), ("job", "nightly-etl"));
        assert_eq!(read("prod:job").item.unwrap().which, None);
        assert_eq!(read("live@latest:job").environment.as_str(), "live");
        let path = read("prod@2026-08-01T02:00:30Z:notebook//Users/a@b.c/x: y#1").item.unwrap();
        assert_eq!(path.which.unwrap().as_str(), "/Users/a@b.c/x: y#1");
    }

    #[test]
    fn what_is_no_address_says_why() {
        for text in [
            "",
            "Prod",
            "prod@",
            "prod@yesterday",
            "prod@abc",
            "prod@2026-08-01T02:00",
            "prod@2026-08-01T02",
            "prod:",
            "prod:/x",
            "prod:Job/x",
            "prod:job/",
            "prod@latest:",
            "live:",
            "live:prod@latest",
            "@latest",
            ":job/x",
            "prod@latest@latest",
            "prod@2026-13-01",
            "prod\n",
            "\"prod",
            "\"\\\"prod\\\"\"",
        ] {
            let fault = text.parse::<Address>().unwrap_err();
            assert_eq!((fault.exit_code(), fault.code), (2, "address.wrong"), "{text:?}");
        }
    }

    #[test]
    fn any_address_reads_back_as_it_was_written() {
        let mut rng = StdRng::seed_from_u64(7);
        let pieces = [
            "a",
            "/",
            ":",
            "@",
            "#",
            " ",
            "\n",
            "latest",
            "2026-08-01T02:00Z",
            "é",
            "🦆",
            "\u{202e}",
            "\0",
            "\"",
            "job/",
            "live:",
        ];
        for _ in 0..5_000 {
            let which: String =
                (0..rng.random_range(1..8)).filter_map(|_| pieces.choose(&mut rng).copied()).collect();
            let state = match rng.random_range(0..4) {
                0 => Moment::Live,
                1 => Moment::Snapshot(When::Latest),
                2 => Moment::Snapshot(When::At(
                    Timestamp::from_second(rng.random_range(0..4_000_000_000)).unwrap(),
                )),
                _ => Moment::Snapshot(When::Id(format!("{:012x}", rng.random_range(0..1_u64 << 48)))),
            };
            let which = rng.random_bool(0.8).then(|| Which::as_typed(which));
            let item = rng.random_bool(0.9).then(|| ItemAddress { kind: Kind::of("uc_table"), which });
            let name = ["prod", "live", "0-a", "latest"].choose(&mut rng).unwrap();
            let address = Address { environment: name.parse().unwrap(), state, item };
            assert_eq!(read(&address.to_string()), address, "{address}");
            let quoted = serde_json::Value::from(address.to_string()).to_string();
            assert_eq!(read(&quoted), address, "{quoted}");
        }
    }

    #[test]
    fn every_item_has_a_form_that_fits_it_alone() {
        let parts = ["a", "b", "#", "a#b", "b#a", "#a", "", "a#b#c", "b#c", "c"];
        let items: Vec<(&str, &str)> = parts
            .iter()
            .flat_map(|name| parts.iter().filter(|k| !k.is_empty()).map(|key| (*name, *key)))
            .collect();
        for (name, key) in &items {
            let fits = |which: &Which| {
                let best = items.iter().filter_map(|(n, k)| which.fits(n, k)).max().unwrap();
                let fitting = items.iter().filter(|(n, k)| which.fits(n, k) == Some(best));
                fitting.map(|(_, k)| *k).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(fits(&Which::of_key(key)).into_iter().collect::<Vec<_>>(), [*key]);
            assert!(Which::of_twin(name, key).fits(name, key).is_some());
        }
    }
}
