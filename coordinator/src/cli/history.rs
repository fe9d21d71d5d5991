//! `lakehold history`: every version of one item, and what changed in each.

use clap::Args;
use lakehold_proto::address::{Address, ItemAddress, Moment, When};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, SnapshotId};
use serde::Serialize;

use super::diff::field_line;
use super::{Context, exit};
use crate::diff::{FieldChange, What, diff};
use crate::output::{Format, document, name_line, print, say, shown};
use crate::snapshot::items::find_item;
use crate::snapshot::{list, read_manifest};

const EXAMPLES: &str = "\
Examples:
  lakehold history prod job/nightly-etl
  lakehold history prod 'notebook//Users/ada@example.com/etl' -o json
  lakehold show prod@2026-08-01:job/nightly-etl          the item itself, as it was then";

/// Fields that are told of one version.
const FIELDS: usize = 12;

/// What may be typed behind `history`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HistoryArgs {
    /// The environment
    pub environment: EnvName,
    /// The item: KIND/NAME, KIND/NAME#KEY or KIND/#KEY
    pub item: ItemAddress,
}

/// One version of an item.
#[derive(Clone, Debug, Serialize)]
struct Version {
    snapshot: SnapshotId,
    time: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldChange>,
}

#[derive(Serialize)]
struct History {
    schema: &'static str,
    environment: EnvName,
    item: String,
    snapshots: u64,
    versions: Vec<Version>,
}

pub(super) async fn run(args: &HistoryArgs, context: &Context) -> Result<u8> {
    context.with_snapshots(std::slice::from_ref(&args.environment)).await?;
    let store = &context.store;
    let mut history = History {
        schema: "lakehold.history/v1",
        environment: args.environment.clone(),
        item: args.item.to_string(),
        snapshots: 0,
        versions: Vec::new(),
    };
    let mut before: Option<(lakehold_proto::manifest::Manifest, crate::snapshot::items::Item)> = None;
    let mut last_fault = None;
    for listed in list(&**store, &args.environment).await? {
        let (manifest, _) =
            match read_manifest(&**store, &args.environment, &listed.time, listed.snapshot).await {
                Ok(read) => read,
                Err(fault) if fault.class == Class::Integrity => {
                    say(&format!("warning: {fault}; passed over"));
                    continue;
                }
                Err(fault) => return Err(fault),
            };
        // One that did not look for the kind, or not everywhere, says nothing of what it does not have.
        let complete = !manifest.is_scoped();
        history.snapshots += 1;
        let version = |change, item: Option<&crate::snapshot::items::Item>, fields| Version {
            snapshot: manifest.snapshot,
            time: manifest.time.clone(),
            change,
            name: item.map(|item| item.entry.name.clone()),
            key: item.map(|item| item.entry.key.clone()),
            fields,
        };
        match (find_item(&**store, &manifest, &args.item).await, before.take()) {
            (Ok(item), None) => {
                history.versions.push(version("added", Some(&item), Vec::new()));
                before = Some((manifest, item));
            }
            (Ok(item), Some((earlier, was))) => {
                let same = item.entry.content == was.entry.content && item.entry.name == was.entry.name;
                if !same {
                    let found =
                        diff(store, &earlier, &manifest, std::slice::from_ref(&args.item.kind)).await?;
                    let change = found.changes.into_iter().find(|change| change.key == item.entry.key);
                    let known = change.as_ref().is_some_and(|change| change.change.is_difference());
                    if known {
                        let word = match change.as_ref().map(|change| change.change) {
                            Some(What::Renamed) => "renamed",
                            Some(What::Recreated) => "recreated",
                            _ => "changed",
                        };
                        let fields = change.map(|change| change.fields).unwrap_or_default();
                        history.versions.push(version(word, Some(&item), fields));
                    }
                }
                before = Some((manifest, item));
            }
            (Err(fault), was) if fault.code == "item.absent" => {
                if was.is_some() && complete {
                    history.versions.push(version("removed", None, Vec::new()));
                } else {
                    before = was;
                }
                last_fault = Some(fault);
            }
            (Err(fault), _) => return Err(fault),
        }
    }
    if history.versions.is_empty() {
        return Err(last_fault.unwrap_or_else(|| {
            let detail = format!("{} has no snapshot", args.environment);
            Fault::new(Class::Absent, "snapshot.absent", "tell the history of an item", detail)
        }));
    }
    match context.output {
        Format::Table => print(&text(&history))?,
        Format::Name => {
            for version in history.versions.iter().filter(|version| version.key.is_some()) {
                let address = Address {
                    environment: history.environment.clone(),
                    state: Moment::Snapshot(When::Id(version.snapshot.digits())),
                    item: Some(args.item.clone()),
                };
                print(&format!("{}\n", name_line(&address.to_string())))?;
            }
        }
        format => document(format, &history)?,
    }
    Ok(exit::COMPLETE)
}

fn text(history: &History) -> String {
    let mut text =
        format!("{}:{}  in {} snapshots\n", history.environment, shown(&history.item), history.snapshots);
    for version in &history.versions {
        let name = version.name.as_ref().filter(|_| version.change == "renamed");
        let to = name.map_or_else(String::new, |name| format!(" to {}", shown(name)));
        text += &format!("  {}  {}  {}{to}\n", version.time, version.snapshot.short(), version.change);
        for field in version.fields.iter().take(FIELDS) {
            text += &format!("      {}\n", field_line(field));
        }
        if version.fields.len() > FIELDS {
            text += &format!("      … and {} more\n", version.fields.len() - FIELDS);
        }
    }
    text
}
