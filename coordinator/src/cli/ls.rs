//! `lakehold ls`: streams; a snapshot of any size passes through the memory of one shard.

use std::collections::BTreeSet;

use clap::Args;
use lakehold_proto::address::{Address, ItemAddress};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Gap, IndexRef};
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Standing;
use serde_json::{Value, json};

use super::{Context, exit};
use crate::output::{Format, bytes, escaped, name_line, print, say};
use crate::snapshot::items::each_index;

const EXAMPLES: &str = "\
Examples:
  lakehold ls prod                         all items of the latest snapshot
  lakehold ls prod@2026-08-01 --kind job --kind pipeline --long
  lakehold ls prod:notebook -o json
  lakehold ls prod:job/nightly-etl         one item, with its twins";

/// What may be typed behind `ls`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// The snapshot, and a kind or item in it: ENV, ENV@WHEN, ENV@WHEN:KIND
    pub address: Address,
    /// Only this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Also show size, stamp, gaps and key
    #[arg(short, long)]
    pub long: bool,
    /// Only items of which something is missing, and why
    #[arg(long)]
    pub gaps: bool,
}

pub(super) async fn run(args: &LsArgs, context: &Context) -> Result<u8> {
    let found = context.snapshot(&args.address).await?;
    let manifest = &found.manifest;
    let wanted = wanted(args, manifest)?;
    let is_wanted = |named: &IndexRef| wanted.is_empty() || wanted.contains(&named.kind);
    let mut lines = Lines::new(args, context.output, manifest);
    print(&lines.head())?;
    each_index(&*context.store, manifest, &is_wanted, |named, index| {
        let mut text = String::new();
        for entry in index.entries.iter().filter(|entry| takes(args, entry)) {
            lines.add(&named.kind, entry, &mut text)?;
        }
        print(&text).map(|()| true)
    })
    .await?;
    print(&lines.foot())?;
    if args.address.item.as_ref().is_some_and(|item| item.which.is_some()) && lines.shown == 0 {
        let address = &args.address;
        return Err(Fault::new(
            Class::Absent,
            "item.absent",
            format!("list {address}"),
            "the snapshot has no such item",
        ));
    }
    tell_what_is_not_here(manifest, &wanted);
    Ok(exit::COMPLETE)
}

fn wanted(args: &LsArgs, manifest: &Manifest) -> Result<BTreeSet<Kind>> {
    let typed =
        args.kinds.iter().map(Kind::named).chain(args.address.item.iter().map(|item| item.kind.clone()));
    let wanted: BTreeSet<_> = typed.collect();
    let known: Vec<_> = manifest.kinds.iter().map(|report| &report.kind).collect();
    match wanted.iter().find(|kind| !known.contains(kind)) {
        None => Ok(wanted),
        Some(unknown) => {
            let detail = format!("{unknown} is no kind of {}", manifest.source);
            let known: Vec<_> = known.iter().map(|kind| kind.as_str()).collect();
            Err(Fault::new(Class::Config, "kind.unknown", format!("list {}", args.address), detail)
                .hint(format!("its kinds are {}", known.join(", "))))
        }
    }
}

/// A list that is silent about what it lacks would be taken for whole.
fn tell_what_is_not_here(manifest: &Manifest, wanted: &BTreeSet<Kind>) {
    let asked = |kind: &Kind| wanted.is_empty() || wanted.contains(kind);
    for report in manifest.kinds.iter().filter(|report| asked(&report.kind)) {
        let unlisted = report.counts.unlisted;
        match report.standing {
            Standing::Captured if unlisted > 0 => {
                say(&format!("note: {} slice(s) of {} could not be listed", unlisted, report.kind));
            }
            Standing::Forbidden | Standing::Failed => {
                say(&format!("note: {} is not in this snapshot: {}", report.kind, report.standing.word()));
            }
            _ => {}
        }
    }
}

fn takes(args: &LsArgs, entry: &Entry) -> bool {
    if args.gaps && entry.gaps.is_empty() {
        return false;
    }
    match &args.address.item {
        Some(ItemAddress { which: Some(which), .. }) => which.fits(&entry.name, &entry.key).is_some(),
        _ => true,
    }
}

struct Lines {
    format: Format,
    long: bool,
    reasons: bool,
    head: Value,
    base: String,
    shown: u64,
}

impl Lines {
    fn new(args: &LsArgs, format: Format, manifest: &Manifest) -> Self {
        Self {
            format,
            long: args.long,
            reasons: args.gaps,
            head: json!({
                "schema": "lakehold.items/v1",
                "environment": manifest.environment,
                "snapshot": manifest.snapshot,
                "time": manifest.time,
            }),
            base: format!("{}@{}", manifest.environment, manifest.snapshot.digits()),
            shown: 0,
        }
    }

