//! A server of our own, for as long as somebody needs it: to try a snapshot where nothing is anybody's.
//!
//! It lies in a folder that only its user comes to, is reached by a socket there and by no network, and keeps nothing: what it
//! has is a copy. **A crash**, or any other end of ours, takes it and its folder along: it runs under a [`guard`](crate::guard).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lakehold_proto::clock::SharedClock;
use lakehold_proto::config::PostgresConfig;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::plan::Probe;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::geteuid;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::probe::FACT_VERSION;
use super::programs::{self, Server};
use super::session::last_words;
use crate::guard::{Folder, Guard, Guarded, Guarding};

/// Its superuser. No snapshot is likely to have a role of this name, so all that are in one come back.
const SUPERUSER: &str = "lakehold_private";
/// Who a server runs as where we are root, which it refuses.
const NOBODY: &str = "postgres";
/// Bytes that a socket's path may have (`sun_path`, with its end).
const LONGEST: usize = 107;
/// The socket's name.
const SOCKET: &str = ".s.PGSQL.5432";
/// How often it is looked whether it is ready.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes a cluster (`$0`: the programs, `$1`: its folder), and becomes its server.
const SCRIPT: &str = r#"programs=$0 data=$1; shift
"$programs/initdb" --pgdata="$data" --username=lakehold_private --auth=trust --encoding=UTF8 --no-locale --no-sync >/dev/null &&
    exec "$programs/postgres" -D "$data" "$@""#;

/// What makes it fast, and lets it be forgotten. Shared memory lies in files of its own, so that a killed one leaves none
/// elsewhere, and containers that give `/dev/shm` little room do.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "archive_mode=off",
    "max_wal_size=4GB",
    "checkpoint_timeout=1h",
    "maintenance_work_mem=256MB",
    "dynamic_shared_memory_type=mmap",
    "logging_collector=off",
    "log_min_messages=fatal",
    "log_min_error_statement=panic",
];

/// What a private server is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The server that its databases are of, where it is configured: for its programs, and how much is done at once.
    pub like: Option<&'a PostgresConfig>,
    /// What was found out of that server.
    pub probe: &'a Probe,
    /// Where its folder is made.
    pub place: &'a Path,
}

/// See the module. Dropped, it ends by itself.
#[derive(Debug)]
pub struct PrivateServer {
    config: PostgresConfig,
    version: String,
    folder: PathBuf,
    guarded: Guarded,
    words: Option<JoinHandle<Vec<u8>>>,
}

impl PrivateServer {
    /// Makes a cluster of the version of the snapshot's server, or of the next newer one there is, and starts it. Folders that
    /// killed ones left in the same place are deleted.
    ///
    /// # Errors
    /// `Config`: `pg.scratch-dir` when a folder cannot be made there, `pg.no-server` when no such version is installed, `pg.root` when we are root and there is no user `postgres`,
    /// `pg.socket` when the folder's path is too long; `Unavailable` (`pg.private`) when it does not start.
    pub async fn start(wish: Wish<'_>, clock: &SharedClock) -> Result<Self> {
        let major = wish.probe.facts.get(FACT_VERSION).and_then(|version| programs::major(version));
        let server = Server::find(wish.like.and_then(|like| like.programs.as_deref()), major).await?;
        let user = nobody().await?;
        let folder = Folder::make(wish.place, user).map_err(|e| {
            let doing = format!("make a folder in {}", wish.place.display());
            Fault::new(Class::Config, "pg.scratch-dir", doing, e)
                .hint("name another place with --scratch-dir, or by TMPDIR")
        })?;
        let path = folder.path().to_owned();
        reachable(&path)?;
        let guarding = Guarding { user, quits: true, folder: Some(folder) };
        let unguarded = |e: std::io::Error| failed(format!("begin it: {e}"));
        let mut guard = Guard::of("/bin/sh", guarding).map_err(unguarded)?;
        guard.command.args(["-c", SCRIPT]).arg(&server.folder).arg(path.join("data"));
        guard.command.arg("-c").arg(format!("unix_socket_directories={}", path.display()));
        guard.command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        programs::apart(&mut guard.command);
        guard.command.current_dir("/").stdout(Stdio::null());
        let mut guarded = guard.begin().map_err(unguarded)?;
        let words = guarded.child.stderr.take().map(|errors| tokio::spawn(last_words(errors)));
        let config = config(&path, wish.like);
        let mut private = Self { config, version: server.version, folder: path, guarded, words };
        private.becomes_ready(clock).await?;
        Ok(private)
    }

    /// How it is reached.
    pub const fn config(&self) -> &PostgresConfig {
        &self.config
    }

    /// What it says of its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where all of it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it, and waits until nothing of it is left. Called again, it does nothing.
    ///
    /// # Errors
    /// `Unavailable` (`pg.private`) when something is.
    pub async fn end(&mut self) -> Result<()> {
        let ended = self.guarded.end().await.map_err(|e| failed(format!("end it: {e}")))?;
        if self.folder.exists() {
            let detail =
                format!("its guard ended with {ended}, and {} is still there", self.folder.display());
            return Err(
                failed(detail).hint("the next private server that is made in the same place deletes it")
            );
        }
        Ok(())
    }

