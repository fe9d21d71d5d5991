//! `lakehold backup`: what may be typed; a run of this process, or one that the service carries out.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::plan::Plan;
use lakehold_proto::store::identity;
use lakehold_worker::signals::Signals;

use super::attend::attend;
use super::watch::Watch;
use super::{Context, Global};
use crate::backup::asked::Asked;
use crate::backup::progress::expected;
use crate::backup::summary::{Summary, render_plan};
use crate::backup::{Ended, Planned, Request};
use crate::engine::drive::EnvEnd;
use crate::output::{Format, document, print, say};
use crate::running::Running;
use crate::serve::client::Client;
use crate::serve::wire::Accepted;

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
    /// The same, for whoever carries it out.
    pub fn asked(&self) -> Asked {
        Asked {
            environments: self.environments.clone(),
            all: self.all,
            kinds: self.kinds.clone(),
            exclude_kinds: self.exclude_kinds.clone(),
            paths: self.paths.clone(),
            shared: self.scope == Scope::Shared,
            full: self.full,
            tags: self.tags.clone(),
            resume: self.resume,
            dry_run: self.dry_run,
        }
    }
}

pub(super) async fn run(args: BackupArgs, global: &Global) -> Result<u8> {
    let settings = Context::settings(global)?;
    // Who names another store or another workspace than the service has means a run of their own.
    let own = global.store.is_some() || global.profile.is_some();
    if !own && let Some(service) = Client::configured(&settings.config.coordinator)? {
        return hand_over(&service, &args.asked(), global).await;
    }
    coordinate(&args.asked(), &Context::over(settings, global).await?).await
}

/// Carries the run out in this process.
async fn coordinate(asked: &Asked, context: &Context) -> Result<u8> {
    let config = &context.settings.config;
    let request = asked.request(config.environments.keys().cloned())?;
    let store = open_store(&request, context).await?;
    let running = context.running(store.as_deref()).await?;
    if request.dry_run {
        let Planned { plan, refused, .. } = running.backup.plan(&request).await?;
        return show_plan(&plan, &refused, context.output);
    }
    let ended = carry_out(&running, &request, context).await?;
    running.close().await;
    tell(&Summary::of(&ended), context.output)
}

/// Lets the service carry it out, and looks on.
async fn hand_over(service: &Client, asked: &Asked, global: &Global) -> Result<u8> {
    let mut signals = Signals::listen()?;
    let accepted = tokio::select! {
        accepted = service.begin(asked) => accepted?,
        () = signals.next() => return Err(interrupted_early()),
    };
    let Accepted { run, planned, resumed, environments, refused, plan, .. } = accepted;
    let refused: BTreeMap<_, _> =
        refused.into_iter().map(|(name, fault)| (name, fault.into_fault())).collect();
    if let Some(plan) = plan {
        return show_plan(&plan, &refused, global.output);
    }
    let Some(run) = run else {
        let environments = refused.into_iter().map(|(name, fault)| (name, EnvEnd::Nothing(fault))).collect();
        if !global.quiet {
            say(&beginning(None, false, &[]));
        }
        return tell(&Summary::of(&Ended { plan: None, environments }), global.output);
    };
    if !global.quiet {
        let names: Vec<_> = environments.keys().map(EnvName::as_str).collect();
        say(&beginning(Some((run, planned)), resumed, &names));
    }
    let watch = Watch { run, environments: environments.into_iter().collect(), quiet: global.quiet };
    tell(&watch.over(service, signals).await?, global.output)
}

fn interrupted_early() -> Fault {
    let detail = "it was interrupted before the service had answered";
    Fault::new(Class::Cancelled, "run.interrupted", "hand a backup over", detail)
        .hint("the service may have begun it all the same: `lakehold runs` tells")
}

/// Writes down what a run came to.
pub(super) fn tell(summary: &Summary, output: Format) -> Result<u8> {
    match output {
        Format::Table => print(&summary.render())?,
        Format::Name => print(&summary.addresses())?,
        format => document(format, summary)?,
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

/// Plans and carries out, showing how far it is. Either way it ends, the run can be resumed.
async fn carry_out(running: &Running, request: &Request, context: &Context) -> Result<Ended> {
    attend(running, context, "back up", async |attended| {
        let planned = running.backup.plan(request).await?;
        let plan = &planned.plan;
        if !context.quiet {
            let names: Vec<_> =
                plan.environments.iter().map(|planned| planned.environment.as_str()).collect();
            let head = (!names.is_empty()).then_some((plan.run, plan.created));
            say(&beginning(head, planned.resumed, &names));
        }
        attended
            .watch(expected(plan), async |view, stop| running.backup.carry_out(planned, view, stop).await)
            .await
    })
    .await
}

/// `run`: its id, and when it was planned.
fn beginning(run: Option<(RunId, Timestamp)>, resumed: bool, names: &[&str]) -> String {
    match (run, resumed) {
        (None, _) => "no environment can be backed up".into(),
        (Some((run, planned)), true) => format!("resuming {run} of {planned}: {}", names.join(", ")),
        (Some((run, _)), false) => format!("{run}: backing up {}", names.join(", ")),
    }
}

fn show_plan(plan: &Plan, refused: &BTreeMap<EnvName, Fault>, output: Format) -> Result<u8> {
    match output {
        Format::Table | Format::Name => print(&render_plan(plan))?,
        format => document(format, plan)?,
    }
    for (environment, fault) in refused {
        say(&format!("{environment}: cannot be backed up now:"));
        super::report(fault, output);
    }
    Ok(refused.values().map(Fault::exit_code).next().unwrap_or(super::exit::COMPLETE))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use lakehold_proto::ids::Kind;

    use super::*;

    fn args(typed: &str) -> BackupArgs {
        let cli = Cli::try_parse_from(typed.split(' ')).unwrap_or_else(|e| panic!("{e}"));
        let Command::Backup(args) = cli.command else { panic!("{typed} is no backup") };
        *args
    }

    fn chosen(typed: &str, configured: &[&str]) -> Result<Vec<String>, &'static str> {
        let configured = configured.iter().map(|name| name.parse().unwrap());
        let chosen = args(typed).asked().environments(configured).map_err(|fault| fault.code)?;
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
        assert!(!args("lakehold backup --full").asked().selection().narrows());
        let narrow =
            args("lakehold backup --kind job,query --exclude-kind alert --path /Shared/** --scope shared");
        let selection = narrow.asked().selection();
        assert_eq!(selection.kinds, [Kind::of("job"), Kind::of("query")]);
        assert!(selection.narrows() && selection.shared && !selection.full);
        assert_eq!(selection.paths, ["/Shared/**"]);
    }
}
