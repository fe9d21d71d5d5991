//! `lakehold backup`: what may be typed.

use clap::{Args, ValueEnum};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::plan::Selection;

use super::Context;

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
    let environments = args.environments(context.settings.config.environments.keys().cloned())?;
    let _ = (environments, args.selection());
    Err(Fault::new(
        Class::Unsupported,
        "backup.no-source",
        "back up",
        "this build has no source to back up from",
    ))
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