    /// Waits until it answers.
    async fn becomes_ready(&mut self, clock: &SharedClock) -> Result<()> {
        let began = clock.tick();
        // The server writes there how far it is: <https://www.postgresql.org/docs/17/storage-file-layout.html>
        let state = self.folder.join("data/postmaster.pid");
        while clock.tick().since(began) < PATIENCE {
            let is_ready = std::fs::read_to_string(&state)
                .is_ok_and(|told| told.lines().last().is_some_and(|line| line.trim() == "ready"));
            if is_ready {
                return Ok(());
            }
            let ended = self.guarded.child.try_wait();
            if let Some(ended) = ended.map_err(|e| failed(format!("look after it: {e}")))? {
                let words = match self.words.take() {
                    Some(words) => words.await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let words = String::from_utf8_lossy(&words);
                return Err(failed(format!("it does not start ({ended}): {}", words.trim())));
            }
            clock.sleep(LOOK).await;
        }
        Err(failed(format!("it is not ready after {} s", PATIENCE.as_secs())))
    }
}

/// The server as it is configured for us.
fn config(folder: &Path, like: Option<&PostgresConfig>) -> PostgresConfig {
    let host = utf8_percent_encode(&folder.to_string_lossy(), NON_ALPHANUMERIC).to_string();
    let jobs = like.map_or_else(|| PostgresConfig::default().jobs, |like| like.jobs);
    PostgresConfig {
        url: Some(format!("postgresql:///postgres?host={host}&port=5432&user={SUPERUSER}")),
        programs: like.and_then(|like| like.programs.clone()),
        jobs,
        ..PostgresConfig::default()
    }
}

/// Refuses a folder in which a socket could not be found.
fn reachable(folder: &Path) -> Result<()> {
    let length = folder.join(SOCKET).as_os_str().len();
    if length <= LONGEST && folder.to_str().is_some_and(|path| !path.contains([',', '\'', '"'])) {
        return Ok(());
    }
    let detail =
        format!("a socket's path has at most {LONGEST} bytes, and no quotation marks: {}", folder.display());
    Err(Fault::new(Class::Config, "pg.socket", "make a private server", detail)
        .hint("name a place with a shorter path: --scratch-dir DIR"))
}

/// The user and the group that a server runs as, where it cannot run as us.
async fn nobody() -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let ids = async |which: &str| {
        let said = Command::new("id").args([which, NOBODY]).stderr(Stdio::null()).output().await.ok()?;
        String::from_utf8_lossy(&said.stdout).trim().parse().ok()
    };
    user_of(ids("-u").await, ids("-g").await).map(Some)
}

fn user_of(user: Option<u32>, group: Option<u32>) -> Result<(u32, u32)> {
    user.zip(group).ok_or_else(|| {
        let detail = format!("PostgreSQL's server does not run as root, and there is no user {NOBODY:?}");
        Fault::new(Class::Config, "pg.root", "make a private server", detail)
            .hint("run lakehold as another user, or install PostgreSQL's server (Debian: apt-get install postgresql)")
    })
}

fn failed(detail: String) -> Fault {
    Fault::new(Class::Unavailable, "pg.private", "run a private server", detail)
}

#[cfg(test)]
mod tests {
    use super::super::connection::Connection;
    use super::*;

    #[test]
    fn it_is_reached_by_its_socket_alone() {
        let like = PostgresConfig { jobs: 2, insecure: true, ..PostgresConfig::default() };
        let given = config(Path::new("/tmp/odd place/x"), Some(&like));
        let connection = Connection::from_config(&given).unwrap();
        assert_eq!((given.jobs, given.insecure, given.password.is_none()), (2, false, true));
        let url = connection.url("a b");
        for part in
            ["postgresql:///a%20b?", "host=%2Ftmp%2Fodd%20place%2Fx", "port=5432", "user=lakehold%5Fprivate"]
        {
            assert!(url.reveal().contains(part), "{part}: {}", url.reveal());
        }
        assert!(connection.variables().contains(&("PGHOST", "/tmp/odd place/x".into())));
    }

    #[test]
    fn what_cannot_be_is_said_with_a_way_out() {
        let long = PathBuf::from("/").join("x".repeat(95));
        assert_eq!(reachable(&long).unwrap_err().code, "pg.socket");
        reachable(Path::new("/tmp/lakehold-private-01234567")).unwrap();
        assert_eq!(user_of(None, Some(1)).unwrap_err().code, "pg.root");
        assert_eq!(user_of(Some(101), Some(104)).unwrap(), (101, 104));
        assert!(SCRIPT.contains(&format!("--username={SUPERUSER} ")));
    }
}
