//! The manifest: a snapshot's table of contents and proof. Its creation is the commit; it is never overwritten.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::{Class, Fault, FaultRecord, Result};
use crate::format::{PageRef, newer};
use crate::ids::{EnvName, Hash, Kind, RunId, SnapshotId, TraceId};
use crate::outcome::{Figures, LeftOut, Standing};
use crate::plan::{BaseRef, Probe, Selection};
use crate::restore::Restoring;
use crate::store::Key;
use crate::verify::Verifying;

/// The schema name of a [`Manifest`].
pub const MANIFEST_SCHEMA: &str = "lakehold.manifest/v1";

/// The schema name of the record of a restore: a [`Manifest`] whose items say what they became in the environment, and whose
/// gaps are what could not be brought back.
pub const RESTORED_SCHEMA: &str = "lakehold.restored/v1";

/// The schema name of the record of a verify: a [`Manifest`] whose items are the packs that were read, and whose gaps are
/// what is hurt.
pub const VERIFIED_SCHEMA: &str = "lakehold.verified/v1";

/// Where manifests of a schema lie.
pub(crate) fn place(schema: &str) -> fn(&EnvName, &str, SnapshotId) -> Key {
    match schema {
        RESTORED_SCHEMA => Key::restored,
        VERIFIED_SCHEMA => Key::verified,
        _ => Key::manifest,
    }
}

/// A snapshot: see `FORMAT.md` for what each field promises a reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name and version of this document. A reader that does not know the number after `v` stops.
    pub schema: String,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The environment it is of.
    pub environment: EnvName,
    /// The type of environment.
    pub source: String,
    /// Its time, as in its key: `20260801T020000Z`.
    pub time: String,
    /// Whether all that should be in it is.
    pub state: SnapshotState,
    /// The hash algorithm of every hash here and below: `sha256`.
    pub hash: String,
    /// The hash over everything captured, whatever the shards and the run: see `FORMAT.md`.
    pub content_root: Hash,
    /// The snapshot it was compared with; its manifest's hash makes the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRef>,
    /// What was asked for. A narrowed selection makes a scoped snapshot.
    pub selection: Selection,
    /// Words a person put on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Who asked, and what was known of the environment.
    pub probe: Probe,
    /// Every kind of the source, accounted for.
    pub kinds: Vec<KindReport>,
    /// The pages that list all indexes, in order.
    pub pages: Vec<PageRef>,
    /// The run that made it.
    pub run: RunReport,
    /// In the record of a restore: what was brought back, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restoring>>,
    /// In the record of a verify: what was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Box<Verifying>>,
}

/// Whether a snapshot has all that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// No gaps.
    Complete,
    /// Usable; gaps are listed.
    Partial,
}

/// What became of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// The kind.
    pub kind: Kind,
    /// Where it stands as a whole.
    pub standing: Standing,
    /// How many items and what became of them.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it is not captured, or in how many slices it could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultRecord>,
    /// The permission that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// The rule that left it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Single items that were seen and left out: how many, by the rule that says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: LeftOut,
}

/// Counts of items, compared with the base snapshot by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items in the snapshot, gaps included.
    pub items: u64,
    /// Items of which something is missing.
    pub gaps: u64,
    /// Slices that could not be listed.
    #[serde(default)]
    pub unlisted: u64,
    /// Items captured in a lesser form than asked for, such as a notebook without its outputs.
    #[serde(default)]
    pub degraded: u64,
    /// Bytes of the items' bodies, before compression.
    pub bytes: u64,
    /// Items that the base snapshot does not have.
    pub new: u64,
    /// Items whose content differs from the base snapshot's.
    pub changed: u64,
    /// Items of the base snapshot that are no more. Items in slices that could not be listed are not among them.
    pub gone: u64,
}

impl Counts {
    /// Adds the counts of others.
    pub fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.gaps += other.gaps;
        self.unlisted += other.unlisted;
        self.degraded += other.degraded;
        self.bytes += other.bytes;
        self.new += other.new;
        self.changed += other.changed;
        self.gone += other.gone;
    }
}

/// The run that made a snapshot. None of it is part of the content root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The run.
    pub id: RunId,
    /// Its trace.
    pub trace: TraceId,
    /// When it was planned.
    pub planned: Timestamp,
    /// When the manifest was assembled, by the clock of the machine that did.
    pub committed: Timestamp,
    /// Tasks that the snapshot is made of.
    pub tasks: u64,
    /// The SHA-256 over the sorted keys of the outcomes it chose, each followed by a newline.
    pub outcomes: Hash,
    /// What its tasks took, all together.
    pub figures: Figures,
    /// Version of the program that committed it.
    pub program: String,
}

impl Manifest {
    /// Reads the manifest that lies at `key`, and checks that it belongs there.
    ///
    /// # Errors
    /// `Integrity` when it is damaged or was copied from elsewhere, `Unsupported` when this program does not know its
    /// version.
    pub fn parse(key: &Key, body: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Schema {
            schema: String,
        }
        let context = || format!("read {key}");
        let damaged =
            |e: &dyn std::fmt::Display| Fault::new(Class::Integrity, "manifest.damaged", context(), e);
        let found: Schema = serde_json::from_slice(body).map_err(|e| damaged(&e))?;
        if ![MANIFEST_SCHEMA, RESTORED_SCHEMA, VERIFIED_SCHEMA].contains(&found.schema.as_str()) {
            return Err(newer(context(), &found.schema, MANIFEST_SCHEMA));
        }
        let manifest: Self = serde_json::from_slice(body).map_err(|e| damaged(&e))?;
        if manifest.hash != "sha256" {
            return Err(newer(context(), &manifest.hash, "sha256"));
        }
        if manifest.key() != *key {
            return Err(damaged(&format!("it is the manifest of {}, copied here", manifest.snapshot)));
        }
        Ok(manifest)
    }

    /// Where it lies.
    pub fn key(&self) -> Key {
        place(&self.schema)(&self.environment, &self.time, self.snapshot)
    }

    /// All kinds' counts together.
    pub fn totals(&self) -> Counts {
        let mut totals = Counts::default();
        for kind in &self.kinds {
            totals.add(&kind.counts);
        }
        totals
    }

    /// Gaps of all sorts: items, slices and kinds that should be here and are not.
    pub fn gaps(&self) -> u64 {
        let totals = self.totals();
        totals.gaps + totals.unlisted
    }

    /// Whether it was narrowed by kind, path or scope: such a snapshot is never `@latest` and never a base.
    pub fn is_scoped(&self) -> bool {
        self.selection.narrows()
    }

    /// Whether it is *good*: committed without a failed kind.
    pub fn is_good(&self) -> bool {
        self.kinds.iter().all(|k| k.standing != Standing::Failed)
    }

    /// The reports by kind.
    pub fn by_kind(&self) -> BTreeMap<&Kind, &KindReport> {
        self.kinds.iter().map(|report| (&report.kind, report)).collect()
    }
}
