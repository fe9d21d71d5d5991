//! Keys of objects, correct by construction.

use std::fmt;

use crate::fault::{Class, Fault, Result};
use crate::ids::{EnvName, Hash, Kind, Nonce, RunId, SnapshotId, TaskId};
use crate::outcome::OutcomeId;
use crate::task::Batch;

/// The key of an object: relative, of `[A-Za-z0-9/_.=-]` only, without empty, `.` or `..` segments. Names of items are
/// data and never become keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A key read from a listing or a manifest.
    ///
    /// # Errors
    /// `Integrity` when it is not one.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'.' | b'=' | b'-');
        let sound = text.bytes().all(allowed) && text.split('/').all(|s| !matches!(s, "" | "." | ".."));
        if sound {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(Class::Integrity, "store.key", "read a store key", format!("{text:?} is not one")))
    }

    /// `lakehold.json`, which makes a directory or a prefix a store.
    pub fn identity() -> Self {
        Self("lakehold.json".into())
    }

    /// `packs/<xx>/<hash>`
    pub fn pack(hash: Hash) -> Self {
        Self::hashed("packs", hash)
    }

    /// `indexes/<xx>/<hash>`
    pub fn index(hash: Hash) -> Self {
        Self::hashed("indexes", hash)
    }

    fn hashed(room: &str, hash: Hash) -> Self {
        let hex = hash.to_string();
        Self(format!("{room}/{}/{hex}", &hex[..2]))
    }

    /// `runs/<run>/plan.json`
    pub fn plan(run: RunId) -> Self {
        Self(format!("runs/{}/plan.json", run.digits()))
    }

    /// `runs/<run>/cancel`
    pub fn cancel(run: RunId) -> Self {
        Self(format!("runs/{}/cancel", run.digits()))
    }

    /// `runs/<run>/report.json`
    pub fn report(run: RunId) -> Self {
        Self(format!("runs/{}/report.json", run.digits()))
    }

    /// The prefix of all outcomes of an environment in a run; below it a folder for each batch.
    pub fn outcomes(run: RunId, environment: &EnvName) -> String {
        format!("runs/{}/outcomes/{environment}/", run.digits())
    }

    /// The prefix of the outcomes of what was sent in one batch.
    pub fn batch(run: RunId, environment: &EnvName, batch: Batch) -> String {
        format!("{}{batch}/", Self::outcomes(run, environment))
    }

    /// `runs/<run>/outcomes/<environment>/<batch>/<task>-<attempt>-<nonce>`, of an interim one with its number behind a
    /// dot: no two writers ever share one.
    pub fn outcome(run: RunId, environment: &EnvName, batch: Batch, id: OutcomeId) -> Self {
        Self(format!("{}{id}", Self::batch(run, environment, batch)))
    }

    /// The prefix of the segments of an environment in a run.
    pub fn segments(run: RunId, environment: &EnvName) -> String {
        format!("runs/{}/segments/{environment}/", run.digits())
    }

    /// `runs/<run>/segments/<environment>/<coordinator>-<number>`: outcomes that one coordinator gathered.
    pub fn segment(run: RunId, environment: &EnvName, coordinator: Nonce, number: u32) -> Self {
        Self(format!("{}{coordinator}-{number:06}", Self::segments(run, environment)))
    }

    /// `runs/<run>/started/<task>/<attempt>-<nonce>`: a long task has begun.
    pub fn started(run: RunId, task: TaskId, attempt: u32, nonce: Nonce) -> Self {
        Self(format!("{}{nonce}", Self::starts_of(run, task, attempt)))
    }

    /// The prefix of the `started` records of an attempt at a long task.
    pub fn starts_of(run: RunId, task: TaskId, attempt: u32) -> String {
        format!("{}{}/{attempt:06}-", Self::starts(run), task.digits())
    }

    /// The prefix of all `started` records of a run.
    pub fn starts(run: RunId) -> String {
        format!("runs/{}/started/", run.digits())
    }

    /// `runs/<run>/ended/<outcome>`: of an interim one, that all that a long task handed out up to there has ended; of
    /// another, that nobody waits for that delivery of it any more.
    pub fn ended(run: RunId, outcome: OutcomeId) -> Self {
        Self(format!("runs/{}/ended/{outcome}", run.digits()))
    }

    /// `runs/<run>/probes/<nonce>`: an object of zeros, written only to learn why nothing else can be.
    pub fn write_probe(run: RunId, nonce: Nonce) -> Self {
        Self(format!("runs/{}/probes/{nonce}", run.digits()))
    }

    /// `runs/<run>/listings/<hash>`: what a listing found, for the tasks that fetch it.
    pub fn listing(run: RunId, hash: Hash) -> Self {
        Self(format!("runs/{}/listings/{hash}", run.digits()))
    }

    /// `snapshots/<environment>/<time>-<id>/manifest.json`
    pub fn manifest(environment: &EnvName, time: &str, id: SnapshotId) -> Self {
        Self(format!("snapshots/{environment}/{time}-{}/manifest.json", id.digits()))
    }

    /// `restores/<environment>/<time>-<id>/manifest.json`: the record of a restore into an environment.
    pub fn restored(environment: &EnvName, time: &str, id: SnapshotId) -> Self {
        Self(format!("{}{time}-{}/manifest.json", Self::restores(environment), id.digits()))
    }

    /// The prefix of the records of all restores into an environment.
    pub fn restores(environment: &EnvName) -> String {
        format!("restores/{environment}/")
    }

    /// `verifies/<environment>/<time>-<id>/manifest.json`: the record of a verify of an environment's snapshots.
    pub fn verified(environment: &EnvName, time: &str, id: SnapshotId) -> Self {
        Self(format!("{}{time}-{}/manifest.json", Self::verifies(environment), id.digits()))
    }

    /// The prefix of the records of all verifies of an environment's snapshots.
    pub fn verifies(environment: &EnvName) -> String {
        format!("verifies/{environment}/")
    }

    /// `runs/<run>/made/<environment>/<hash>`: what an item became, by the hash of its kind and key.
    pub fn made(run: RunId, environment: &EnvName, kind: &Kind, key: &str) -> Self {
        let hash = Hash::of(format!("{}:{kind};{key}", kind.as_str().len()));
        Self(format!("runs/{}/made/{environment}/{hash}", run.digits()))
    }

    /// `drills/<environment>/<time>-<run>.json`: what a drill proved.
    pub fn drill(environment: &EnvName, time: &str, run: RunId) -> Self {
        Self(format!("{}{time}-{}.json", Self::drills(environment), run.digits()))
    }

    /// The prefix of the reports of all drills of an environment.
    pub fn drills(environment: &EnvName) -> String {
        format!("drills/{environment}/")
    }

    /// `runs/<run>/begun/<task>`: some worker began with a task of a restore.
    pub fn begun(run: RunId, task: TaskId) -> Self {
        Self(format!("runs/{}/begun/{}", run.digits(), task.digits()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_no_key() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a\0", "ä", "a\\b", "C:x"] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Key::parse("packs/ab/cd=_.-").unwrap().as_str(), "packs/ab/cd=_.-");
    }
}
