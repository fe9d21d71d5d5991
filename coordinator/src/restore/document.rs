//! A restore as a document: what would be done, for a person to read, to save, and to have carried out as it was read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::canonical_json;
use lakehold_proto::ids::{EnvName, Hash};
use lakehold_proto::restore::SnapshotRef;
use lakehold_worker::source::blueprint::Blueprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::planner::{Action, Ask, Planned};
use super::steps::Steps;

/// The schema name of a [`Document`].
pub const PLAN_SCHEMA: &str = "lakehold.restore-plan/v1";

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// `lakehold.restore-plan/v1`.
    pub schema: String,
    /// When it was made.
    pub created: Timestamp,
    /// The snapshot that is brought back.
    pub from: SnapshotRef,
    /// Where to.
    pub target: EnvName,
    /// The target as it was looked at.
    pub before: SnapshotRef,
    /// What was asked for.
    pub ask: Ask,
    /// How many items there are of each sort.
    pub summary: Summary,
    /// What it will take.
    pub estimate: Estimate,
    /// The hash over what is decided and what the target has now. A plan is carried out only while it stays the same.
    pub digest: Hash,
    /// Every item.
    pub items: Vec<Planned>,
}

/// Counts of a plan's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// To be made.
    pub create: u64,
    /// To be changed.
    pub replace: u64,
    /// To be changed, found by their names.
    pub adopt: u64,
    /// As they should be.
    pub unchanged: u64,
    /// Shared by source and target.
    pub shared: u64,
    /// Made by somebody else.
    pub left: u64,
    /// That cannot be brought back.
    pub blocked: u64,
    /// To be taken away.
    pub delete: u64,
    /// Of those that are made or changed: that will lack something.
    pub degraded: u64,
    /// That a person must do something for.
    pub by_hand: u64,
}

impl Summary {
    fn of(items: &[Planned]) -> Self {
        let mut summary = Self::default();
        for item in items {
            let count = match item.action {
                Action::Create => &mut summary.create,
                Action::Replace => &mut summary.replace,
                Action::Adopt => &mut summary.adopt,
                Action::Unchanged => &mut summary.unchanged,
                Action::Shared => &mut summary.shared,
                Action::Left => &mut summary.left,
                Action::Blocked => &mut summary.blocked,
                Action::Delete => &mut summary.delete,
            };
            *count += 1;
            summary.degraded += u64::from(item.action.comes() && !item.degraded.is_empty());
            summary.by_hand += u64::from(!item.by_hand.is_empty() || item.action == Action::Left);
        }
        summary
    }

    /// Items that are made, changed or taken away.
    pub const fn changes(&self) -> u64 {
        self.create + self.replace + self.adopt + self.delete
    }

    /// Whether some item comes back as less, or not at all.
    pub const fn is_short(&self) -> bool {
        self.degraded + self.blocked > 0
    }
}

/// What a restore will take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Calls that change something, by API family.
    pub calls: BTreeMap<String, u64>,
    /// Seconds at the rates that the API allows.
    pub seconds: f64,
}

impl Estimate {
    fn of(steps: &Steps, blueprint: &dyn Blueprint, share: f64) -> Self {
        let mut calls: BTreeMap<String, u64> = BTreeMap::new();
        let mut seconds = 0.0;
        let mut stages: BTreeMap<u16, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for ((stage, kind), acts) in steps.counts() {
            for (act, times) in acts {
                for (family, n) in blueprint.calls(kind, *act) {
                    *stages.entry(*stage).or_default().entry(family).or_default() += n * times;
                }
            }
        }
        for families in stages.values() {
            // Families go side by side within a stage; stages follow one another.
            let slowest =
                families.iter().map(|(family, n)| *n as f64 / (blueprint.rate(family) * share).max(0.01));
            seconds += slowest.fold(0.0, f64::max);
            families.iter().for_each(|(family, n)| *calls.entry((*family).to_owned()).or_default() += n);
        }
        Self { calls, seconds }
    }
}

impl Document {
    /// The document of what was decided.
    pub fn new(
        head: Head,
        ask: Ask,
        mut items: Vec<Planned>,
        steps: &Steps,
        blueprint: &dyn Blueprint,
        share: f64,
    ) -> Self {
        let Head { created, from, target, before } = head;
        items.sort_by(|a, b| (&a.kind, &a.name, &a.key).cmp(&(&b.kind, &b.name, &b.key)));
        Self {
            schema: PLAN_SCHEMA.into(),
            created,
            from,
            target,
            before,
            summary: Summary::of(&items),
            estimate: Estimate::of(steps, blueprint, share),
            digest: digest(&ask, &items),
            ask,
            items,
        }
    }

    /// Reads a saved plan.
    ///
    /// # Errors
    /// `Config` when it is none, or of another version.
    pub fn read(path: &str, text: &[u8]) -> Result<Self> {
        let wrong = |detail: String| {
            Fault::new(Class::Config, "restore.plan", format!("read {path}"), detail)
                .hint("make it with `lakehold restore … --out FILE`")
        };
        let read: Self =
            serde_json::from_slice(text).map_err(|e| wrong(format!("it is no plan of a restore: {e}")))?;
        if read.schema != PLAN_SCHEMA {
            return Err(wrong(format!("it is {}, and this program reads {PLAN_SCHEMA}", read.schema)));
        }
        if digest(&read.ask, &read.items) != read.digest {
            return Err(wrong("it was changed by hand after it was made".into()));
        }
        Ok(read)
    }
}

/// What a plan is about.
#[derive(Clone, Debug)]
pub struct Head {
    /// When it is made.
    pub created: Timestamp,
    /// The snapshot that is brought back.
    pub from: SnapshotRef,
    /// Where to.
    pub target: EnvName,
    /// The target as it was looked at.
    pub before: SnapshotRef,
}

/// Item by item: all of them as one text would be several times what they take.
fn digest(ask: &Ask, items: &[Planned]) -> Hash {
    let mut hasher = Sha256::new();
    let mut take = |part: serde_json::Value| hasher.update(canonical_json(&part));
    take(serde_json::json!(ask));
    items.iter().for_each(|item| take(serde_json::json!(item)));
    Hash::finish(hasher)
}
