//! `lakehold snapshots`.

use std::collections::BTreeSet;

use clap::Args;
use lakehold_proto::fault::{Class, Result};
use lakehold_proto::ids::{EnvName, Hash, SnapshotId};
use lakehold_proto::manifest::{Counts, Manifest, SnapshotState};
use lakehold_proto::plan::Identity;
use serde::Serialize;

use super::{Context, exit};
use crate::output::{Align, Format, Table, age, bytes, count, document, escaped, print, say, stamp};
use crate::plan::parse_time;
use crate::snapshot::{ListedSnapshot, list, read_manifest};

const EXAMPLES: &str = "\
Examples:
  lakehold snapshots
  lakehold snapshots --env prod --tag before-upgrade -o json";

/// What may be typed behind `snapshots`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotsArgs {
    /// Only of this environment; may be given several times
    #[arg(long = "env", value_name = "NAME")]
    pub environments: Vec<EnvName>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Only the newest N of each environment
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    snapshots: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    environment: EnvName,
    snapshot: SnapshotId,
    time: String,
    /// Why the rest is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    #[serde(flatten)]
    read: Option<Read>,
}

#[derive(Serialize)]
struct Read {
    state: SnapshotState,
    scoped: bool,
    good: bool,
    tags: Vec<String>,
    counts: Counts,
    gaps: u64,
    content_root: Hash,
    manifest_sha256: Hash,
    run: lakehold_proto::ids::RunId,
    /// Who asked, and whether lists showed it everything.
    asked_as: Identity,
    warnings: Vec<String>,
}

impl Read {
    fn of(manifest: &Manifest, hash: Hash) -> Self {
        Self {
            state: manifest.state,
            scoped: manifest.is_scoped(),
            good: manifest.is_good(),
            tags: manifest.tags.clone(),
            counts: manifest.totals(),
            gaps: manifest.gaps(),
            content_root: manifest.content_root,
            manifest_sha256: hash,
            run: manifest.run.id,
            asked_as: manifest.probe.identity.clone(),
            warnings: manifest.probe.warnings.clone(),
        }
    }

    fn state(&self) -> String {
        let state = match self.state {
            SnapshotState::Complete => "complete",
            SnapshotState::Partial => "partial",
        };
        let scoped = if self.scoped { ", scoped" } else { "" };
        // What is complete for one who is shown less is not what there was.
        let shown_less = if self.asked_as.admin == Some(false) { ", not as admin" } else { "" };
        format!("{state}{scoped}{shown_less}")
    }
}

pub(super) async fn run(args: &SnapshotsArgs, context: &Context) -> Result<u8> {
    let mut rows = Vec::new();
    for environment in context.with_snapshots(&args.environments).await? {
        let listed = list(&*context.store, &environment).await?;
        let skip = args.last.map_or(0, |last| listed.len().saturating_sub(last));
        for one in listed.iter().skip(skip) {
            rows.push(read(context, &environment, one).await?);
        }
    }
    if let Some(tag) = &args.tag {
        rows.retain(|row| row.read.as_ref().is_some_and(|read| read.tags.contains(tag)));
    }
    let damaged = rows.iter().any(|row| row.damaged.is_some());
    match context.output {
        Format::Table => table(&rows, context)?,
        Format::Name => {
            rows.iter()
                .try_for_each(|row| print(&format!("{}@{}\n", row.environment, row.snapshot.digits())))?;
        }
        format => document(format, &Document { schema: "lakehold.snapshots/v1", snapshots: rows })?,
    }
    Ok(if damaged { exit::INTEGRITY } else { exit::COMPLETE })
}

async fn read(context: &Context, environment: &EnvName, one: &ListedSnapshot) -> Result<Row> {
    let read = read_manifest(&*context.store, environment, &one.time, one.snapshot).await;
    let (read, damaged) = match read {
        Ok((manifest, hash)) => (Some(Read::of(&manifest, hash)), None),
        Err(fault) if fault.class == Class::Integrity => (None, Some(fault.to_string())),
        Err(fault) => return Err(fault),
    };
    Ok(Row {
        environment: environment.clone(),
        snapshot: one.snapshot,
        time: one.time.clone(),
        damaged,
        read,
    })
}

fn table(rows: &[Row], context: &Context) -> Result<()> {
    let mut table = Table::new(&[
        ("ENV", Align::Left),
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("AGE", Align::Right),
        ("STATE", Align::Left),
        ("ITEMS", Align::Right),
        ("NEW", Align::Right),
        ("CHANGED", Align::Right),
        ("GONE", Align::Right),
        ("GAPS", Align::Right),
        ("SIZE", Align::Right),
        ("TAGS", Align::Left),
    ]);
    let now = context.clock.now();
    for row in rows {
        let time = parse_time(&row.time);
        let mut cells = vec![
            row.environment.to_string(),
            row.snapshot.short(),
            time.map_or_else(|| row.time.clone(), stamp),
            time.map_or_else(|| "?".into(), |time| age(now.duration_since(time))),
        ];
        match &row.read {
            Some(read) => {
                let numbers =
                    [read.counts.items, read.counts.new, read.counts.changed, read.counts.gone, read.gaps];
                cells.push(read.state());
                cells.extend(numbers.map(count));
                cells.extend([bytes(read.counts.bytes), read.tags.join(", ")]);
            }
            None => cells.push("DAMAGED".into()),
        }
        table.row(cells);
    }
    if table.is_empty() {
        say("no snapshots");
    } else {
        print(&table.render())?;
    }
    let mut seen = BTreeSet::new();
    for row in rows {
        // Mostly all of an environment say the same.
        let warnings = row.read.iter().flat_map(|read| &read.warnings);
        for warning in warnings.filter(|warning| seen.insert((&row.environment, *warning))) {
            say(&format!("{}: warning: {}", row.environment, escaped(warning)));
        }
        if let Some(damaged) = &row.damaged {
            say(&format!("damaged: {}@{}: {}", row.environment, row.snapshot.short(), escaped(damaged)));
        }
    }
    Ok(())
}