    fn head(&self) -> String {
        let head = self.head.to_string();
        match self.format {
            Format::Table if self.long => {
                format!("{:<24} {:>10} {:<10} {:<26} {:<20} NAME\n", "KIND", "SIZE", "STATE", "STAMP", "KEY")
            }
            Format::Table => format!("{:<24} NAME\n", "KIND"),
            Format::Name => String::new(),
            Format::Json => format!("{},\"items\":[", &head[..head.len() - 1]),
            // JSON is YAML: each item is one flow mapping, so the document can be streamed.
            Format::Yaml => {
                let members = self.head.as_object().into_iter().flatten();
                let lines: String = members.map(|(name, value)| format!("{name}: {value}\n")).collect();
                format!("{lines}items:\n")
            }
        }
    }

    fn foot(&self) -> String {
        match self.format {
            Format::Json => "]}\n".into(),
            Format::Yaml if self.shown == 0 => "  []\n".into(),
            _ => String::new(),
        }
    }

    fn add(&mut self, kind: &Kind, entry: &Entry, text: &mut String) -> Result<()> {
        let first = self.shown == 0;
        self.shown += 1;
        match self.format {
            Format::Table => text.push_str(&self.row(kind, entry)),
            Format::Name => {
                let key = if entry.key == entry.name { String::new() } else { format!("#{}", entry.key) };
                text.push_str(&name_line(&format!("{}:{kind}/{}{key}", self.base, entry.name)));
                text.push('\n');
            }
            Format::Json | Format::Yaml => {
                let item = json!({
                    "kind": kind,
                    "key": entry.key,
                    "name": entry.name,
                    "parent": entry.parent,
                    "version": entry.version,
                    "content": entry.content,
                    "bytes": entry.bytes(),
                    "parts": entry.parts.iter().map(|part| part.role.word()).collect::<Vec<_>>(),
                    "gaps": entry.gaps,
                    "degraded": entry.degraded,
                });
                let lead = match (self.format, first) {
                    (Format::Yaml, _) => "  - ",
                    (_, true) => "\n",
                    _ => ",\n",
                };
                text.push_str(lead);
                text.push_str(&item.to_string());
                text.push_str(if self.format == Format::Yaml { "\n" } else { "" });
            }
        }
        Ok(())
    }

    fn row(&self, kind: &Kind, entry: &Entry) -> String {
        let name = escaped(&entry.name);
        let reasons: String =
            if self.reasons { entry.gaps.iter().map(reason).collect() } else { String::new() };
        if !self.long {
            let mark = if entry.gaps.is_empty() { "" } else { "  (gap)" };
            return format!("{kind:<24} {name}{mark}\n{reasons}");
        }
        let state = match (entry.gaps.is_empty(), entry.degraded.is_empty()) {
            (false, _) => "gap",
            (true, false) => "degraded",
            _ => "captured",
        };
        let version = entry.version.as_deref().map_or_else(|| "-".into(), escaped);
        let key = if entry.key == entry.name { "=".into() } else { escaped(&entry.key) };
        format!(
            "{kind:<24} {:>10} {state:<10} {version:<26} {key:<20} {name}\n{reasons}",
            bytes(entry.bytes())
        )
    }
}

/// Why a side of an item is missing, and where it is to be had.
fn reason(gap: &Gap) -> String {
    let last = gap.last_good.map_or(String::new(), |last| format!("  (last in snapshot {})", last.short()));
    format!("{:<24} {}: {}{last}\n", "", gap.role.word(), escaped(&gap.fault.message))
}

#[cfg(test)]
mod tests {
    use super::super::tests::written;
    use super::*;

    #[tokio::test]
    async fn streamed_documents_are_whole_documents() {
        let site = written().await;
        let manifest = site.manifest.clone();
        let args = LsArgs { address: "prod".parse().unwrap(), kinds: Vec::new(), long: false, gaps: false };
        for (format, most) in [(Format::Json, 3), (Format::Yaml, 3), (Format::Json, 0), (Format::Yaml, 0)] {
            let mut lines = Lines::new(&args, format, &manifest);
            let mut text = lines.head();
            for name in ["a", "x\n\u{202e}: #'\"", "🦆"].iter().take(most) {
                lines.add(&Kind::of("job"), &Entry::new("1", *name), &mut text).unwrap();
            }
            text += &lines.foot();
            let read: Value = match format {
                Format::Json => serde_json::from_str(&text).unwrap(),
                _ => serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")),
            };
            assert_eq!(read["schema"], "lakehold.items/v1");
            assert_eq!(read["items"].as_array().unwrap().len(), most);
            if most > 1 {
                assert_eq!(read["items"][1]["name"], "x\n\u{202e}: #'\"", "{text}");
            }
        }
    }
}
