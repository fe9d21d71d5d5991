//! `lakehold status`: objectives against what the store has.

use std::collections::BTreeSet;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::EnvName;
use serde::Serialize;

use super::{Context, exit};
use crate::output::{Align, Format, Table, age, count, document, print, say, stamp};
use crate::restore::drill;
use crate::snapshot::find::environments;
use crate::snapshot::good::{Good, last_good};
use lakehold_proto::store::identity;

const EXAMPLES: &str = "\
Examples:
  lakehold status
  lakehold status --strict || page-somebody       exit 6 when an objective is breached";

/// What may be typed behind `status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Only this environment; may be given several times
    #[arg(long = "env", value_name = "NAME")]
    pub environments: Vec<EnvName>,
    /// End with exit code 6 when an environment is older than its objective, or was never backed up
    #[arg(long)]
    pub strict: bool,
}

/// How an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    NoObjective,
    Breached,
    Never,
    NotConfigured,
}

impl State {
    fn of(configured: bool, age: Option<SignedDuration>, rpo: Option<SignedDuration>) -> Self {
        match (configured, age, rpo) {
            (false, ..) => Self::NotConfigured,
            (_, None, _) => Self::Never,
            (_, Some(age), Some(rpo)) if age > rpo => Self::Breached,
            (_, _, Some(_)) => Self::Ok,
            (_, _, None) => Self::NoObjective,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoObjective => "NO OBJECTIVE",
            Self::Breached => "BREACHED",
            Self::Never => "NEVER BACKED UP",
            Self::NotConfigured => "NOT CONFIGURED",
        }
    }

    fn is_breach(self) -> bool {
        matches!(self, Self::Breached | Self::Never)
    }
}

#[derive(Serialize)]
struct Row {
    environment: EnvName,
    state: State,
    rpo_seconds: Option<i64>,
    age_seconds: Option<i64>,
    last_good: Option<Good>,
    damaged: u64,
    proved: Option<Proved>,
}

/// What the latest drill says.
#[derive(Serialize)]
struct Proved {
    time: Timestamp,
    snapshot: lakehold_proto::ids::SnapshotId,
    proof: bool,
    seconds: f64,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    environments: Vec<Row>,
}

pub(super) async fn run(args: &StatusArgs, context: &Context) -> Result<u8> {
    let configured: BTreeSet<_> = context.settings.config.environments.keys().cloned().collect();
    // Before the first backup there is no store: then everything configured was never backed up, which is the answer.
    let there = match identity::open(&*context.store).await {
        Ok(_) => environments(&*context.store, "snapshots/").await?,
        Err(fault) if fault.code == "store.absent" && !configured.is_empty() => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let names: BTreeSet<_> = match args.environments.as_slice() {
        [] => configured.iter().cloned().chain(there).collect(),
        named => context.with_snapshots(named).await?.into_iter().collect(),
    };
    let now = context.clock.now();
    let mut rows = Vec::new();
    for name in names {
        rows.push(row(context, name, now).await?);
    }
    let breached = rows.iter().any(|row| row.state.is_breach());
    match context.output {
        Format::Table => table(&rows)?,
        Format::Name => rows.iter().try_for_each(|row| print(&format!("{}\n", row.environment)))?,
        format => document(format, &Document { schema: "lakehold.status/v1", environments: rows })?,
    }
    Ok(if breached && args.strict { exit::OBJECTIVE } else { exit::COMPLETE })
}

async fn row(context: &Context, environment: EnvName, now: Timestamp) -> Result<Row> {
    let configured = context.settings.config.environments.get(&environment);
    let (last_good, damaged) = last_good(&*context.store, &environment).await?;
    let drilled = drill::latest(&*context.store, &environment).await?;
    let proved = drilled.map(|drill| Proved {
        time: drill.began,
        snapshot: drill.snapshot,
        proof: drill.is_proof(),
        seconds: drill.seconds,
    });
    // A clock that was set back makes a snapshot look younger, never older than it is.
    let age = last_good.as_ref().map(|good| now.duration_since(good.time).max(SignedDuration::ZERO));
    let rpo = configured.and_then(|c| c.rpo).and_then(|rpo| SignedDuration::try_from(rpo.0).ok());
    Ok(Row {
        state: State::of(configured.is_some(), age, rpo),
        environment,
        rpo_seconds: rpo.map(|rpo| rpo.as_secs()),
        age_seconds: age.map(|age| age.as_secs()),
        last_good,
        damaged,
        proved,
    })
}

fn table(rows: &[Row]) -> Result<()> {
    let mut table = Table::new(&[
        ("ENV", Align::Left),
        ("STATE", Align::Left),
        ("LAST GOOD", Align::Left),
        ("AGE", Align::Right),
        ("RPO", Align::Right),
        ("ITEMS", Align::Right),
        ("GAPS", Align::Right),
        ("ID", Align::Left),
        ("PROVED", Align::Left),
    ]);
    let length =
        |seconds: Option<i64>| seconds.map_or_else(|| "-".into(), |s| age(SignedDuration::from_secs(s)));
    for row in rows {
        let good = row.last_good.as_ref();
        let number = |of: fn(&Good) -> u64| good.map_or_else(|| "-".into(), |good| count(of(good)));
        table.row([
            row.environment.to_string(),
            row.state.word().into(),
            good.map_or_else(|| "never".into(), |good| stamp(good.time)),
            length(row.age_seconds),
            length(row.rpo_seconds),
            number(|good| good.items),
            number(|good| good.gaps),
            good.map_or_else(|| "-".into(), |good| good.snapshot.short()),
            row.proved.as_ref().map_or_else(
                || "never".into(),
                |proved| {
                    if proved.proof { stamp(proved.time) } else { format!("FAILED {}", stamp(proved.time)) }
                },
            ),
        ]);
    }
    if table.is_empty() {
        say("no environments: neither configured nor in the store");
        return Ok(());
    }
    print(&table.render())?;
    for row in rows.iter().filter(|row| row.damaged > 0) {
        say(&format!(
            "warning: {} newer manifest(s) of {} are damaged: run lakehold verify",
            row.damaged, row.environment
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_breached_by_age_or_by_never() {
        let hours = |n| Some(SignedDuration::from_hours(n));
        assert_eq!(State::of(true, hours(24), hours(24)), State::Ok);
        assert_eq!(State::of(true, hours(25), hours(24)), State::Breached);
        assert_eq!(State::of(true, None, hours(24)), State::Never);
        assert_eq!(State::of(true, None, None), State::Never);
        assert_eq!(State::of(true, hours(1), None), State::NoObjective);
        assert_eq!(State::of(false, hours(1), None), State::NotConfigured);
        assert!(State::Never.is_breach() && State::Breached.is_breach() && !State::NoObjective.is_breach());
    }
}
