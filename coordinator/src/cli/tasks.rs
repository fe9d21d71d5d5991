//! `lakehold tasks`: what the broker set aside because it came back again and again. Runs go on without it; this is a black
//! box recorder, and a way to try once more.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use lakehold_proto::clock::SystemClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::open;
use lakehold_proto::queue::RabbitQueue;
use lakehold_proto::queue::rabbit::{Parked, Which};
use lakehold_proto::task::Assignment;
use serde::Serialize;

use super::{Context, Global, exit};
use crate::output::{Align, Format, Table, count, document, print, say, shown, stamp};

const PARKED_EXAMPLES: &str = "\
Examples:
  lakehold tasks parked
  lakehold tasks parked --first 1000 -o json";

const REQUEUE_EXAMPLES: &str = "\
Examples:
  lakehold tasks requeue --all
  lakehold tasks requeue 6f1c20a8b4d3e921";

/// What may be typed behind `tasks`.
#[derive(Clone, Debug, Subcommand)]
pub enum TasksCommand {
    /// List the tasks that the broker set aside; they stay there
    #[command(after_help = PARKED_EXAMPLES)]
    Parked(ParkedArgs),
    /// Send tasks that were set aside to their workers again
    #[command(after_help = REQUEUE_EXAMPLES)]
    Requeue(RequeueArgs),
}

/// What may be typed behind `tasks parked`.
#[derive(Clone, Debug, Args)]
pub struct ParkedArgs {
    /// Only the oldest N
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub first: usize,
}

/// What may be typed behind `tasks requeue`.
#[derive(Clone, Debug, Args)]
pub struct RequeueArgs {
    /// The ids of messages, as `tasks parked` tells them
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<String>,
    /// All that lie there now
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    parked: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    queue: Option<String>,
    reason: Option<String>,
    count: u64,
    since: Option<Timestamp>,
    /// Absent of a message that is no task.
    #[serde(flatten)]
    task: Option<TaskRow>,
}

#[derive(Serialize)]
struct TaskRow {
    run: RunId,
    environment: EnvName,
    kind: String,
    shard: String,
    attempt: u32,
}

pub(super) async fn run(command: &TasksCommand, global: &Global) -> Result<u8> {
    let settings = Context::settings(global)?;
    let queue = open::queue(&settings.config, "lakehold tasks", &SystemClock::shared()).await?;
    let queue = queue.ok_or_else(|| {
        let detail = "no `queue:` is configured, so there is no broker that could set tasks aside";
        Fault::new(Class::Config, "tasks.no-queue", "look at parked tasks", detail)
            .hint("name the fleet's configuration with --config")
    })?;
    let done = match command {
        TasksCommand::Parked(args) => parked(&queue, args, global).await,
        TasksCommand::Requeue(args) => requeue(&queue, args, global).await,
    };
    queue.close().await;
    done
}

async fn parked(queue: &RabbitQueue, args: &ParkedArgs, global: &Global) -> Result<u8> {
    let rows: Vec<_> = queue.parked(args.first).await?.into_iter().map(row).collect();
    match global.output {
        Format::Table => table(&rows)?,
        Format::Name => rows.iter().try_for_each(|row| print(&format!("{}\n", row.id)))?,
        format => document(format, &Document { schema: "lakehold.parked/v1", parked: rows })?,
    }
    Ok(exit::COMPLETE)
}

fn row(parked: Parked) -> Row {
    let task = parked.message.read::<Assignment>().ok().map(|assignment| TaskRow {
        run: assignment.task.run,
        kind: assignment.task.kind.to_string(),
        shard: assignment.task.shard.to_string(),
        environment: assignment.task.environment,
        attempt: assignment.attempt,
    });
    let Parked { id, queue, reason, count, since, .. } = parked;
    Row { id, queue: queue.map(|queue| queue.as_str().to_owned()), reason, count, since, task }
}

fn table(rows: &[Row]) -> Result<()> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("SINCE", Align::Left),
        ("REASON", Align::Left),
        ("TIMES", Align::Right),
        ("RUN", Align::Left),
        ("ENVIRONMENT", Align::Left),
        ("KIND", Align::Left),
        ("SHARD", Align::Left),
        ("QUEUE", Align::Left),
    ]);
    let word = |text: Option<&str>| shown(text.unwrap_or("-")).into_owned();
    for row in rows {
        let task = row.task.as_ref();
        table.row([
            shown(&row.id).into_owned(),
            row.since.map_or_else(|| "-".into(), stamp),
            word(row.reason.as_deref()),
            count(row.count),
            word(task.map(|task| task.run.short()).as_deref()),
            word(task.map(|task| task.environment.as_str())),
            word(task.map(|task| task.kind.as_str())),
            word(task.map(|task| task.shard.as_str())),
            word(row.queue.as_deref()),
        ]);
    }
    if table.is_empty() {
        say("no parked tasks");
        return Ok(());
    }
    print(&table.render())
}

async fn requeue(queue: &RabbitQueue, args: &RequeueArgs, global: &Global) -> Result<u8> {
    let which = if args.all { Which::All } else { Which::Ids(args.ids.clone()) };
    let done = queue.requeue(&which).await?;
    if !global.quiet {
        say(&format!("{} sent again", done.sent));
    }
    if done.left > 0 {
        say(&format!("warning: {} left: nobody knows which queue they came from", done.left));
    }
    if done.too_large > 0 {
        say(&format!("warning: {} left: larger than a message may be, so no tasks of ours", done.too_large));
    }
    let found = done.sent + done.left + done.too_large;
    if !args.all && found < args.ids.len() {
        let detail = format!("{} of {} ids were not found", args.ids.len() - found, args.ids.len());
        return Err(Fault::new(Class::Absent, "tasks.absent", "send parked tasks again", detail)
            .hint("`lakehold tasks parked` lists what lies there"));
    }
    Ok(exit::COMPLETE)
}
