//! `lakehold diff`.

use clap::Args;
use std::path::PathBuf;

use lakehold_proto::address::{Address, Moment};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::outcome::Standing;
use lakehold_proto::plan::Selection;
use lakehold_proto::store::identity;
use serde_json::Value;

use super::attend::attend;
use super::restore::read_mapping_of;
use super::{Context, exit};
use crate::diff::{Change, Diff, FieldChange, PartUnknown, What, diff};
use crate::output::{Format, document, escaped, name_line, print, shown};
use crate::restore::Restore;
use crate::restore::compare::{across, is_across};
use crate::snapshot::find::Found;
use crate::snapshot::read_at;

const EXAMPLES: &str = "\
Examples:
  lakehold diff prod@2026-08-01 prod
  lakehold diff prod live:prod                            what changed since the last backup
  lakehold diff prod dr --map map.yaml                    across workspaces: paired by name, without the servers' own
  lakehold diff prod@0198c1e2 prod@latest --kind job -o json
  lakehold diff prod@2026-08-01 prod --exit-code && echo nothing changed";

/// Fields that are told of one item; the rest is counted, unless the item was named.
const FIELDS: usize = 12;

/// Signs of a value that are told.
const WIDTH: usize = 60;

/// What may be typed behind `diff`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// The snapshot that was: ENV@WHEN, also with :KIND or :KIND/NAME
    pub from: Address,
    /// The snapshot that is; `live:ENV` for the environment itself, as it is now
    pub to: Address,
    /// Only this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// What is called otherwise in the second environment, where it is another one (YAML)
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// End with exit code 8 when anything differs; what nobody can know is told, and is no difference
    #[arg(long)]
    pub exit_code: bool,
}

pub(super) async fn run(args: &DiffArgs, context: &Context) -> Result<u8> {
    let (from, to) = (snapshot(&args.from, context).await?, snapshot(&args.to, context).await?);
    let items: Vec<_> =
        [&args.from, &args.to].into_iter().filter_map(|address| address.item.as_ref()).collect();
    let mut kinds: Vec<Kind> = args.kinds.iter().map(Kind::named).collect();
    kinds.extend(items.iter().map(|item| item.kind.clone()));
    let known = |kind: &Kind| [&from, &to].iter().any(|found| found.manifest.by_kind().contains_key(kind));
    if let Some(unknown) = kinds.iter().find(|kind| !known(kind)) {
        let detail = format!("{unknown} is no kind of {}", to.manifest.source);
        return Err(Fault::new(Class::Config, "kind.unknown", "compare snapshots", detail));
    }
    let mut found = if is_across(&from.manifest, &to.manifest) {
        let mapping = read_mapping_of(args.map.as_deref())?;
        across(&context.store, &from.manifest, &to.manifest, &kinds, mapping).await?
    } else {
        diff(&context.store, &from.manifest, &to.manifest, &kinds).await?
    };
    let named: Vec<_> = items.iter().filter_map(|item| item.which.as_ref()).collect();
    if !named.is_empty() {
        let fits = |change: &Change| {
            let (name, key) = (change.old_name.as_ref(), change.old_key.as_ref());
            named.iter().any(|which| {
                which.fits(&change.name, &change.key).is_some()
                    || which.fits(name.unwrap_or(&change.name), key.unwrap_or(&change.key)).is_some()
            })
        };
        found.retain(fits);
    }
    let differs = found.differs;
    match context.output {
        Format::Table => print(&text(&found, if named.is_empty() { FIELDS } else { usize::MAX }))?,
        Format::Name => {
            for change in found.changes.iter().filter(|change| change.change.is_difference()) {
                let address = format!("{}:{}/{}", found.to.environment, change.kind, change.name);
                print(&format!("{}\n", name_line(&address)))?;
            }
        }
        format => document(format, &found)?,
    }
    Ok(if differs && args.exit_code { exit::DIFFERENCE } else { exit::COMPLETE })
}

/// The snapshot that an address means; of a live environment one that is taken now, scoped, and kept.
async fn snapshot(address: &Address, context: &Context) -> Result<Found> {
    if address.state != Moment::Live {
        return context.snapshot(address).await;
    }
    let (environment, store) = (&address.environment, identity::open(&*context.store).await?.store);
    let running = context.running(Some(&store)).await?;
    let kinds = address.item.iter().map(|item| item.kind.clone()).collect();
    let selection = Selection { look: true, kinds, ..Selection::default() };
    let looked = attend(&running, context, "look at a live environment", async |attended| {
        let restore = Restore { backup: &running.backup };
        attended
            .watch(vec![(environment.clone(), None)], async |view, stop| {
                restore.look(environment, selection.clone(), view, stop).await
            })
            .await
    })
    .await;
    running.close().await;
    let (manifest, hash) = read_at(&*context.store, &looked?.key()).await?;
    Ok(Found { manifest, hash })
}

