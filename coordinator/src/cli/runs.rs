//! `lakehold runs`.

use clap::Args;
use lakehold_proto::fault::Result;

use super::{Context, exit};
use crate::backup::runs::{Part, Row, newest};
use crate::output::{Align, Format, Table, age, document, print, say, stamp};

const EXAMPLES: &str = "\
Examples:
  lakehold runs
  lakehold runs --last 100 -o json";

/// What may be typed behind `runs`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunsArgs {
    /// Only the newest N
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

pub(super) async fn run(args: &RunsArgs, context: &Context) -> Result<u8> {
    let runs = newest(&*context.store, args.last).await?;
    match context.output {
        Format::Table => table(&runs.runs, context)?,
        Format::Name => runs.runs.iter().try_for_each(|row| print(&format!("{}\n", row.run)))?,
        format => document(format, &runs)?,
    }
    Ok(exit::COMPLETE)
}

fn table(rows: &[Row], context: &Context) -> Result<()> {
    let mut table = Table::new(&[
        ("RUN", Align::Left),
        ("VERB", Align::Left),
        ("TIME", Align::Left),
        ("TOOK", Align::Right),
        ("STATE", Align::Left),
        ("ENVIRONMENTS", Align::Left),
    ]);
    let now = context.clock.now();
    for row in rows {
        let alike = row.environments.iter().all(|part| part.state == row.state);
        let name = |part: &Part| match alike {
            true => part.environment.to_string(),
            false => format!("{} ({})", part.environment, part.state.word()),
        };
        let took = match row.ended {
            Some(ended) => age(ended.duration_since(row.planned)),
            None => format!("{}…", age(now.duration_since(row.planned))),
        };
        table.row([
            row.run.short(),
            row.verb.to_string(),
            stamp(row.planned),
            took,
            row.state.word().into(),
            row.environments.iter().map(name).collect::<Vec<_>>().join(", "),
        ]);
    }
    if table.is_empty() {
        say("no runs");
        return Ok(());
    }
    print(&table.render())
}
