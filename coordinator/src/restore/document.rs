//! A restore as a document: what would be done, for a person to read, to save, and to have carried out as it was read.

use std::collections::BTreeMap;
use std::io::Read;

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::canonical_json;
use lakehold_proto::ids::{EnvName, Hash};
use lakehold_proto::restore::SnapshotRef;
use lakehold_worker::source::blueprint::Blueprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::decisions::{Action, Deciding, Items, Planned};
use super::planner::Ask;
use super::steps::Steps;

/// The schema name of a [`Document`].
pub const PLAN_SCHEMA: &str = "lakehold.restore-plan/v1";

/// What a restore would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    pub items: Items,
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
    fn count(&mut self, item: &Planned) {
        let count = match item.action {
            Action::Create => &mut self.create,
            Action::Replace => &mut self.replace,
            Action::Adopt => &mut self.adopt,
            Action::Unchanged => &mut self.unchanged,
            Action::Shared => &mut self.shared,
            Action::Left => &mut self.left,
            Action::Blocked => &mut self.blocked,
            Action::Delete => &mut self.delete,
        };
        *count += 1;
        self.degraded += u64::from(item.action.comes() && !item.degraded.is_empty());
        self.by_hand += u64::from(!item.by_hand.is_empty() || item.action == Action::Left);
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
    ///
    /// # Errors
    /// `Unavailable` when there is no room for temporary files.
    pub fn new(
        head: Head,
        ask: Ask,
        decided: Deciding,
        steps: &Steps,
        blueprint: &dyn Blueprint,
        share: f64,
    ) -> Result<Self> {
        let Head { created, from, target, before } = head;
        let items = decided.sorted()?;
        let (summary, digest) = summed_up(&ask, &items)?;
        Ok(Self {
            schema: PLAN_SCHEMA.into(),
            created,
            from,
            target,
            before,
            summary,
            estimate: Estimate::of(steps, blueprint, share),
            digest,
            ask,
            items,
        })
    }

    /// Reads a saved plan.
    ///
    /// # Errors
    /// `Config` when it is none, or of another version.
    pub fn read(path: &str, saved: impl Read) -> Result<Self> {
        let wrong = |detail: String| {
            Fault::new(Class::Config, "restore.plan", format!("read {path}"), detail)
                .hint("make it with `lakehold restore … --out FILE`")
        };
        let read: Self =
            serde_json::from_reader(saved).map_err(|e| wrong(format!("it is no plan of a restore: {e}")))?;
        if read.schema != PLAN_SCHEMA {
            return Err(wrong(format!("it is {}, and this program reads {PLAN_SCHEMA}", read.schema)));
        }
        if summed_up(&read.ask, &read.items)?.1 != read.digest {
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

/// Counts what is decided, and hashes it, item by item.
fn summed_up(ask: &Ask, items: &Items) -> Result<(Summary, Hash)> {
    let (mut summary, mut hasher) = (Summary::default(), Sha256::new());
    hasher.update(canonical_json(&serde_json::json!(ask)));
    for item in items.iter() {
        let item = item?;
        summary.count(&item);
        hasher.update(canonical_json(&serde_json::json!(item)));
    }
    Ok((summary, Hash::finish(hasher)))
}

#[cfg(test)]
mod tests {
    use lakehold_proto::format::{Entry, Role};
    use lakehold_proto::ids::{Kind, SnapshotId};
    use lakehold_worker::configured::blueprint;
    use serde_json::json;

    use super::super::decisions::Decisions;
    use super::*;
    use crate::diff::FieldChange;

    fn planned(name: &str, key: &str, action: Action) -> Planned {
        let (item, kind) = (Entry::new(key, name), Kind::named("job"));
        let changes = vec![
            FieldChange { part: Role::Object, path: "a".into(), from: Some(json!(null)), to: None },
            FieldChange {
                part: Role::Object,
                path: "b".into(),
                from: None,
                to: Some(json!([0.1, {"c": null}])),
            },
        ];
        Planned { changes, ..Planned::new(&item, &kind, Some(&item), action) }
    }

    fn document(items: &[Planned]) -> Document {
        let at: Timestamp = "2026-08-01T00:00:00Z".parse().unwrap();
        let from = SnapshotRef {
            environment: "prod".parse().unwrap(),
            snapshot: SnapshotId::new(at),
            time: "20260801T000000Z".into(),
            manifest: Hash::of(""),
        };
        let head = Head { created: at, target: "dr".parse().unwrap(), before: from.clone(), from };
        let mut decisions = Decisions::new().unwrap();
        items.iter().for_each(|item| decisions.items.push(item).unwrap());
        let blueprint = blueprint("databricks").unwrap();
        Document::new(head, Ask::default(), decisions.items, &decisions.steps, blueprint, 1.0).unwrap()
    }

    #[test]
    fn a_saved_plan_is_read_as_it_was_made_and_not_when_it_was_changed() {
        let items: Vec<_> = (0..5000)
            .rev()
            .map(|n| planned(&format!("{n:05}"), &n.to_string(), [Action::Create, Action::Left][n % 2]))
            .collect();
        let made = document(&items);
        assert_eq!((made.summary.create, made.summary.left, made.summary.by_hand), (2500, 2500, 2500));
        let text = serde_json::to_string(&made).unwrap();
        let read = Document::read("plan.json", text.as_bytes()).unwrap();
        assert_eq!(read.digest, made.digest);
        let read: Vec<_> = read.items.iter().collect::<Result<_>>().unwrap();
        assert!(read.iter().eq(items.iter().rev()), "sorted by name");
        let changed = text.replacen("\"action\":\"create\"", "\"action\":\"delete\"", 1);
        let fault = Document::read("plan.json", changed.as_bytes()).unwrap_err();
        assert!(fault.code == "restore.plan" && fault.detail.contains("changed by hand"), "{fault}");
    }

    #[test]
    fn the_hash_of_a_plan_is_over_all_items_in_their_order_and_nothing_else() {
        let (one, two) = (planned("a", "1", Action::Create), planned("b", "2", Action::Delete));
        let mut hasher = Sha256::new();
        for part in [json!(Ask::default()), json!(one), json!(two)] {
            hasher.update(canonical_json(&part));
        }
        assert_eq!(document(&[two, one]).digest, Hash::finish(hasher));
        assert_ne!(document(&[]).digest, document(&[planned("a", "1", Action::Left)]).digest);
    }
}
