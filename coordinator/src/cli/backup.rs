//! `lakehold backup`: what may be typed, and the embedded engine that carries it out.

use std::collections::HashMap;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::locks::{MemoryLocks, SharedLocks};
use lakehold_proto::open::{self, Fleet};
use lakehold_proto::plan::Selection;
use lakehold_proto::queue::MemoryQueue;
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::Sources;
use lakehold_worker::signals::Signals;
use tokio::sync::watch;

use super::Context;
use crate::backup::progress::Watched;
use crate::backup::summary::{Summary, render_plan};
use crate::backup::{Backup, Ended, Planned, Request};
use crate::embedded::{Embedded, Parts};
use crate::engine::drive::Engine;
use crate::engine::view::RunView;
use crate::output::{Format, document, print, say};
use lakehold_proto::store::identity;

const EXAMPLES: &str = "\
Examples:
  lakehold backup                          the one configured environment, or all with --all
  lakehold backup --env prod --env dev     two of them
  lakehold backup --env prod --dry-run     the plan, with its calls and time
  lakehold backup --kind job --tag before-upgrade
  DATABRICKS_HOST=https://… DATABRICKS_TOKEN=… lakehold backup      without any configuration";

/// What may be typed behind `backup`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArgs {
    /// An environment to back up; may be given several times
    #[arg(long = "env", value_name = "NAME")]
    pub environments: Vec<EnvName>,
    /// All configured environments
    #[arg(long, conflicts_with = "environments")]
    pub all: bool,
    /// Only this kind; may be given several times (makes a scoped snapshot)
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Not this kind; may be given several times (makes a scoped snapshot)
    #[arg(long = "exclude-kind", value_name = "KIND", value_delimiter = ',')]
    pub exclude_kinds: Vec<String>,
    /// Only what matches this glob in the workspace tree; may be given several times (makes a scoped snapshot)
    #[arg(long = "path", value_name = "GLOB")]
    pub paths: Vec<String>,
    /// Fetch everything again, also what did not change
    #[arg(long)]
    pub full: bool,
    /// What to back up: all, or without jobs, the clusters they make, and notebooks
    #[arg(long, value_enum, default_value_t, value_name = "SCOPE")]
    pub scope: Scope,
    /// A word to put on the snapshots; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Go on with the latest unfinished run, whatever its age
    #[arg(long)]
    pub resume: bool,
    /// Print the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to back up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Everything.
    #[default]
    Full,
    /// Without jobs, clusters made by jobs, and notebooks.
    Shared,
}

impl BackupArgs {
    /// What of an environment was asked for.
    pub fn selection(&self) -> Selection {
        let kinds = |names: &[String]| names.iter().map(Kind::named).collect();
        Selection {
            kinds: kinds(&self.kinds),
            exclude_kinds: kinds(&self.exclude_kinds),
            paths: self.paths.clone(),
            shared: self.scope == Scope::Shared,
            full: self.full,
        }
    }

    /// Which environments were asked for: those named, all with `--all`, or the only one there is.
    ///
    /// # Errors
    /// `Config` when none is configured, several are and none was named, or one that was named is not configured.
    pub fn environments(&self, configured: impl Iterator<Item = EnvName>) -> Result<Vec<EnvName>> {
        let configured: Vec<_> = configured.collect();
        let fault = |code, detail: String| Fault::new(Class::Config, code, "choose environments", detail);
        let list = || configured.iter().map(EnvName::as_str).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = self.environments.iter().find(|name| !configured.contains(name)) {
            return Err(fault("environment.unknown", format!("{unknown} is not configured")).hint(
                if configured.is_empty() {
                    "add it to lakehold.yaml".into()
                } else {
                    format!("known: {}", list())
                },
            ));
        }
        match (self.environments.is_empty(), self.all, configured.as_slice()) {
            (_, _, []) => Err(fault("environment.none", "no environment is configured".into())
                .hint("write a lakehold.yaml, set DATABRICKS_HOST and DATABRICKS_TOKEN, or give --profile")),
            (false, ..) => {
                let mut named = self.environments.clone();
                named.sort_unstable();
                named.dedup();
                Ok(named)
            }
            (true, false, [_, _, ..]) => {
                Err(fault("environment.which", format!("{} are configured", configured.len()))
                    .hint(format!("name one or several with --env ({}), or give --all", list())))
            }
            _ => Ok(configured),
        }
    }
}

