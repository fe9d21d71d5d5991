//! `lakehold sandbox`.

use clap::Args;
use lakehold_proto::address::Address;
use lakehold_proto::config::PostgresConfig;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_proto::restore::Crossing;
use lakehold_proto::store::identity;

use super::attend::attend;
use super::confirm::Confirmation;
use super::private::{PrivateArgs, close, running};
use super::restore::of_target;
use super::{Context, exit};
use crate::engine::view::RunView;
use crate::output::{Format, age, count, document, escaped, print, say, shown};
use crate::restore::planner::Ask;
use crate::restore::private::Private;
use crate::restore::sandbox::Rehearsal;
use crate::restore::select::Wanted;
use crate::restore::{Request, Restore};
use tokio::sync::watch;

const EXAMPLES: &str = "\
Examples:
  lakehold sandbox shop --database orders -- ./manage.py migrate
  lakehold sandbox shop --database orders --private -- ./manage.py migrate     on a server of its own, deleted again
  lakehold sandbox shop@2026-08-01 --to scratch --yes -- sh -c 'psql \"$DATABASE_URL\" -f migration.sql'

The command finds the copy by DATABASE_URL, and by libpq's variables (PGHOST, PGDATABASE, …). The copy is dropped when the command
has ended; what a killed one left is dropped by the next. What the command left running is killed.

Exit codes: the command's own; 1 when the copy could not be made, or not be taken away";

/// Changes that are told.
const TOLD: usize = 60;

/// What may be typed behind `sandbox`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SandboxArgs {
    /// The snapshot to copy a database of: ENV, ENV@WHEN
    pub from: Address,
    /// The database, where the snapshot has several
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// The server to make the copy on; its own, where none is named
    #[arg(long, value_name = "ENV")]
    pub to: Option<EnvName>,
    /// A server of its own.
    #[command(flatten)]
    pub private: PrivateArgs,
    /// Everything in the copy belongs to who makes it: where the server has not the roles
    #[arg(long)]
    pub no_owner: bool,
    /// Answers given beforehand.
    #[command(flatten)]
    pub confirmation: Confirmation,
    /// The command to run on the copy
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

pub(super) async fn run(args: &SandboxArgs, context: &Context) -> Result<u8> {
    let store = identity::open(&*context.store).await?.store;
    let from = context.snapshot(&args.from).await?;
    let mut private = args.private.start(&from.manifest, context).await?;
    let (to, server, share) = match &private {
        Some(private) => (private.environment.clone(), private.server().clone(), 1.0),
        None => confirmed(args, &from.manifest.environment, context)?,
    };
    let ask = Ask {
        wanted: Wanted {
            items: args.database.iter().map(|name| format!("database/{name}")).collect(),
            kinds: match &private {
                Some(_) => Private::kinds(&from.manifest, args.database.is_some()),
                None => Vec::new(),
            },
            ..Wanted::default()
        },
        crossing: Crossing { no_owner: args.no_owner, ..Crossing::default() },
        ..Ask::default()
    };
    let request = Request { from, target: to.clone(), ask, share };
    let quiet = context.quiet || context.output != Format::Table;
    let running = running(private.as_ref(), context, &store).await?;
    let rehearsal = attend(&running, context, "rehearse", async |attended| {
        let restore = Restore { backup: &running.backup };
        let made = attended.watch(vec![(to.clone(), None)], async |view, stop| {
            restore.make_beside(&request, view, stop).await
        });
        let record = made.await?;
        let ran =
            restore.rehearse(&request, &server, &record, &args.command, quiet, attended.stopped()).await;
        // Whoever asked to stop asked to have it cleaned up, too.
        let (_go_on, never) = watch::channel(false);
        let cleaned = match &mut private {
            Some(private) => private.end().await,
            None => {
                let clean = async |view: &RunView, _| restore.clean(&record, &request, view, never).await;
                attended.watch(vec![(to.clone(), None)], clean).await
            }
        };
        let told = private.as_ref().map(|private| private.told.clone());
        match (ran, cleaned) {
            (Ok(rehearsal), cleaned) => {
                let left_behind = cleaned.err().map(|fault| fault.to_string());
                Ok(Rehearsal { left_behind, private: told, ..rehearsal })
            }
            (Err(fault), Ok(())) => Err(fault),
            (Err(fault), Err(left)) => {
                let detail = format!("{}; and the copy is still there: {left}", fault.detail);
                Err(Fault { detail, ..fault })
            }
        }
    })
    .await;
    close(running, &mut private, &rehearsal).await;
    let rehearsal = rehearsal?;
    match context.output {
        Format::Table => print(&render(&rehearsal))?,
        Format::Name => print(&format!("{}\n", rehearsal.database))?,
        format => document(format, &rehearsal)?,
    }
    if let Some(left) = &rehearsal.left_behind {
        say(&format!("the copy {} is still there: {left}", rehearsal.database));
        return Ok(exit::FAILED);
    }
    Ok(u8::try_from(rehearsal.exit_code).unwrap_or(exit::FAILED))
}

/// The server that was named, or the snapshot's own, and the share of its limits: once it is confirmed that a copy may be made there.
fn confirmed(args: &SandboxArgs, own: &EnvName, context: &Context) -> Result<(EnvName, PostgresConfig, f64)> {
    let to = args.to.as_ref().unwrap_or(own);
    let (_, share) = of_target(context, to)?;
    let given = context.settings.config.environments.get(to);
    let Some(server) = given.and_then(|given| given.postgres.clone()) else {
        let detail = format!("{to} is no PostgreSQL server");
        return Err(Fault::new(Class::Config, "sandbox.where", "copy a database", detail)
            .hint("a sandbox is a copy of a database: name a server with --to ENV"));
    };
    let protection = given.map_or_else(Default::default, |given| given.protection);
    let what = format!("A database is made on {to}, and dropped again; nothing that is there is changed.");
    args.confirmation.ask(to, protection, &what)?;
    Ok((to.clone(), server, share))
}

fn render(rehearsal: &Rehearsal) -> String {
    let length = |seconds: f64| age(jiff::SignedDuration::from_secs(seconds.ceil() as i64));
    let ended = match rehearsal.exit_code {
        0 => "succeeded".to_owned(),
        code => format!("FAILED with {code}"),
    };
    let mut text = format!(
        "{} {ended} in {}, on a copy of {}@{} that took {}\n",
        shown(&rehearsal.command.join(" ")),
        length(rehearsal.seconds),
        rehearsal.environment,
        rehearsal.snapshot.short(),
        length(rehearsal.restored_seconds)
    );
    text += &format!(
        "  {} changes, {} warnings\n",
        count(rehearsal.changes.len() as u64),
        count(rehearsal.warnings)
    );
    if let Some(private) = &rehearsal.private {
        text += &format!("  on a private server of PostgreSQL {}\n", shown(&private.version));
    }
    for change in rehearsal.changes.iter().take(TOLD) {
        text += &format!("    {}\n", super::diff::field_line(change));
    }
    if rehearsal.changes.len() > TOLD {
        text += &format!("    … and {} more (all: -o json)\n", rehearsal.changes.len() - TOLD);
    }
    for invalid in &rehearsal.invalid {
        text += &format!("  NOT VALID: {}\n", escaped(invalid));
    }
    if rehearsal.left_behind.is_none() {
        text += "  cleaned up\n";
    }
    text
}
