//! A pooler before a PostgreSQL server. Needs Debian's `pgbouncer`.

use std::process::Command;
use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use tempfile::TempDir;

use super::postgres::{PASSWORD, as_nobody, open};
use super::{Component, free_port};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// See the module.
pub struct PgBouncer {
    pub server: Component,
    pub port: u16,
}

impl PgBouncer {
    /// Starts one before the server at `server`, in this mode: `session` or `transaction`.
    pub async fn start(server: u16, mode: &str) -> Self {
        let found = Command::new("pgbouncer").arg("--version").output().is_ok();
        assert!(found, "pgbouncer is missing: run tests/run once, or apt-get install pgbouncer");
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        open(dir.path());
        let (users, settings) = (dir.path().join("users"), dir.path().join("settings"));
        std::fs::write(&users, format!("\"postgres\" \"{PASSWORD}\"\n")).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\nunix_socket_dir =\n",
            users.display()
        );
        std::fs::write(&settings, text).unwrap();
        let server = Component::start("pgbouncer", dir, move || {
            let mut command = as_nobody("/usr/sbin/pgbouncer");
            command.arg(&settings).current_dir("/");
            command
        });
        let mut pooler = Self { server, port };
        let clock = SystemClock::shared();
        let began = clock.tick();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            pooler.server.must_live();
            assert!(clock.tick().since(began) < PATIENCE, "pgbouncer does not start");
            clock.sleep(LOOK).await;
        }
        pooler
    }
}