pub(super) async fn run(args: BackupArgs, context: &Context) -> Result<u8> {
    let config = &context.settings.config;
    let request = Request {
        environments: args.environments(config.environments.keys().cloned())?,
        selection: args.selection(),
        tags: args.tags.clone(),
        resume: args.resume,
        dry_run: args.dry_run,
    };
    let store = open_store(&request, context).await?;
    let engine = match &store {
        Some(store) => fleet(context, store).await?,
        None => None,
    };
    let engine = engine.unwrap_or_else(|| embedded(context));
    if request.dry_run {
        let planned = engine.backup.plan(&request).await?;
        return show_plan(&planned, context);
    }
    let ended = carry_out(&engine, &request, context).await?;
    engine.end().await;
    let summary = Summary::of(&ended);
    match context.output {
        Format::Table => print(&summary.render())?,
        Format::Name => print(&summary.addresses())?,
        format => document(format, &summary)?,
    }
    Ok(summary.exit_code())
}

/// The id of the store; a directory that is none yet is made one. `None` when a dry run finds none.
async fn open_store(request: &Request, context: &Context) -> Result<Option<String>> {
    match identity::open(&*context.store).await {
        Err(fault) if fault.code == "store.absent" && request.dry_run => Ok(None),
        Err(fault) if fault.code == "store.absent" && context.directory.is_some() => {
            Ok(Some(identity::open_or_create(&*context.store, context.clock.now()).await?.store))
        }
        opened => Ok(Some(opened?.store)),
    }
}

/// The verb, and what carries its tasks out.
struct Running {
    backup: Backup,
    workers: Workers,
}

enum Workers {
    /// This process's own.
    Embedded(Embedded),
    /// Those that serve the configured queue.
    Fleet(Fleet),
}

impl Running {
    /// What workers have done, where they are this process's own.
    fn progress(&self) -> Option<&Progress> {
        match &self.workers {
            Workers::Embedded(embedded) => Some(&embedded.progress),
            Workers::Fleet(_) => None,
        }
    }

    /// Lets tasks under way finish, where they are this process's own.
    async fn finish_tasks(&self) {
        if let Workers::Embedded(embedded) = &self.workers {
            embedded.finish_tasks().await;
        }
    }

    async fn end(self) {
        match self.workers {
            Workers::Embedded(embedded) => embedded.drain().await,
            Workers::Fleet(fleet) => fleet.queue.close().await,
        }
    }
}

fn embedded(context: &Context) -> Running {
    let locks: SharedLocks = Arc::new(MemoryLocks::new(Arc::clone(&context.clock)));
    let embedded = Embedded::start(Parts {
        store: Arc::clone(&context.store),
        directory: context.directory.clone(),
        sources: sources(context, &locks),
        locks,
        pools: pools(context),
        clock: Arc::clone(&context.clock),
        queue: MemoryQueue::new(),
    });
    Running { backup: embedded.backup.clone(), workers: Workers::Embedded(embedded) }
}

async fn fleet(context: &Context, store: &str) -> Result<Option<Running>> {
    let config = &context.settings.config;
    let Some(fleet) = open::fleet(config, store, "lakehold", &context.clock).await? else { return Ok(None) };
    let locks: SharedLocks = fleet.locks.clone();
    let engine = Engine {
        store: Arc::clone(&context.store),
        queue: fleet.queue.clone(),
        locks: Arc::clone(&locks),
        clock: Arc::clone(&context.clock),
    };
    let backup = Backup {
        engine,
        sources: sources(context, &locks),
        pools: pools(context),
        directory: context.directory.clone(),
    };
    Ok(Some(Running { backup, workers: Workers::Fleet(fleet) }))
}

fn sources(context: &Context, locks: &SharedLocks) -> Arc<dyn Sources> {
    Arc::new(ConfiguredSources::new(&context.settings.config, Arc::clone(locks), Arc::clone(&context.clock)))
}

fn pools(context: &Context) -> HashMap<EnvName, String> {
    let environments = &context.settings.config.environments;
    environments.iter().map(|(name, given)| (name.clone(), given.pool.clone())).collect()
}

