//! The command line: what may be typed, and where each verb is carried out. One file a verb.

mod attend;
mod backup;
mod completions;
mod config;
mod confirm;
mod context;
mod demo;
mod diff;
mod doctor;
mod drill;
mod errors;
mod history;
mod init;
mod ls;
mod private;
mod restore;
mod run;
mod runs;
mod sandbox;
mod serve;
mod show;
mod snapshots;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
mod verify;
mod watch;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use lakehold_proto::config::Asked;
use lakehold_proto::fault::Result;
use lakehold_worker::guard::{GUARD, GuardArgs};

pub use backup::BackupArgs;
pub use context::Context;
pub use demo::DemoArgs;
pub use errors::report;

use crate::output::Format;

/// Exit codes that are no fault. The codes of faults are [`lakehold_proto::fault::Fault::exit_code`].
pub mod exit {
    /// All is well.
    pub const COMPLETE: u8 = 0;
    /// Nothing usable came of it.
    pub const FAILED: u8 = 1;
    /// Usable, with gaps.
    pub const PARTIAL: u8 = 3;
    /// A plan has items that come back as less, or not at all.
    pub const SHORT: u8 = 4;
    /// Something is damaged.
    pub const INTEGRITY: u8 = 5;
    /// An objective is breached, and `--strict` asked.
    pub const OBJECTIVE: u8 = 6;
    /// A difference was found, and `--exit-code` asked.
    pub const DIFFERENCE: u8 = 8;
}

const EXIT_CODES: &str = "\
Exit codes:
  0 complete   1 failed   2 usage or configuration   3 partial: usable, gaps are listed
  4 a plan has degraded or blocked items   5 damage   6 an objective is breached   7 denied   8 a difference (--exit-code)
  10 no store   11 lock not obtained   130 cancelled;  take an unknown code for a failure

Addresses:
  prod  prod@latest  prod@2026-08-01  prod@2026-08-01T02:00Z  prod@0198c1e2  (first digits of an id)
  prod:job  prod@latest:job/nightly-etl  prod:job/nightly-etl#123  prod:job/#123  (by key)";

/// Lakehold keeps recoverable, provable copies of Databricks workspaces.
#[derive(Debug, Parser)]
#[command(name = "lakehold", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file [default: $LAKEHOLD_CONFIG, ./lakehold.yaml, the XDG directory, /etc/lakehold]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The store, in place of the configured one: a path, file:///path or s3://bucket/folder
    #[arg(long, global = true, value_name = "STORE")]
    pub store: Option<String>,
    /// A profile of the Databricks CLI, in place of the configured environments
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// How to write data to standard output
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// What to log to standard error, such as `info` or `lakehold=debug` [default: $RUST_LOG, or warn]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log more: -v what happens, -vv how
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No progress, and only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Global {
    /// What of it decides the configuration.
    pub fn asked(&self) -> Asked {
        Asked { config: self.config.clone(), store: self.store.clone(), profile: self.profile.clone() }
    }

    /// What to log: `--log`, else `$RUST_LOG`, else by `-v` and `-q`.
    pub fn filter(&self) -> String {
        let by_count = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "warn,lakehold=info,lakehold_worker=info,lakehold_proto=info",
            (_, 2) => "info,lakehold=debug,lakehold_worker=debug,lakehold_proto=debug",
            _ => "debug",
        };
        let variable = || std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
        self.log.clone().or_else(variable).unwrap_or_else(|| by_count.to_owned())
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Back environments up, each into a new snapshot
    Backup(Box<BackupArgs>),
    /// List the snapshots in the store
    Snapshots(snapshots::SnapshotsArgs),
    /// List the items in a snapshot
    Ls(ls::LsArgs),
    /// Show one item of a snapshot
    Show(show::ShowArgs),
    /// Bring items of a snapshot back, into the same environment or another: plans first, changes nothing without --apply
    Restore(Box<restore::RestoreArgs>),
    /// Compare two snapshots, item by item and field by field
    Diff(diff::DiffArgs),
    /// Tell every version of one item, and what changed in each
    History(history::HistoryArgs),
    /// Prove a snapshot: restore it into a sandbox, compare, clean up
    Drill(drill::DrillArgs),
    /// Copy a database, run a command on the copy, and tell what it did
    Sandbox(sandbox::SandboxArgs),
    /// Let go what a passive restore held: schedules, triggers, idle machines, scripts
    Activate(restore::ActivateArgs),
    /// Read snapshots back and check every hash
    Verify(verify::VerifyArgs),
    /// Tell how old each environment's last good snapshot is, against its objective
    Status(status::StatusArgs),
    /// List the runs recorded in the store
    Runs(runs::RunsArgs),
    /// Show, watch or cancel a run
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Look at tasks that the broker set aside, and send them again
    #[command(subcommand)]
    Tasks(tasks::TasksCommand),
    /// Coordinate as a service: take runs over an API, run schedules, finish runs that others left
    Serve(serve::ServeArgs),
    /// Make a store, and find out what it can do
    Init(init::InitArgs),
    /// Check the configuration, the store and the secrets
    Doctor(doctor::DoctorArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Try it all on simulated workspaces: back up, change, compare, restore into another, verify
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// See that a program does not outlive the one that began us
    #[command(name = GUARD, hide = true)]
    Guard(GuardArgs),
}

/// Carries out what was typed. Returns the exit code.
///
/// # Errors
/// Whatever ends the verb early; its exit code is the fault's.
pub async fn run(cli: Cli) -> Result<u8> {
    let global = cli.global;
    match cli.command {
        Command::Completions(args) => completions::run(&args),
        Command::Guard(_) => unreachable!("main stands guard, before there is a runtime"),
        Command::Config(command) => config::run(&command, &global),
        Command::Demo(args) => demo::run(args, &global).await,
        Command::Doctor(args) => doctor::run(&args, &global).await,
        Command::Backup(args) => backup::run(*args, &global).await,
        Command::Init(args) => init::run(&args, &Context::load(&global).await?).await,
        Command::Snapshots(args) => snapshots::run(&args, &Context::open(&global).await?).await,
        Command::Ls(args) => ls::run(&args, &Context::open(&global).await?).await,
        Command::Show(args) => show::run(&args, &Context::open(&global).await?).await,
        Command::Restore(args) => restore::run(*args, &Context::load(&global).await?).await,
        Command::History(args) => history::run(&args, &Context::open(&global).await?).await,
        Command::Drill(args) => drill::run(&args, &Context::load(&global).await?).await,
        Command::Sandbox(args) => sandbox::run(&args, &Context::load(&global).await?).await,
        Command::Activate(args) => restore::activate(&args, &Context::load(&global).await?).await,
        Command::Diff(args) => diff::run(&args, &Context::open(&global).await?).await,
        Command::Verify(args) => verify::run(&args, &Context::open(&global).await?).await,
        Command::Status(args) => status::run(&args, &Context::load(&global).await?).await,
        Command::Run(command) => run::run(&command, &global).await,
        Command::Tasks(command) => tasks::run(&command, &global).await,
        Command::Serve(args) => serve::run(&args, &global).await,
        Command::Runs(args) => runs::run(&args, &Context::open(&global).await?).await,
    }
}
