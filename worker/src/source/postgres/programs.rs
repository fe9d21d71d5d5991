//! PostgreSQL's own programs: where they are, which version, and how they are begun.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lakehold_proto::fault::{Class, Fault, Result};
use tokio::process::Command;

use super::connection::Connection;

/// Where packages put them, a folder for each major version: there Debian's wrapper is not in between.
const FOLDERS: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/postgresql"];

/// What a program gets of our own environment. Not the rest: a variable may hold a URL with a password in it, and those of
/// libpq would have a say.
const KEPT: &[&str] = &["PATH", "HOME", "LD_LIBRARY_PATH", "KRB5CCNAME", "KRB5_CONFIG", "KRB5_CLIENT_KTNAME"];

/// What a pipe with rows holds, in bytes: four times what it is made with, so that two sides that share a core change places
/// less often.
const PIPE: usize = 256 * 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    /// The major version of `pg_dump`.
    pub(super) major: u32,
    /// What it says of its version.
    pub(super) version: String,
    connection: Connection,
}

impl Programs {
    /// Finds the newest there are, or those of the folder that was configured.
    ///
    /// # Errors
    /// `Config` when there are none.
    pub(super) async fn find(folder: Option<&Path>, connection: &Connection) -> Result<Self> {
        let mut newest: Option<Self> = None;
        for folder in folder.map_or_else(candidates, |folder| vec![folder.to_owned()]) {
            let Some((major, version)) = version_in(&folder).await else { continue };
            if newest.as_ref().is_none_or(|newest| newest.major < major) {
                newest = Some(Self { folder, major, version, connection: connection.clone() });
            }
        }
        newest.ok_or_else(|| {
            let place = folder.map_or("here".into(), |folder| format!("in {}", folder.display()));
            let detail = format!("there is no pg_dump and psql {place}");
            Fault::new(Class::Config, "pg.no-programs", "find PostgreSQL's programs", detail).hint(
                "install them (Debian: apt-get install postgresql-client), or name their folder: `programs:`",
            )
        })
    }

    /// One of them, on its way to `database` (`None`: where lists are asked for). It never asks for a password, is killed
    /// with whoever waits for it, and is not reached by the keys of a terminal.
    pub(super) fn command(&self, program: &str, database: Option<&str>) -> Command {
        let mut command = self.program(program);
        command.args(["-w", "-d", &self.connection.to(database)]);
        command
    }

    /// One that takes the database as its last argument: `-d` means something else to it. `None` where it is not installed.
    pub(super) fn optional(&self, program: &str, arguments: &[&str], database: &str) -> Option<Command> {
        let mut command = self.folder.join(program).is_file().then(|| self.program(program))?;
        command.arg("-w").args(arguments).arg(self.connection.to(Some(database)));
        Some(command)
    }

    /// Tells a program of somebody else's the way to a database: by libpq's variables, and by a URL for those who read no others.
    /// Whoever may look at its environment reads the password there.
    pub(super) fn tell(&self, command: &mut Command, database: &str) {
        command.envs(self.connection.variables().iter().map(|(name, value)| (name, value)));
        command.env("PGDATABASE", database);
        command.env("DATABASE_URL", self.connection.url(database).reveal());
    }

    /// One that goes nowhere.
    pub(super) fn offline(&self, program: &str) -> Command {
        self.program(program)
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(self.connection.variables().iter().map(|(name, value)| (name, value)));
        command.env("LC_ALL", "C").env("PGAPPNAME", "lakehold");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// Makes room in a pipe through which rows flow. Where the system refuses, it is slower.
pub(super) fn widen(pipe: impl AsFd) {
    _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
}

fn candidates() -> Vec<PathBuf> {
    let packaged = FOLDERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let packaged = packaged.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = packaged.chain(std::env::split_paths(&path)).collect();
    found.retain(|folder| folder.join("pg_dump").is_file() && folder.join("psql").is_file());
    found
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
async fn version_in(folder: &Path) -> Option<(u32, String)> {
    let said = Command::new(folder.join("pg_dump")).arg("--version").output().await.ok()?;
    let said = String::from_utf8_lossy(&said.stdout);
    let version = said.split_once(") ")?.1.trim();
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some((major, version.to_owned()))
}
