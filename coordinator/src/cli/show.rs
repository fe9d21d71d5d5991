//! `lakehold show`: one item, its object, its permissions, or its bytes.

use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use lakehold_proto::address::Address;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Gap, Part, Role};
use lakehold_proto::manifest::Manifest;
use serde_json::{Value, json};

use super::{Context, exit};
use crate::output::{Format, bytes, document, escaped, name_line, print, print_bytes};
use crate::snapshot::items::{Item, find_item, read_part, read_whole};

const EXAMPLES: &str = "\
Examples:
  lakehold show prod:job/nightly-etl
  lakehold show prod@2026-08-01:notebook//Shared/etl --content > etl.py
  lakehold show prod:job/nightly-etl#123 --permissions -o json";

/// Objects larger than this are not shown; `--raw` streams them.
const LARGEST_OBJECT: u64 = 64 * 1024 * 1024;

/// What may be typed behind `show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// The item: ENV:KIND/NAME, ENV@WHEN:KIND/NAME, with #KEY behind it for one of several twins
    pub address: Address,
    /// Write the item's content to standard output, byte for byte
    #[arg(long, conflicts_with_all = ["permissions", "raw"])]
    pub content: bool,
    /// Show who may do what with it, in place of the object
    #[arg(long)]
    pub permissions: bool,
    /// Write the object (or the permissions) to standard output as the API gave it, byte for byte
    #[arg(long)]
    pub raw: bool,
}

pub(super) async fn run(args: &ShowArgs, context: &Context) -> Result<u8> {
    let Some(wanted) = &args.address.item else {
        let detail = "it names no item";
        return Err(Fault::new(Class::Config, "item.unnamed", format!("show {}", args.address), detail)
            .hint(format!("write {}:KIND/NAME; `lakehold ls {}` lists them", args.address, args.address)));
    };
    let found = context.snapshot(&args.address).await?;
    let item = find_item(&*context.store, &found.manifest, wanted).await?;
    let role = match (args.content, args.permissions) {
        (true, _) => Role::Content,
        (_, true) => Role::Permissions,
        _ => Role::Object,
    };
    if args.content || args.raw {
        stream(context, &found.manifest, &item, role).await?;
        return Ok(exit::COMPLETE);
    }
    let body = match item.entry.part(role) {
        Some(part) => Some(parsed(context, &item, part).await?),
        None if args.permissions => return Err(no_part(&found.manifest, &item, role)),
        None => None,
    };
    match context.output {
        Format::Table => print(&text(&found.manifest, &item, body.as_ref()))?,
        Format::Name => print(&format!("{}\n", name_line(&address(&found.manifest, &item))))?,
        format => document(format, &described(&found.manifest, &item, role, body))?,
    }
    Ok(exit::COMPLETE)
}

async fn stream(context: &Context, manifest: &Manifest, item: &Item, role: Role) -> Result<()> {
    let part = item.entry.part(role).ok_or_else(|| no_part(manifest, item, role))?;
    let mut frames = read_part(Arc::clone(&context.store), Arc::clone(&item.index), part.clone());
    while let Some(frame) = frames.next().await {
        print_bytes(&frame?)?;
    }
    Ok(())
}

async fn parsed(context: &Context, item: &Item, part: &Part) -> Result<Value> {
    let body = read_whole(&context.store, item, part, LARGEST_OBJECT).await?;
    // What an API gave may be no JSON; then its text is what there is to show.
    Ok(serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned())))
}

fn address(manifest: &Manifest, item: &Item) -> String {
    let (name, key) = (&item.entry.name, &item.entry.key);
    let key = if name == key { String::new() } else { format!("#{key}") };
    format!("{}@{}:{}/{name}{key}", manifest.environment, manifest.snapshot.digits(), item.kind)
}