/// Plans and carries out, showing how far it is. Ctrl-C once stops taking tasks and lets those under way finish; twice
/// ends at once. Either way the run can be resumed.
async fn carry_out(engine: &Running, request: &Request, context: &Context) -> Result<Ended> {
    let signals = Signals::listen()?;
    let (stop, stopped) = watch::channel(false);
    let work = async {
        let planned = engine.backup.plan(request).await?;
        if !context.quiet {
            say(&beginning(&planned));
        }
        let (view, plan) = (RunView::default(), planned.plan.clone());
        let watched = Watched {
            plan: &plan,
            progress: engine.progress(),
            view: &view,
            locks: Arc::clone(&engine.backup.engine.locks),
            clock: Arc::clone(&context.clock),
        };
        let show = async {
            if !context.quiet {
                watched.show().await;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = engine.backup.carry_out(planned, &view, stopped) => ended,
            () = show => unreachable_display(),
        };
        if ended.as_ref().is_err_and(|fault| fault.class == Class::Cancelled) {
            engine.finish_tasks().await;
        }
        ended
    };
    tokio::select! {
        ended = work => ended,
        fault = interrupted_twice(signals, stop) => Err(fault),
    }
}

fn unreachable_display() -> Result<Ended> {
    Err(Fault::new(Class::Bug, "backup.display", "show progress", "the display ended before the run"))
}

/// Waits for the second request to end; passes the first one on.
async fn interrupted_twice(mut signals: Signals, stop: watch::Sender<bool>) -> Fault {
    signals.next().await;
    say(
        "stopping: tasks under way are finished first; press Ctrl-C again to stop at once (nothing is lost either way)",
    );
    // The run may have ended by itself meanwhile.
    let _ = stop.send(true);
    signals.next().await;
    Fault::new(Class::Cancelled, "run.interrupted", "back up", "it was interrupted")
        .hint("run the same command with --resume to go on where it stopped")
}

fn beginning(planned: &Planned) -> String {
    let (plan, names) = (&planned.plan, &planned.plan.environments);
    let names: Vec<_> = names.iter().map(|planned| planned.environment.as_str()).collect();
    match (planned.resumed, names.is_empty()) {
        (_, true) => "no environment can be backed up".into(),
        (true, _) => format!("resuming {} of {}: {}", plan.run, plan.created, names.join(", ")),
        (false, _) => format!("{}: backing up {}", plan.run, names.join(", ")),
    }
}

fn show_plan(planned: &Planned, context: &Context) -> Result<u8> {
    match context.output {
        Format::Table | Format::Name => print(&render_plan(&planned.plan))?,
        format => document(format, &planned.plan)?,
    }
    for (environment, fault) in &planned.refused {
        say(&format!("{environment}: cannot be backed up now:"));
        super::report(fault, context.output);
    }
    Ok(planned.refused.values().map(Fault::exit_code).next().unwrap_or(super::exit::COMPLETE))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn args(typed: &str) -> BackupArgs {
        let cli = Cli::try_parse_from(typed.split(' ')).unwrap_or_else(|e| panic!("{e}"));
        let Command::Backup(args) = cli.command else { panic!("{typed} is no backup") };
        *args
    }

    fn chosen(typed: &str, configured: &[&str]) -> Result<Vec<String>, &'static str> {
        let configured = configured.iter().map(|name| name.parse().unwrap());
        let chosen = args(typed).environments(configured).map_err(|fault| fault.code)?;
        Ok(chosen.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn environments_are_named_all_or_the_only_one() {
        assert_eq!(chosen("lakehold backup", &["a"]).unwrap(), ["a"]);
        assert_eq!(chosen("lakehold backup", &["a", "b"]), Err("environment.which"));
        assert_eq!(chosen("lakehold backup --all", &["a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(chosen("lakehold backup --env b --env b", &["a", "b"]).unwrap(), ["b"]);
        assert_eq!(chosen("lakehold backup --env c", &["a", "b"]), Err("environment.unknown"));
        assert_eq!(chosen("lakehold backup", &[]), Err("environment.none"));
    }

    #[test]
    fn flags_become_a_selection() {
        assert!(!args("lakehold backup --full").selection().narrows());
        let narrow =
            args("lakehold backup --kind job,query --exclude-kind alert --path /Shared/** --scope shared");
        let selection = narrow.selection();
        assert_eq!(selection.kinds, [Kind::of("job"), Kind::of("query")]);
        assert!(selection.narrows() && selection.shared && !selection.full);
        assert_eq!(selection.paths, ["/Shared/**"]);
    }
}
