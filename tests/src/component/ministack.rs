//! MiniStack: an emulator of AWS in memory, with Object Lock and KMS, that looks at no credentials.

use std::process::Command;
use std::time::Duration;

use aws_sdk_s3::Client;

use super::free_port;
use super::s3::client;
use super::{Component, installed};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A running emulator.
pub struct Ministack {
    pub server: Component,
    pub endpoint: String,
}

impl Ministack {
    /// Starts it, without any bucket.
    pub async fn start() -> Self {
        let hypercorn = installed("hypercorn", "pip install --only-binary :all: ministack hypercorn");
        for _ in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let port = free_port();
            let (program, home) = (hypercorn.clone(), dir.path().to_owned());
            // Its own command listens on every interface; the application below it can be bound.
            let server = Component::start("MiniStack", dir, move || {
                let mut command = Command::new(&program);
                command.current_dir(&home).args(["ministack.app:app", "--keep-alive", "75", "--bind"]);
                command.arg(format!("127.0.0.1:{port}"));
                command.env("GATEWAY_PORT", port.to_string()).env("MINISTACK_HOST", "127.0.0.1");
                command.env("SERVICES", "s3,kms").env("IOT_MTLS_ENABLED", "0").env("SFTP_ENABLED", "0");
                command.env("STATE_DIR", home.join("state")).env("S3_DATA_DIR", home.join("s3"));
                command.env("DOCKER_HOST", "unix:///nonexistent");
                command
            });
            let mut ministack = Self { server, endpoint: format!("http://127.0.0.1:{port}") };
            if ministack.is_ready().await {
                return ministack;
            }
        }
        panic!("MiniStack did not start three times in a row: its log is kept");
    }

    /// A client to look behind the store's back.
    pub fn admin(&self) -> Client {
        client(&self.endpoint, ("any", "any"))
    }

    async fn is_ready(&mut self) -> bool {
        let admin = self.admin();
        let ready = async {
            loop {
                if admin.list_buckets().send().await.is_ok() {
                    return true;
                }
                if !self.server.lives() {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("MiniStack does not answer")
    }
}
