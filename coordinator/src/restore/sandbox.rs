//! The sandbox: a copy of a database for somebody's command to work on, and what the command did to it. The copy is made by a
//! restore that takes nobody's place, and is taken away again, whatever the command came to.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use lakehold_proto::config::PostgresConfig;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{EnvName, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::Act;
use lakehold_worker::guard::{Guard, Guarding};
use lakehold_worker::source::postgres::Sandbox;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

use super::private::OnPrivate;
use super::{Request, Restore, told};
use crate::diff::{FieldChange, compare};
use crate::output::say;

/// The schema name of a [`Rehearsal`].
pub const SANDBOX_SCHEMA: &str = "lakehold.sandbox/v1";

/// What a command did to a copy.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// `lakehold.sandbox/v1`.
    pub schema: &'static str,
    /// The environment whose snapshot was copied.
    pub environment: EnvName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Where the copy was.
    pub on: EnvName,
    /// The server of our own that this was, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<OnPrivate>,
    /// The copy.
    pub database: String,
    /// Seconds that the copy took.
    pub restored_seconds: f64,
    /// What was run.
    pub command: Vec<String>,
    /// How it ended; 128 and more when a signal ended it, as shells tell it.
    pub exit_code: i32,
    /// Seconds that it took.
    pub seconds: f64,
    /// Lines with `WARNING` in them that it wrote to its standard error.
    pub warnings: u64,
    /// What of the database differs: from what it was to what it is.
    pub changes: Vec<FieldChange>,
    /// What is not valid in the end: constraints, indexes, materialised views.
    pub invalid: Vec<String>,
    /// Why the copy could not be taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_behind: Option<String>,
}

impl Restore<'_> {
    /// Runs `command` on the copy that `record` is the restore of, and tells what it did. `quiet` sends the command's output to
    /// standard error. Taking the copy away is the caller's.
    ///
    /// # Errors
    /// `Conflict` (`sandbox.incomplete`) when it is no whole copy; `Config` (`sandbox.command`) when the command cannot be run.
    pub async fn rehearse(
        &self,
        request: &Request,
        server: &PostgresConfig,
        record: &Manifest,
        command: &[String],
        quiet: bool,
        stop: watch::Receiver<bool>,
    ) -> Result<Rehearsal> {
        let store = &self.backup.engine.store;
        if record.gaps() > 0 {
            let detail = super::drill::gaps(&**store, record).await?.join("; ");
            return Err(Fault::new(Class::Conflict, "sandbox.incomplete", "copy a database", detail));
        }
        let told = told(store, record, Act::Complete).await?;
        let database = told.iter().find_map(|told| told["beside"].as_str()).unwrap_or_default().to_owned();
        let sandbox = Sandbox::enter(server, &database).await?;
        let before = sandbox.describe().await?;
        if !quiet {
            say(&format!("{database} is ready; running {}", command.join(" ")));
        }
        let clock = &self.backup.engine.clock;
        let began = clock.tick();
        let (status, warnings) = run(&sandbox, command, quiet, stop).await?;
        let seconds = clock.tick().since(began).as_secs_f64();
        let after = sandbox.describe().await?;
        let mut changes = Vec::new();
        compare(Role::Object, &before, &after, &mut changes);
        let from = &request.from.manifest;
        Ok(Rehearsal {
            schema: SANDBOX_SCHEMA,
            environment: from.environment.clone(),
            snapshot: from.snapshot,
            on: request.target.clone(),
            private: None,
            database,
            restored_seconds: record.run.committed.duration_since(record.run.planned).as_secs_f64().max(0.0),
            command: command.to_vec(),
            exit_code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            seconds,
            warnings,
            changes,
            invalid: invalid(&after),
            left_behind: None,
        })
    }
}

/// All that is not valid.
fn invalid(document: &Value) -> Vec<String> {
    let list = |field: &'static str, what: &'static str| {
        let names = document[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(move |name| format!("{what} {name}"))
    };
    list("not_validated", "constraint")
        .chain(list("invalid_indexes", "index"))
        .chain(list("not_populated", "materialised view"))
        .collect()
}

/// Runs the command to its end. Who is asked to stop passes that on.
async fn run(
    sandbox: &Sandbox,
    command: &[String],
    quiet: bool,
    mut stop: watch::Receiver<bool>,
) -> Result<(ExitStatus, u64)> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Fault::new(Class::Config, "sandbox.command", "run a command", "there is none"));
    };
    let failed = |e: std::io::Error| {
        Fault::new(Class::Config, "sandbox.command", format!("run {program}"), e)
            .hint("check that the program is installed and executable; write a shell's line as: -- sh -c '…'")
    };
    // Should we be killed, so is all that came of it.
    let mut guard =
        Guard::of(find(program).ok_or_else(|| failed(absent()))?, Guarding::default()).map_err(failed)?;
    guard.command.args(arguments).stderr(Stdio::piped());
    if quiet {
        guard.command.stdout(Stdio::from(std::io::stderr()));
    }
    sandbox.tell(&mut guard.command);
    let mut guarded = guard.begin().map_err(failed)?;
    let warnings = guarded.child.stderr.take().map(|errors| tokio::spawn(pass_on(BufReader::new(errors))));
    let ended = tokio::select! {
        ended = guarded.child.wait() => Some(ended),
        _ = stop.wait_for(|stopped| *stopped) => None,
    };
    let status = match ended {
        Some(ended) => ended,
        None => {
            guarded.ask_to_end();
            guarded.child.wait().await
        }
    };
    let status = status.map_err(failed)?;
    let warnings = match warnings {
        Some(warnings) => warnings.await.unwrap_or_default(),
        None => 0,
    };
    Ok((status, warnings))
}

/// A program, by its path or among those of `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn absent() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such program")
}

/// Passes the command's words on, and counts its warnings.
async fn pass_on(mut errors: impl tokio::io::AsyncBufRead + Unpin) -> u64 {
    let (mut warnings, mut line) = (0, Vec::new());
    while let Ok(1..) = errors.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        warnings += u64::from(text.to_uppercase().contains("WARNING"));
        say(text.trim_end_matches('\n'));
        line.clear();
    }
    warnings
}
