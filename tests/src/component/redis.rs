//! Redis on loopback, alone or with replicas and Sentinels. Needs Debian's `redis-server` (7.0 in Debian 12), which brings
//! `redis-cli`, `redis-sentinel` for failover, and `openssl` for TLS. Nothing is kept on disk: restarted, it is empty.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::{Component, free_port};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A server.
pub struct Redis {
    pub server: Component,
    pub port: u16,
    /// Where it speaks TLS, if it was asked to.
    pub tls_port: Option<u16>,
}

/// A primary, two replicas, and three Sentinels that watch them under the name `m`.
pub struct Watched {
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Redis>,
}

impl Redis {
    /// Starts one with these settings besides (`--maxmemory 10mb`) and waits until it answers.
    pub async fn start(settings: &[&str]) -> Self {
        Self::start_with("redis-server", settings, |_, _| Vec::new()).await
    }

    /// Starts one that speaks TLS too, and wants a certificate of its clients if `mutual`.
    pub async fn start_tls(certificates: &Certificates, mutual: bool) -> Self {
        let file = |name: &str| certificates.path(name).display().to_string();
        let clients = if mutual { "yes" } else { "no" };
        let settings = [
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.pem")),
            ("--tls-auth-clients", clients.to_owned()),
        ];
        let settings: Vec<&str> = settings.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
        let mut tls_port = 0;
        let mut redis = Self::start_with("redis-server", &settings, |_, _| {
            tls_port = free_port();
            vec!["--tls-port".to_owned(), tls_port.to_string()]
        })
        .await;
        redis.tls_port = Some(tls_port);
        redis
    }

    /// A port that somebody took in the meantime costs another try.
    async fn start_with(
        program: &'static str,
        settings: &[&str],
        mut more: impl FnMut(&Path, u16) -> Vec<String>,
    ) -> Self {
        installed(program, if program == "redis-server" { "redis-server" } else { "redis-sentinel" });
        for _ in 0..5 {
            let (dir, port) = (TempDir::new().unwrap(), free_port());
            let folder = dir.path().display().to_string();
            let more = more(dir.path(), port);
            let mut arguments: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
            if program == "redis-server" {
                let port = port.to_string();
                let own = [
                    "--bind",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--dir",
                    &folder,
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ];
                let socket = format!("{folder}/socket");
                let own = own.into_iter().chain(["--unixsocket", &socket]).map(str::to_owned);
                arguments.splice(0..0, own);
            }
            arguments.extend(more);
            let server = Component::start(program, dir, move || {
                let mut command = Command::new(program);
                command.args(&arguments);
                command
            });
            let mut redis = Self { server, port, tls_port: None };
            if redis.becomes_ready().await {
                return redis;
            }
        }
        panic!("{program} does not start; its directory is kept");
    }

    /// Starts it again, empty, after it was killed.
    pub async fn restart(&mut self) {
        self.server.restart();
        assert!(self.becomes_ready().await, "redis does not start again");
    }

    /// Its address in the clear.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.server.dir.path().join("socket")
    }

    /// What it says to a command.
    pub fn cli(&self, command: &[&str]) -> String {
        let out = self.ask(command);
        assert!(!out.starts_with("ERR") && !out.starts_with("NO"), "{command:?}: {out}");
        out
    }

    fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let out = Command::new("redis-cli").args(["-p", &port]).args(command).output();
        let out = out.expect("redis-cli comes with Debian's redis-tools");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    async fn becomes_ready(&mut self) -> bool {
        let clock = SystemClock::shared();
        let began = clock.tick();
        while clock.tick().since(began) < PATIENCE {
            if !self.server.lives() {
                return false;
            }
            if self.ask(&["ping"]) == "PONG" {
                // Another server may have the port, while ours is about to end for want of it.
                return self.ask(&["info", "server"]).contains(&format!("process_id:{}", self.server.id()));
            }
            clock.sleep(LOOK).await;
        }
        false
    }
}

impl Watched {
    /// Starts all six, and waits until they know each other.
    pub async fn start() -> Self {
        let primary = Redis::start(&[]).await;
        let port = primary.port.to_string();
        let follow = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let servers = vec![primary, Redis::start(&follow).await, Redis::start(&follow).await];
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let watch = |folder: &Path, own: u16| {
                let path = folder.join("sentinel.conf");
                let settings = format!(
                    "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {port} 2\n\
                     sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 5000\n",
                    folder.display()
                );
                std::fs::write(&path, settings).unwrap();
                vec![path.display().to_string()]
            };
            sentinels.push(Redis::start_with("redis-sentinel", &[], watch).await);
        }
        let watched = Self { servers, sentinels };
        watched.know_each_other().await;
        watched
    }

    /// Where to ask for the primary.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/m", hosts.join(","))
    }

    async fn know_each_other(&self) {
        let clock = SystemClock::shared();
        let began = clock.tick();
        let settled = |sentinel: &Redis| {
            sentinel.ask(&["sentinel", "ckquorum", "m"]).starts_with("OK 3")
                && sentinel.ask(&["sentinel", "replicas", "m"]).matches("master-link-status\nok").count() == 2
        };
        while !self.sentinels.iter().all(settled) {
            assert!(clock.tick().since(began) < PATIENCE, "the Sentinels do not find each other");
            clock.sleep(LOOK).await;
        }
    }
}

fn installed(program: &str, package: &str) {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found, "{program} is missing: run tests/run once, or apt-get install {package}");
}
