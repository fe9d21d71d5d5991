//! RabbitMQ on loopback, with its management API. Needs Debian's `rabbitmq-server` (3.10 in Debian 12), and `openssl` for
//! TLS. Nothing outside its own directories is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use lakehold_proto::queue::QueueName;
use reqwest::Method;
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::{Component, free_port};
use crate::program::until;

/// Not the scripts in /usr/sbin, which change to the system's own user and directory.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// How long one that starts may think about an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A broker; user and password are `guest`.
pub struct Rabbit {
    server: Component,
    // After the server, which needs it to its end.
    _names: Component,
    home: PathBuf,
    certificates: Certificates,
    ports: Ports,
    http: reqwest::Client,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    amqps: u16,
    api: u16,
    nodes: u16,
    names: u16,
}

impl Rabbit {
    /// Starts one and waits until it is ready. A port that somebody took in the meantime costs another try.
    pub async fn start() -> Self {
        for program in ["rabbitmq-server", "rabbitmqctl"] {
            let path = Path::new(PROGRAMS).join(program);
            assert!(path.is_file(), "{} is missing: apt-get install rabbitmq-server", path.display());
        }
        for _ in 0..3 {
            let mut rabbit = Self::begin();
            if rabbit.become_ready().await {
                return rabbit;
            }
        }
        panic!("the broker does not start; its directory is kept");
    }

    fn begin() -> Self {
        let ports = Ports {
            amqp: free_port(),
            amqps: free_port(),
            api: free_port(),
            nodes: free_port(),
            names: free_port(),
        };
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        let certificates = Certificates::new();
        let file = |name: &str, text: &str| std::fs::write(home.join(name), text).unwrap();
        file("rabbitmq.conf", &configuration(&certificates, ports));
        file("enabled_plugins", "[rabbitmq_management].");
        let names = Component::start("epmd", tempfile::tempdir().unwrap(), move || {
            let mut command = Command::new("epmd");
            command.args(["-address", "127.0.0.1", "-port", &ports.names.to_string()]);
            command
        });
        let at = home.clone();
        let server = Component::start("rabbitmq-server", dir, move || program(&at, ports, "rabbitmq-server"));
        // A port that somebody else took in the meantime may belong to a server that never answers.
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { server, _names: names, home, certificates, ports, http }
    }

