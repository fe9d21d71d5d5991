//! `lakehold run`: one run, while it goes on and afterwards.

use clap::{Args, Subcommand};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId, TraceId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::{SharedStore, Store};
use lakehold_worker::signals::Signals;
use serde::Serialize;

use super::watch::Watch;
use super::{Context, Global, exit};
use crate::backup::progress::expected;
use crate::backup::report::{EndState, RunReport};
use crate::backup::runs::{self, Row};
use crate::backup::{cancel, summary::Summary};
use crate::output::{Align, Format, Table, age, count, document, escaped, hinted, print, say, shown, stamp};
use crate::serve::client::Client;
use crate::snapshot::items::each_index;
use crate::snapshot::{page, read_at};

const SHOW_EXAMPLES: &str = "\
Examples:
  lakehold run show 0198c1e2f3a4          the first digits of its id do
  lakehold run show 0198c1e2f3a4 --gaps 1000 -o json";

const WATCH_EXAMPLES: &str = "\
Examples:
  lakehold run watch 0198c1e2f3a4         Ctrl-C ends the looking, not the run

Ends with the run's exit code.";

const CANCEL_EXAMPLES: &str = "\
Examples:
  lakehold run cancel 0198c1e2f3a4        works from anywhere that reaches the store or the service

Tasks under way finish, no other begins; environments that were committed keep their snapshots.";

/// What may be typed behind `run`.
#[derive(Clone, Debug, Subcommand)]
pub enum RunCommand {
    /// Show what a run planned, how it stands, and the traces of its gaps
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Follow a run until it ends, whoever carries it out
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(OneRun),
    /// End a run that nobody wants any more; it is not resumed
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel(OneRun),
}

/// What may be typed behind `run show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The run
    #[command(flatten)]
    pub run: OneRun,
    /// How many gaps to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub gaps: usize,
}

/// A run.
#[derive(Clone, Debug, Args)]
pub struct OneRun {
    /// Its id, or the first digits of it; `lakehold runs` lists them
    #[arg(value_name = "RUN", value_parser = typed)]
    pub run: String,
}

fn typed(typed: &str) -> std::result::Result<String, String> {
    match !typed.is_empty() && typed.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(typed.to_owned()),
        false => Err("an id of a run has letters, digits and dashes".into()),
    }
}

pub(super) async fn run(command: &RunCommand, global: &Global) -> Result<u8> {
    match command {
        RunCommand::Show(args) => show(args, &Context::open(global).await?).await,
        RunCommand::Watch(args) => {
            let signals = Signals::listen()?;
            let summary = match service(global)? {
                Some(service) => watch_over(&service, &args.run, global, signals).await?,
                None => watch_in(&Context::open(global).await?, &args.run, signals).await?,
            };
            super::backup::tell(&summary, global.output)
        }
        RunCommand::Cancel(args) => match service(global)? {
            Some(service) => {
                let status = service.cancel(&args.run).await?;
                asked(status.row.run, global);
                Ok(exit::COMPLETE)
            }
            None => cancel_in(&Context::open(global).await?, &args.run, global).await,
        },
    }
}

/// The configured service, unless another store was named.
fn service(global: &Global) -> Result<Option<Client>> {
    let settings = Context::settings(global)?;
    if global.store.is_some() { Ok(None) } else { Client::configured(&settings.config.coordinator) }
}

async fn watch_over(service: &Client, typed: &str, global: &Global, signals: Signals) -> Result<Summary> {
    let status = service.status(typed).await?;
    let environments = status.row.environments.iter().map(|part| (part.environment.clone(), None)).collect();
    let watch = Watch { run: status.row.run, environments, quiet: global.quiet };
    watch.begin();
    watch.over(service, signals).await
}

async fn watch_in(context: &Context, typed: &str, signals: Signals) -> Result<Summary> {
    let (plan, _) = read(&*context.store, typed).await?;
    let watch = Watch { run: plan.run, environments: expected(&plan), quiet: context.quiet };
    watch.begin();
    watch.in_store(&context.store, signals).await
}

async fn cancel_in(context: &Context, typed: &str, global: &Global) -> Result<u8> {
    let run = runs::find(&*context.store, typed).await?;
    cancel::ask(&*context.store, run, context.clock.now()).await?;
    asked(run, global);
    if let Some(report) = cancel::settle(&*context.store, run, &context.clock).await? {
        for (environment, ended) in &report.environments {
            print(&format!("{environment}: {}\n", ended.state.word()))?;
        }
    }
    Ok(exit::COMPLETE)
}

fn asked(run: RunId, global: &Global) {
    if !global.quiet {
        say(&format!("{run} is cancelled: tasks under way finish, and no other begins"));
    }
}

async fn read(store: &dyn Store, typed: &str) -> Result<(Plan, Option<RunReport>)> {
    let run = runs::find(store, typed).await?;
    let absent = || {
        let detail = "it has no plan: it never began";
        Fault::new(Class::Absent, "run.absent", format!("read {run}"), detail)
    };
    runs::read(store, run).await?.ok_or_else(absent)
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    #[serde(flatten)]
    row: Row,
    plan: Vec<Planned>,
    gaps: Vec<GapRow>,
    more_gaps: u64,
}

#[derive(Serialize)]
struct Planned {
    environment: EnvName,
    state: EndState,
    source: String,
    pool: String,
    scoped: bool,
    snapshot: SnapshotId,
    time: String,
    base: Option<SnapshotId>,
    identity: String,
    roots: usize,
    expected_items: Option<u64>,
    fault: Option<String>,
}

#[derive(Serialize)]
struct GapRow {
    environment: EnvName,
    kind: String,
    /// The item, or the slice that could not be listed.
    what: String,
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    trace: TraceId,
}

