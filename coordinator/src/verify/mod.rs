//! Verify: reads snapshots and checks every hash there is.
//!
//! Three rounds. **Tables of contents**: manifests, the chain to their bases, pages, indexes, that each entry agrees with
//! itself, and the content root. **Packs**: each is read once, whole, and in the same pass its own hash and the hash of
//! every frame are checked; several at a time. Bodies of several frames are then read once more as a whole. **Blame**, only
//! if something is hurt: which items lie there, and which snapshots hold them.
//!
//! **Memory** does not grow with the snapshot: frames are gathered in passes over the indexes, each holding the frames of
//! one range of pack hashes. **Errors**: damage is a finding, not an error; an error is that the store could not be read.

mod blame;
mod contents;
mod packs;
mod stray;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Hash, Kind, SnapshotId};
use lakehold_proto::store::SharedStore;
use serde::Serialize;

use crate::snapshot::ListedSnapshot;
use contents::Contents;

/// The schema name of [`Verified`].
pub const VERIFY_SCHEMA: &str = "lakehold.verify/v1";

/// What to verify.
#[derive(Clone, Debug)]
pub struct Request {
    /// These snapshots.
    pub snapshots: Vec<(EnvName, ListedSnapshot)>,
    /// How much of the packs to read, above 0 up to 100; 0 checks only that they are there.
    pub percent: f64,
    /// Also say what in the store no snapshot refers to. Only sensible when `snapshots` are all there are.
    pub whole_store: bool,
}

/// How far it is: for progress displays.
#[derive(Debug, Default)]
pub struct Meter {
    /// Packs to be read, as far as known.
    pub packs: AtomicU64,
    /// Packs read.
    pub packs_read: AtomicU64,
    /// Bytes read.
    pub bytes_read: AtomicU64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// `lakehold.verify/v1`.
    pub schema: &'static str,
    /// Whether all is sound.
    pub sound: bool,
    /// The snapshots that were looked at.
    pub snapshots: Vec<Verdict>,
    /// Packs read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Frames opened.
    pub frames: u64,
    /// Objects that are hurt.
    pub damage: Vec<Damage>,
    /// Items that are hurt, the first ten thousand of them.
    pub items: Vec<HurtItem>,
    /// How many items are hurt.
    pub items_hurt: u64,
    /// What is no damage, and should be known.
    pub notes: Vec<String>,
}

/// What was found of one snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its environment.
    pub environment: EnvName,
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// The hash of its manifest, to be kept elsewhere: nothing in the store can prove the newest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<Hash>,
    /// Items in it.
    pub items: u64,
    /// Whether all of it that was looked at is sound.
    pub sound: bool,
}

/// An object that is hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The key of the object.
    pub object: String,
    /// The stable name of what is wrong.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

impl Damage {
    fn of(object: impl std::fmt::Display, fault: &Fault) -> Self {
        Self { object: object.to_string(), code: fault.code.to_owned(), detail: fault.detail.clone() }
    }
}

/// An item that is hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HurtItem {
    /// Its environment.
    pub environment: EnvName,
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Which sides of it.
    pub parts: Vec<&'static str>,
    /// The snapshots that hold these bytes.
    pub snapshots: Vec<SnapshotId>,
}

/// What is hurt, by hash: what blame looks for.
#[derive(Debug, Default)]
struct Hurt {
    /// Packs that are absent or cannot be read at all.
    packs: HashSet<Hash>,
    /// Frames: their pack and offset.
    frames: HashSet<(Hash, u64)>,
    /// Bodies of several frames that are together not what they should be.
    bodies: HashSet<Hash>,
}

/// Verifies. See the module.
///
/// # Errors
/// Those of the store that say nothing about its content: unreachable, denied.
pub async fn verify(store: &SharedStore, request: &Request, meter: &Meter) -> Result<Verified> {
    let mut contents = Contents::default();
    for (environment, listed) in &request.snapshots {
        contents.read(store, environment, listed).await?;
    }
    if request.whole_store {
        contents.read_records(store).await?;
    }
    let mut found = packs::check(store, &contents, request.percent, meter).await?;
    found.damage.splice(0..0, contents.damage.iter().cloned());
    let blamed = blame::blame(store, &contents, &found.hurt).await?;
    let mut notes = contents.notes.clone();
    notes.extend(found.notes);
    if request.whole_store {
        notes.extend(stray::notes(store, &contents).await?);
    }
    let snapshots = contents.verdicts(&blamed.snapshots);
    Ok(Verified {
        schema: VERIFY_SCHEMA,
        sound: found.damage.is_empty(),
        snapshots,
        packs_read: found.packs,
        bytes_read: found.bytes,
        frames: found.frames,
        damage: found.damage,
        items: blamed.items,
        items_hurt: blamed.total,
        notes,
    })
}

/// Takes damage as a finding; everything else stays an error.
fn finding<T>(result: Result<T>) -> Result<Result<T, Fault>> {
    match result {
        Err(fault) if matches!(fault.class, Class::Integrity | Class::Unsupported) => Ok(Err(fault)),
        Err(fault) => Err(fault),
        Ok(value) => Ok(Ok(value)),
    }
}

/// Counts by a text, for notes that would else repeat.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, text: impl Into<String>) {
        *self.0.entry(text.into()).or_default() += 1;
    }

    fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(text, n)| if n == 1 { text } else { format!("{text} ({n} times)") })
    }
}
