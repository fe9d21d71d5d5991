//! PostgreSQL's own programs: where they are, which version, and how they are begun.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lakehold_proto::fault::{Class, Fault, Result};
use tokio::process::Command;

use super::connection::Connection;

/// Where packages put them, a folder for each major version: there Debian's wrapper is not in between.
const FOLDERS: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/postgresql"];

/// What a folder of the client's programs must have.
const CLIENT: &[&str] = &["pg_dump", "psql"];
/// What a folder of the server's must have.
const SERVER: &[&str] = &["postgres", "initdb"];

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
        for folder in folder.map_or_else(|| candidates(CLIENT), |folder| vec![folder.to_owned()]) {
            let Some((major, version)) = version_of("pg_dump", &folder).await else { continue };
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
    /// Whoever may look at its environment reads the password there. What our own environment says of a server is not for it.
    pub(super) fn tell(&self, command: &mut Command, database: &str) {
        Connection::known().for_each(|variable| {
            command.env_remove(variable);
        });
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
        apart(&mut command);
        command.envs(self.connection.variables().iter().map(|(name, value)| (name, value)));
        command.env("PGAPPNAME", "lakehold").kill_on_drop(true);
        command
    }
}

/// PostgreSQL's server, as it is installed here.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Where it is, with `initdb`.
    pub(super) folder: PathBuf,
    /// What it says of its version.
    pub(super) version: String,
}

impl Server {
    /// Finds the one nearest to `major`, and no older: in the folder that was configured, else among all there are. The newest
    /// where `major` is not known.
    ///
    /// # Errors
    /// `Config` (`pg.no-server`) when there is none.
    pub(super) async fn find(folder: Option<&Path>, major: Option<u32>) -> Result<Self> {
        let mut found = Vec::new();
        for folder in folder.map(Path::to_owned).into_iter().chain(candidates(SERVER)) {
            let Some((is, version)) = version_of("postgres", &folder).await else { continue };
            if folder.join("initdb").is_file() {
                found.push((is, Self { folder, version }));
            }
        }
        let there: Vec<_> = found.iter().map(|(_, server)| server.version.clone()).collect();
        nearest(found, major).ok_or_else(|| {
            let wanted = major.map_or_else(String::new, |major| format!(" of version {major} or newer"));
            let there = if there.is_empty() { "none".into() } else { there.join(", ") };
            let detail = format!("there is no postgres and initdb{wanted} here; what is here: {there}");
            let package = major.map_or_else(|| "postgresql".into(), |major| format!("postgresql-{major}"));
            Fault::new(Class::Config, "pg.no-server", "find PostgreSQL's server", detail).hint(format!(
                "install it (Debian: apt-get install {package}), or try it on a server that runs: --to ENV"
            ))
        })
    }
}

/// The first of the oldest that are no older than `major`; of all, the newest, where that is not known.
fn nearest<T>(mut found: Vec<(u32, T)>, major: Option<u32>) -> Option<T> {
    found.retain(|(is, _)| major.is_none_or(|major| *is >= major));
    let wanted = found.iter().map(|(is, _)| *is);
    let wanted = if major.is_some() { wanted.min() } else { wanted.max() }?;
    found.into_iter().find(|(is, _)| *is == wanted).map(|(_, found)| found)
}

/// Keeps a program of PostgreSQL's apart: from our environment, from the keys of a terminal, and with its words for us.
pub(super) fn apart(command: &mut Command) {
    command.env_clear();
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("LC_ALL", "C").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Makes room in a pipe through which rows flow. Where the system refuses, it is slower.
pub(super) fn widen(pipe: impl AsFd) {
    _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
}

/// Folders that have these programs, each once.
fn candidates(programs: &[&str]) -> Vec<PathBuf> {
    let packaged = FOLDERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let packaged = packaged.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    distinct(packaged.chain(std::env::split_paths(&path)), programs)
}

/// Of some folders those that have these programs, by where the programs are in the end. What is there by another name is a
/// wrapper, as Debian's in `/usr/bin`, that leads to one of the others and takes a tenth of a second to say so.
fn distinct(folders: impl Iterator<Item = PathBuf>, programs: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let is_here = |program: &&str| {
            let is = folder.join(program).canonicalize().ok()?;
            (is.is_file() && is.file_name() == Some(OsStr::new(program))).then_some(is)
        };
        let Some(all) = programs.iter().map(is_here).collect::<Option<Vec<_>>>() else { continue };
        // Links in one folder may lead to several: then only the links are all in one place.
        let mut folders: Vec<_> = all.iter().filter_map(|program| program.parent()).collect();
        folders.dedup();
        let is = if let [one] = folders[..] { one.to_owned() } else { folder };
        if !found.contains(&is) {
            found.push(is);
        }
    }
    found
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
async fn version_of(program: &str, folder: &Path) -> Option<(u32, String)> {
    let said = Command::new(folder.join(program)).arg("--version").output().await.ok()?;
    let said = String::from_utf8_lossy(&said.stdout);
    let version = said.split_once(") ")?.1.trim();
    Some((major(version)?, version.to_owned()))
}

/// The major one of a version as the server tells it.
pub(super) fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_server_is_no_older() {
        let there = || vec![(17, "a"), (13, "b"), (15, "c"), (15, "d")];
        for (major, expected) in [
            (Some(14), Some("c")),
            (Some(15), Some("c")),
            (Some(16), Some("a")),
            (Some(18), None),
            (None, Some("a")),
        ] {
            assert_eq!(nearest(there(), major), expected, "{major:?}");
        }
        assert_eq!(
            (major("15.18 (Debian 15.18-0+deb12u1)"), major("17beta1"), major("")),
            (Some(15), Some(17), None)
        );
    }

    #[test]
    fn programs_are_found_once_and_not_behind_a_wrapper() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = dir.path().canonicalize().unwrap().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (real, wrapped, linked, half) =
            (folder("15"), folder("bin"), folder("alternatives"), folder("half"));
        for program in CLIENT {
            std::fs::write(real.join(program), "").unwrap();
            std::fs::write(dir.path().join("pg_wrapper"), "").unwrap();
            std::os::unix::fs::symlink("../pg_wrapper", wrapped.join(program)).unwrap();
            std::os::unix::fs::symlink(real.join(program), linked.join(program)).unwrap();
        }
        std::fs::write(half.join("psql"), "").unwrap();
        let mixed = folder("mixed");
        std::os::unix::fs::symlink(real.join("pg_dump"), mixed.join("pg_dump")).unwrap();
        std::os::unix::fs::symlink(half.join("psql"), mixed.join("psql")).unwrap();
        let all = [wrapped, linked, half, real.clone(), mixed.clone(), dir.path().join("none")];
        assert_eq!(distinct(all.into_iter(), CLIENT), [real, mixed]);
    }

    #[tokio::test]
    async fn a_missing_server_is_told_with_a_way_out() {
        let fault = Server::find(None, Some(9999)).await.unwrap_err();
        assert_eq!((fault.code, fault.class), ("pg.no-server", Class::Config));
        assert!(fault.detail.contains("9999") && fault.hint.is_some_and(|hint| hint.contains("--to")));
    }
}