async fn show(args: &ShowArgs, context: &Context) -> Result<u8> {
    let (plan, report) = read(&*context.store, &args.run.run).await?;
    let row = runs::row(&plan, report.as_ref());
    let planned = plan.environments.iter().map(|planned| summed_up(planned, &row)).collect();
    let (mut gaps, mut all) = (Vec::new(), 0);
    for planned in &plan.environments {
        let ended = report.as_ref().and_then(|report| report.environments.get(&planned.environment));
        if ended.is_some_and(|ended| ended.snapshot.is_some()) {
            let (manifest, _) = read_at(&*context.store, &planned.manifest()).await?;
            all += manifest.gaps();
            if manifest.gaps() > 0 {
                gaps_of(&context.store, &manifest, args.gaps, &mut gaps).await?;
            }
        }
    }
    let more_gaps = all.saturating_sub(gaps.len() as u64);
    let shown = Document { schema: "lakehold.run-show/v1", row, plan: planned, gaps, more_gaps };
    match context.output {
        Format::Table => print(&text(&shown, context))?,
        Format::Name => print(&format!("{}\n", shown.row.run))?,
        format => document(format, &shown)?,
    }
    Ok(exit::COMPLETE)
}

fn summed_up(planned: &EnvPlan, row: &Row) -> Planned {
    let part = row.environments.iter().find(|part| part.environment == planned.environment);
    Planned {
        environment: planned.environment.clone(),
        state: part.map_or(EndState::Unfinished, |part| part.state),
        source: planned.source.clone(),
        pool: planned.pool.clone(),
        scoped: planned.is_scoped(),
        snapshot: planned.snapshot,
        time: planned.time.clone(),
        base: planned.base.as_ref().map(|base| base.snapshot),
        identity: planned.probe.identity.name.clone(),
        roots: planned.roots.len(),
        expected_items: planned.estimate.items,
        fault: part.and_then(|part| part.fault.clone()),
    }
}

/// The first gaps of a snapshot, up to `most` in all: slices first, for they hide most.
async fn gaps_of(
    store: &SharedStore,
    manifest: &Manifest,
    most: usize,
    gaps: &mut Vec<GapRow>,
) -> Result<()> {
    let environment = &manifest.environment;
    for named in &manifest.pages {
        for (kind, slice) in page(&**store, named).await?.unlisted {
            if slice.standing.is_gap() && gaps.len() < most {
                gaps.push(GapRow {
                    environment: environment.clone(),
                    kind: kind.to_string(),
                    what: format!("all of {}", slice.shard),
                    code: slice.fault.code,
                    message: slice.fault.message,
                    hint: slice.fault.hint,
                    trace: slice.trace,
                });
            }
        }
    }
    each_index(&**store, manifest, &|_| true, |named, index| {
        for entry in index.entries {
            let Some(gap) = entry.gaps.into_iter().next().filter(|_| gaps.len() < most) else { continue };
            gaps.push(GapRow {
                environment: environment.clone(),
                kind: named.kind.to_string(),
                what: entry.name,
                code: gap.fault.code,
                message: gap.fault.message,
                hint: gap.fault.hint,
                trace: gap.trace,
            });
        }
        Ok(gaps.len() < most)
    })
    .await
}

fn text(shown_run: &Document, context: &Context) -> String {
    use Align::{Left, Right};
    let Row { run, verb, trace, planned, ended, state, tags, .. } = &shown_run.row;
    let took = ended.unwrap_or_else(|| context.clock.now()).duration_since(*planned);
    let mut text = format!("{run}\n  {verb}, {}, {}\n", state.word(), age(took));
    text += &format!("  planned {}", stamp(*planned));
    if let Some(ended) = ended {
        text += &format!(", ended {}", stamp(*ended));
    }
    text += &format!("\n  trace {trace}\n");
    if !tags.is_empty() {
        text += &format!("  tags {}\n", tags.iter().map(|tag| shown(tag)).collect::<Vec<_>>().join(", "));
    }
    let mut table = Table::new(&[
        ("ENVIRONMENT", Left),
        ("STATE", Left),
        ("SNAPSHOT", Left),
        ("BASE", Left),
        ("POOL", Left),
        ("ROOTS", Right),
        ("EXPECTED", Right),
        ("AS", Left),
    ]);
    for one in &shown_run.plan {
        table.row([
            one.environment.to_string(),
            one.state.word().into(),
            format!("{}{}", one.snapshot.short(), if one.scoped { " (scoped)" } else { "" }),
            one.base.map_or_else(|| "-".into(), |base| base.short()),
            one.pool.clone(),
            one.roots.to_string(),
            one.expected_items.map_or_else(|| "-".into(), count),
            shown(&one.identity).into_owned(),
        ]);
    }
    text += &format!("\n{}", table.render());
    for one in shown_run.plan.iter().filter(|one| one.fault.is_some()) {
        let fault = one.fault.as_deref().unwrap_or_default();
        text += &format!("\n{}: {}\n", one.environment, escaped(fault));
    }
    if !shown_run.gaps.is_empty() {
        text.push('\n');
    }
    for gap in &shown_run.gaps {
        let GapRow { environment, kind, what, code, message, hint, trace } = gap;
        text += &format!("{environment}: gap {kind}/{}: [{code}] {}\n", shown(what), escaped(message));
        text += &hinted("  ", hint.as_deref());
        text += &format!("  trace {trace}\n");
    }
    if shown_run.more_gaps > 0 {
        text += &format!("and {} more gaps: --gaps N lists more\n", count(shown_run.more_gaps));
    }
    text
}