fn text(found: &Diff, fields: usize) -> String {
    let side =
        |side: &crate::diff::Side| format!("{}@{} ({})", side.environment, side.snapshot.short(), side.time);
    let mut text = format!("{} -> {}\n", side(&found.from), side(&found.to));
    for unknown in &found.kinds_unknown {
        let word = |standing: Option<Standing>| standing.map_or("not known", Standing::word);
        let (from, to) = (word(unknown.from), word(unknown.to));
        text.push_str(&format!("  ? {}  unknown: {from} -> {to}\n", unknown.kind));
    }
    for side in [&found.from, &found.to].into_iter().filter(|side| side.unlisted > 0) {
        let (environment, snapshot) = (&side.environment, side.snapshot.short());
        text.push_str(&format!(
            "  ? {} slice(s) could not be listed for {environment}@{snapshot}: what lies there is unknown\n",
            side.unlisted
        ));
    }
    let mut counts = [0_u64; 7];
    for change in &found.changes {
        counts[change.change as usize] += 1;
        text.push_str(&line(change, fields));
    }
    let words = ["added", "changed", "renamed", "recreated", "removed", "unknown", "gap"];
    let told: Vec<_> =
        counts.iter().zip(words).filter(|(n, _)| **n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let told = told.join(", ");
    text.push_str(&match (found.differs, told.is_empty()) {
        (true, _) => format!("{told}\n"),
        (false, true) if found.unknown => "no item is known to differ\n".into(),
        (false, true) => "no item differs\n".into(),
        (false, false) => format!("no item is known to differ: {told}\n"),
    });
    text
}

fn line(change: &Change, fields: usize) -> String {
    let name = format!("{}/{}", change.kind, shown(&change.name));
    let mut text = match change.change {
        What::Added => format!("  + {name}\n"),
        What::Removed => format!("  - {name}\n"),
        What::Changed => format!("  ~ {name}\n"),
        What::Gap => format!("  ? {name}\n"),
        What::Unknown => format!("  ? {name}  unknown: one of the snapshots could not list where it lies\n"),
        What::Renamed => {
            let old = change.old_name.as_deref().unwrap_or_default();
            format!("  ~ {name}  renamed from {}\n", shown(old))
        }
        What::Recreated => {
            let old = change.old_key.as_deref().unwrap_or_default();
            format!("  ~ {name}  made again: key {} -> {}\n", shown(old), shown(&change.key))
        }
    };
    for field in change.fields.iter().take(fields) {
        text.push_str(&format!("      {}\n", field_line(field)));
    }
    if let Some(more @ 1..) = change.fields.len().checked_sub(fields) {
        text.push_str(&format!("      … and {more} more: name the item to see them, ENV:{name}\n"));
    }
    for gap in &change.gaps {
        text.push_str(&format!("      {}\n", gap_line(gap)));
    }
    text
}

fn gap_line(gap: &PartUnknown) -> String {
    let (side, why) = match (&gap.from, &gap.to) {
        (Some(_), Some(why)) => ("both snapshots", why),
        (None, Some(why)) => ("the second snapshot", why),
        (Some(why), None) => ("the first snapshot", why),
        (None, None) => return String::new(),
    };
    format!("{}: unknown, a gap in {side}: {} [{}]", gap.part.word(), escaped(&why.message), why.code)
}

pub(super) fn field_line(field: &FieldChange) -> String {
    let part = field.part.word();
    if field.path.is_empty() {
        let size =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "none".into(), |n| format!("{n} bytes"));
        return format!("{part}: {} -> {}", size(&field.from), size(&field.to));
    }
    let value = |value: &Option<Value>| value.as_ref().map(|value| escaped(&value.to_string()).into_owned());
    let (from, to) = (value(&field.from), value(&field.to));
    let same = match (&from, &to) {
        (Some(from), Some(to)) => from.chars().zip(to.chars()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let [from, to] = [from, to].map(|text| text.map_or_else(|| "none".into(), |text| shorten(&text, same)));
    let part = if part == "object" { String::new() } else { format!("{part}: ") };
    format!("{part}{}: {from} -> {to}", shown(&field.path))
}

/// As much of a text as fits. Of two long ones that begin alike it is what is behind that.
fn shorten(text: &str, same: usize) -> String {
    let length = text.chars().count();
    if length <= WIDTH {
        return text.to_owned();
    }
    // A few words before the difference tell where it is.
    let from = if same + WIDTH / 4 > WIDTH { same.saturating_sub(WIDTH / 4) } else { 0 };
    let kept: String = text.chars().skip(from).take(WIDTH).collect();
    let [before, behind] = [from > 0, from + WIDTH < length].map(|cut| if cut { "…" } else { "" });
    format!("{before}{kept}{behind}")
}

#[cfg(test)]
mod tests {
    use lakehold_proto::format::Role;
    use serde_json::json;

    use super::*;

    fn line_of(from: &Value, to: &Value) -> String {
        let (from, to) = (Some(from.clone()), Some(to.clone()));
        field_line(&FieldChange { part: Role::Object, path: "a.b".into(), from, to })
    }

    #[test]
    fn a_difference_is_shown_wherever_it_is() {
        assert_eq!(line_of(&json!(200), &json!(201)), "a.b: 200 -> 201");
        let long = "select one, two, three from somewhere where something is so long that it does not fit";
        let told = line_of(&json!(format!("{long} limit 1")), &json!(format!("{long} limit 2")));
        assert!(told.contains("limit 1") && told.contains("limit 2") && told.chars().count() < 100, "{told}");
        let told = line_of(&json!(long), &json!("x"));
        assert!(told.contains("\"select one") && told.ends_with("… -> \"x\""), "{told}");
    }
}