/// Why a side of an item is not here, and which snapshot has it.
fn no_part(manifest: &Manifest, item: &Item, role: Role) -> Fault {
    let context = format!("show {}/{}", item.kind, item.entry.name);
    match item.entry.gaps.iter().find(|gap| gap.role == role) {
        Some(gap) => {
            let detail = format!("its {} is a gap in this snapshot: {}", role.word(), gap.fault.message);
            let fault = Fault::new(Class::Absent, "item.gap", context, detail);
            match gap.last_good {
                Some(good) => fault.hint(format!(
                    "the last snapshot that has it: lakehold show '{}@{}:{}/#{}'",
                    manifest.environment,
                    good.digits(),
                    item.kind,
                    item.entry.key
                )),
                None => fault.hint("no earlier snapshot has it"),
            }
        }
        None => {
            let parts: Vec<_> = item.entry.parts.iter().map(|part| part.role.word()).collect();
            Fault::new(Class::Absent, "item.no-part", context, format!("it has no {}", role.word()))
                .hint(format!("it has: {}", parts.join(", ")))
        }
    }
}

fn described(manifest: &Manifest, item: &Item, role: Role, body: Option<Value>) -> Value {
    let parts = item.entry.parts.iter().map(|part| {
        json!({
            "role": part.role, "bytes": part.size, "sha256": part.sha256, "canonical": part.canonical,
            "format": part.format,
        })
    });
    let mut described = json!({
        "schema": "lakehold.item/v1",
        "environment": manifest.environment,
        "snapshot": manifest.snapshot,
        "kind": item.kind,
        "key": item.entry.key,
        "name": item.entry.name,
        "parent": item.entry.parent,
        "version": item.entry.version,
        "content": item.entry.content,
        "parts": parts.collect::<Vec<_>>(),
        "gaps": item.entry.gaps,
        "degraded": item.entry.degraded,
    });
    described[role.word()] = body.unwrap_or(Value::Null);
    described
}

fn text(manifest: &Manifest, item: &Item, body: Option<&Value>) -> String {
    let entry = &item.entry;
    let mut text = format!("{}/{}\n", item.kind, escaped(&entry.name));
    let mut line = |label: &str, value: String| text.push_str(&format!("  {label:<12} {value}\n"));
    line("key", escaped(&entry.key).into_owned());
    line("snapshot", format!("{}@{}  {}", manifest.environment, manifest.snapshot.short(), manifest.time));
    if let Some(parent) = &entry.parent {
        line("in", escaped(parent).into_owned());
    }
    for part in &entry.parts {
        let format = part.format.as_ref().map_or(String::new(), |format| format!(" ({format})"));
        line(part.role.word(), format!("{}{}  sha256 {}", bytes(part.size), escaped(&format), part.sha256));
    }
    for degraded in &entry.degraded {
        line("degraded", escaped(degraded).into_owned());
    }
    for gap in &entry.gaps {
        line("gap", gap_line(manifest, gap));
        if let Some(hint) = &gap.fault.hint {
            line("hint", escaped(hint).into_owned());
        }
    }
    if let Some(body) = body {
        let pretty = serde_json::to_string_pretty(body).unwrap_or_default();
        let lines = pretty.lines().map(|line| json_escaped(line) + "\n");
        text.push('\n');
        text.extend(lines);
    }
    text
}

/// JSON escapes control characters by itself; what else would harm a terminal is escaped as JSON does it.
fn json_escaped(line: &str) -> String {
    let escape = |c: char| match escaped(c.encode_utf8(&mut [0; 4])) {
        _ if c == '\\' => c.to_string(),
        same if same.starts_with(c) => c.to_string(),
        _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    line.chars().map(escape).collect()
}

fn gap_line(manifest: &Manifest, gap: &Gap) -> String {
    let last = match gap.last_good {
        Some(good) => format!("last in {}@{}", manifest.environment, good.digits()),
        None => "in no earlier snapshot".into(),
    };
    format!("{}: {} [{}], {last}", gap.role.word(), escaped(&gap.fault.message), gap.fault.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_in_json_stays_json_and_harms_no_terminal() {
        let hostile = json!({"a": "x\u{202e}y\\z\u{1b}\n", "plain": "ä🦆"});
        let shown = json_escaped(&hostile.to_string());
        assert!(!shown.contains(['\u{202e}', '\u{1b}', '\n']) && shown.contains("ä🦆"));
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), hostile);
    }
}
