//! A server that a test needs, as a process of its own on loopback: RabbitMQ, Redis, PostgreSQL, an S3 server. It dies with its test,
//! however that ends; everything it writes lies in a directory of its own.

pub mod certificates;
pub mod collector;
pub mod http_proxy;
pub mod line;
pub mod ministack;
pub mod pgbouncer;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod s3;
pub mod seaweed;

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// See the module.
pub struct Component {
    pub dir: TempDir,
    name: &'static str,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    child: Option<Child>,
}

impl Component {
    /// Starts the command, and again the same one after each [`Component::kill`]. What it says is in `log`.
    pub fn start(
        name: &'static str,
        dir: TempDir,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        let mut component = Self { dir, name, command: Box::new(command), child: None };
        component.restart();
        component
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().append(true).create(true).open(self.log()).unwrap();
        // The kernel ends it when the thread that started it does: a test that crashes leaves nothing running.
        let wanted = (self.command)();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(wanted.get_program()).args(wanted.get_args());
        if let Some(folder) = wanted.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in wanted.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", self.name)));
    }

    /// Ends it and all that it started, as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take()
            && child.try_wait().unwrap().is_none()
        {
            self.signal_group(&child, "KILL");
            child.wait().unwrap();
        }
    }

    /// Stops it where it is: it answers nothing, and its connections stay.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// What it has said.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Whether it runs still.
    pub fn lives(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Ends the test when it died by itself.
    pub fn must_live(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        let said = || {
            String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default())
                .into_owned()
        };
        assert!(ended.is_none(), "{} ended ({ended:?}): {}", self.name, said());
    }

    fn signal(&self, signal: &str) {
        self.signal_group(self.child.as_ref().expect("it runs"), signal);
    }

    fn signal_group(&self, child: &Child, signal: &str) {
        let group = format!("-{}", child.id());
        let sent = Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap();
        assert!(sent.success(), "cannot send {signal} to {}", self.name);
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.kill();
        self.dir.disable_cleanup(std::thread::panicking());
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// As many ports as are wanted that nobody listens on now, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// The path of a program that `tests/run` installs; ends the test when it is missing.
pub fn installed(name: &str, how: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // A test lies in target/release/deps, a benchmark in target/release, the tools in target/tools.
    let tools = own.ancestors().skip(2).take(2).map(|folder| folder.join("tools/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = tools.chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
    let found = places.find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run tests/run once, or {how}"))
}
