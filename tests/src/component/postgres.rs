//! PostgreSQL on loopback and a socket: a cluster of its own. Needs Debian's `postgresql` (15 in Debian 12). Its server runs
//! under no root: where the test does, under Debian's user `postgres`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use tempfile::TempDir;

use super::{Component, free_port};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// The password of the user `postgres`.
pub const PASSWORD: &str = "the-tests-own";

/// A server.
pub struct Postgres {
    pub server: Component,
    pub port: u16,
}

/// The folder of its programs: the newest.
pub fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").is_file());
    found.sort();
    found.pop().expect("PostgreSQL is not installed: run tests/run once, or apt-get install postgresql")
}

impl Postgres {
    /// Makes a cluster, starts it with these settings besides (`wal_level=logical`), and waits until it answers.
    pub async fn start(settings: &[&str]) -> Self {
        Self::start_as(settings, make).await
    }

    /// Starts one that follows this one.
    pub async fn standby(&self) -> Self {
        let port = self.port.to_string();
        Self::start_as(&[], |folder| {
            let mut copy = as_nobody("pg_basebackup");
            copy.args(["-w", "-R", "-c", "fast", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-D"]);
            copy.arg(folder.join("data")).env("PGPASSWORD", PASSWORD);
            run(copy);
        })
        .await
    }

    async fn start_as(settings: &[&str], make: impl Fn(&Path)) -> Self {
        for _ in 0..5 {
            let (dir, port) = (TempDir::new().unwrap(), free_port());
            open(dir.path());
            make(dir.path());
            let mut own: Vec<String> =
                ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=127.0.0.1"]
                    .iter()
                    .chain(settings)
                    .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
                    .collect();
            let socket = dir.path().display().to_string();
            own.extend([
                "-p".into(),
                port.to_string(),
                "-k".into(),
                socket.clone(),
                "-D".into(),
                format!("{socket}/data"),
            ]);
            let server = Component::start("postgres", dir, move || {
                let mut command = as_nobody("postgres");
                command.args(&own).current_dir("/");
                command
            });
            let mut postgres = Self { server, port };
            if postgres.becomes_ready().await {
                return postgres;
            }
        }
        panic!("postgres does not start; its directory is kept");
    }

    /// Starts it again after it was ended.
    pub async fn restart(&mut self) {
        let clock = SystemClock::shared();
        let began = clock.tick();
        loop {
            self.server.kill();
            self.server.restart();
            // What is left of the one before may stand in its way for a moment.
            if self.becomes_ready().await {
                return;
            }
            assert!(clock.tick().since(began) < PATIENCE, "postgres does not start again");
        }
    }

    /// Puts a file that nobody else may read into its data.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.server.dir.path().join("data").join(name);
        std::fs::write(&path, bytes).unwrap();
        give(&path, 0o600);
    }

    /// Its address for `user`, who is asked for a password that is not in it.
    pub fn url(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs SQL as `postgres`, and returns what it answers; ends the test if it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let (done, said) = self.try_sql(database, sql);
        done.unwrap_or_else(|| panic!("{sql}: {said}"))
    }

    /// The number that its version begins with.
    pub fn major(&self) -> u32 {
        self.sql("postgres", "select current_setting('server_version_num')::int / 10000").parse().unwrap()
    }

    /// The same, with what was said if it fails.
    pub fn try_sql(&self, database: &str, sql: &str) -> (Option<String>, String) {
        let mut child = self.psql(database).spawn().unwrap();
        let written = child.stdin.take().unwrap().write_all(sql.as_bytes());
        let ended = child.wait_with_output().unwrap();
        // One that cannot connect ends without reading; how it ended tells so.
        assert!(written.is_ok() || !ended.status.success(), "{written:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (ended.status.success().then(|| text(&ended.stdout)), text(&ended.stderr))
    }

    /// `psql` that reads SQL from its standard input.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = self.program("psql", database);
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// One of its programs, as `postgres`.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command.args([
            "-w",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        command.env("PGPASSWORD", PASSWORD).env("PGCLIENTENCODING", "UTF8");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn becomes_ready(&mut self) -> bool {
        let clock = SystemClock::shared();
        let began = clock.tick();
        while clock.tick().since(began) < PATIENCE {
            if !self.server.lives() {
                return false;
            }
            let pid = std::fs::read_to_string(self.server.dir.path().join("data/postmaster.pid"));
            let is_ours = pid.is_ok_and(|pid| pid.lines().next() == Some(&self.server.id().to_string()));
            if is_ours && self.try_sql("postgres", "select 1").0.is_some() {
                return true;
            }
            clock.sleep(LOOK).await;
        }
        false
    }
}

/// The server's user must come to its data.
pub fn open(folder: &Path) {
    give(folder, 0o755);
}

/// Gives something to the server's user.
fn give(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if is_root() {
        let mut command = Command::new("chown");
        command.arg("postgres:").arg(path);
        run(command);
    }
}

fn run(mut command: Command) {
    let done = command.current_dir("/").output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn make(folder: &Path) {
    let data = folder.join("data");
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = as_nobody("initdb");
    command.args([
        "-A",
        "scram-sha-256",
        "-U",
        "postgres",
        "--no-sync",
        "--locale=C.UTF-8",
        "--encoding=UTF8",
    ]);
    command.arg("-D").arg(&data).arg(format!("--pwfile={}", password.display()));
    run(command);
}

/// A program of PostgreSQL's, or of another by its path, under a user that is not root.
pub(super) fn as_nobody(program: &str) -> Command {
    let program = programs().join(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // That it dies with its test is forgotten when the user changes.
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "KILL", "--"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}