    /// The URL of the plain port.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.ports.amqp)
    }

    /// The URL of the TLS port.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}", self.ports.amqps)
    }

    /// A file of its certificates.
    pub fn file(&self, name: &str) -> PathBuf {
        self.certificates.path(name)
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again after it was killed, with the disk it had.
    pub async fn restart(&mut self) {
        self.server.restart();
        assert!(self.become_ready().await, "the broker does not start again");
    }

    /// Starts it again after it was killed, with an empty disk.
    pub async fn restart_wiped(&mut self) {
        std::fs::remove_dir_all(self.home.join("mnesia")).unwrap();
        self.restart().await;
    }

    /// Waits until the broker has written down that `queue` exists. 3.10 does so half a second after it was declared, and has
    /// lost all of a quorum queue if it is killed before.
    pub async fn written(&self, queue: &QueueName) {
        until("the broker to write down a queue", || self.has_written(queue)).await;
    }

    /// Whether the broker has done so.
    pub fn has_written(&self, queue: &QueueName) -> bool {
        let names = self.home.join("mnesia").join(NODE).join("quorum").join(NODE).join("names.dets");
        let name = queue.as_str().as_bytes();
        std::fs::read(names).is_ok_and(|bytes| bytes.windows(name.len()).any(|some| some == name))
    }

    /// Stops it where it is; its connections stay.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// Runs `rabbitmqctl`.
    pub fn control(&self, words: &[&str]) {
        let mut command = program(&self.home, self.ports, "rabbitmqctl");
        let ran = command.args(["-n", NODE, "-q"]).args(words).output().unwrap();
        assert!(ran.status.success(), "rabbitmqctl {words:?}: {ran:?}");
    }

    /// Calls the management API at `/api/<path>`; what it answers, or null.
    pub async fn api(&self, method: Method, path: &str, body: Value) -> Value {
        let mut call = self.http.request(method, self.at(path)).basic_auth("guest", Some("guest"));
        if !body.is_null() {
            call = call.json(&body);
        }
        let answer = call.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Declares a queue as somebody else would.
    pub async fn declare(&self, queue: &str, arguments: Value) {
        let body = json!({"durable": true, "arguments": arguments});
        self.api(Method::PUT, &format!("queues/%2F/{queue}"), body).await;
    }

    /// Deletes a queue, with what lies in it.
    pub async fn delete(&self, queue: &str) {
        self.delete_at("%2F", queue).await;
    }

    /// The same of another virtual host.
    pub async fn delete_at(&self, host: &str, queue: &str) {
        self.api(Method::DELETE, &format!("queues/{host}/{queue}"), Value::Null).await;
    }

    /// How many messages lie in a queue, those under way included.
    pub async fn depth(&self, queue: &str) -> u64 {
        // The figures of a listing lag behind; a fetch that puts everything back counts.
        let body =
            json!({"count": 100_000, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 1});
        let got = self.api(Method::POST, &format!("queues/%2F/{queue}/get"), body).await;
        got.as_array().map_or(0, Vec::len).try_into().unwrap()
    }

    /// Puts a message into a queue as somebody else would.
    pub async fn put(&self, queue: &str, payload: &str) {
        let body =
            json!({"properties": {}, "routing_key": queue, "payload": payload, "payload_encoding": "string"});
        let answer = self.api(Method::POST, "exchanges/%2F/amq.default/publish", body).await;
        assert_eq!(answer["routed"], true, "{queue} takes it");
    }

    /// Closes every connection whose name for people begins with `name`, and answers how many there were.
    pub async fn cut(&self, name: &str) -> usize {
        self.cut_at(None, name).await
    }

    /// The same of one virtual host.
    pub async fn cut_at(&self, host: Option<&str>, name: &str) -> usize {
        let mut cut = 0;
        for connection in self.api(Method::GET, "connections", Value::Null).await.as_array().unwrap() {
            let shown = connection["user_provided_name"].as_str().unwrap_or_default();
            let is_there = host.is_none_or(|host| connection["vhost"] == host);
            if is_there && shown.starts_with(name) {
                let path =
                    format!("connections/{}", connection["name"].as_str().unwrap().replace(' ', "%20"));
                let call = self.http.delete(self.at(&path.replace('>', "%3E")));
                // One that ended meanwhile is not there to be closed.
                cut += usize::from(
                    call.basic_auth("guest", Some("guest")).send().await.unwrap().status().is_success(),
                );
            }
        }
        cut
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/{path}", self.ports.api)
    }

    /// Waits until it serves; false when it died.
    async fn become_ready(&mut self) -> bool {
        let clock = SystemClock::shared();
        loop {
            // A broker that just starts may take a question and never answer it: the next one is answered.
            let asked = self.http.get(self.at("overview")).timeout(ANSWER);
            let answer = asked.basic_auth("guest", Some("guest")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            if !self.server.lives() {
                return false;
            }
            assert!(clock.tick().elapsed() < PATIENCE, "the broker is not ready after {PATIENCE:?}");
            clock.sleep(LOOK).await;
        }
    }
}

const NODE: &str = "test@localhost";

fn program(home: &Path, ports: Ports, name: &str) -> Command {
    let at = |name: &str| home.join(name);
    let mut command = Command::new(Path::new(PROGRAMS).join(name));
    command
        .current_dir(home)
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        // Replaces the shell by the broker, so that signals meet the broker.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
        .env("RABBITMQ_LOG_BASE", at("logs"))
        .env("RABBITMQ_PID_FILE", at("pid"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
        // Missing, or the system's own would be read.
        .env("RABBITMQ_CONF_ENV_FILE", at("none"))
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-noinput -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        )
        .env("RABBITMQ_CTL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1");
    command
}

fn configuration(certificates: &Certificates, ports: Ports) -> String {
    let Ports { amqp, amqps, api, .. } = ports;
    let [authority, certificate, key] =
        ["ca.pem", "server.pem", "server.key"].map(|name| certificates.path(name).display().to_string());
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = {api}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
collect_statistics_interval = 500
log.console = true
log.file = false
"
    )
}
