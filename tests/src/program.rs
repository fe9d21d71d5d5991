//! The real binary, run as a person runs it: configuration, token and store in a directory of their own.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::outcome::Outcome;
use lakehold_sim::Sim;
use serde_json::Value;
use tempfile::TempDir;

use crate::component::free_port;

/// No condition of a test may take longer, on however loaded a machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// The token of a service.
pub const TOKEN: &str = "0f3c-a-token-of-the-service";
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// See the module. Its directory is kept when a test fails, so that one can look at it.
pub struct Program {
    pub dir: TempDir,
    started: std::cell::Cell<u32>,
    variables: RefCell<Vec<(String, String)>>,
}

/// A process of the binary; killed when dropped.
pub struct Running {
    child: Child,
    typed: String,
    out: PathBuf,
    pub err: PathBuf,
}

/// How a process of the binary ended.
#[derive(Debug)]
pub struct Ran {
    pub typed: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The binary beside this test's own executable.
pub fn binary() -> PathBuf {
    beside("lakehold")
}

fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // A test lies a folder below the binaries, a benchmark with them.
    let mut places = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = places.find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name}: run `cargo build --release --workspace --bins`"))
}

impl Program {
    /// A configuration of `environments`: names and hosts, all with `token`.
    pub fn new(environments: &[(&str, &str)], token: &str) -> Self {
        let mut dir = tempfile::tempdir().unwrap();
        dir.disable_cleanup(true);
        let program = Self { dir, started: std::cell::Cell::new(0), variables: RefCell::default() };
        program.token(token);
        let mut config = String::from("version: 1\nstore: store\nenvironments:\n");
        for (name, host) in environments {
            let token = program.path("token");
            config += &format!(
                "  {name}:\n    databricks:\n      host: {host}\n      token: \"file:{}\"\n",
                token.display()
            );
        }
        program.configure(&config);
        program
    }

    /// A configuration of `prod`, which is the first workspace of `sim`.
    pub fn of(sim: &Sim) -> Self {
        Self::new(&[("prod", &sim.url(0))], sim.token())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a variable of the environment of what is started from now on.
    pub fn variable(&self, name: &str, value: &str) {
        self.variables.borrow_mut().push((name.into(), value.into()));
    }

    /// Puts more into the configuration of `prod`, which must be its last environment.
    pub fn configure_prod(&self, text: &str) {
        self.configure_more(&format!("    {text}\n"));
    }

    /// Forgets a variable.
    pub fn without(&self, name: &str) {
        self.variables.borrow_mut().retain(|(given, _)| given != name);
    }

    /// Puts more into the configuration, at its top level.
    pub fn configure_more(&self, text: &str) {
        let path = self.path("lakehold.yaml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}{text}")).unwrap();
    }

    /// Configures a service on a port of its own, whose API wants [`TOKEN`].
    pub fn configure_service(&self) -> u16 {
        let (port, token) = (free_port(), self.path("api-token"));
        std::fs::write(&token, TOKEN).unwrap();
        self.configure_more(&format!(
            "coordinator: {{listen: '127.0.0.1:{port}', token: 'file:{}'}}\n",
            token.display()
        ));
        port
    }

    /// Hands backups over to the service at `port` from now on.
    pub fn hand_over(&self, port: u16) {
        let text = std::fs::read_to_string(self.path("lakehold.yaml")).unwrap();
        let url = format!("coordinator: {{url: 'http://127.0.0.1:{port}', ");
        self.configure(&text.replace("coordinator: {", &url));
    }

    /// Writes another token.
    pub fn token(&self, token: &str) {
        std::fs::write(self.path("token"), token).unwrap();
    }

    /// Writes another configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.path("lakehold.yaml"), text).unwrap();
    }

    /// Starts `lakehold -c … <typed>`; words are parted by blanks. Nothing of this process's environment reaches it.
    pub fn start(&self, typed: &str) -> Running {
        self.start_words(&typed.split(' ').collect::<Vec<_>>())
    }

    /// The same of words that hold blanks.
    pub fn start_words(&self, words: &[&str]) -> Running {
        self.start_binary(&binary(), words)
    }

    /// Starts a worker of the fleet.
    pub fn worker(&self, words: &[&str]) -> Running {
        self.start_binary(&beside("lakehold-worker"), words)
    }

    fn start_binary(&self, binary: &Path, words: &[&str]) -> Running {
        let number = self.started.replace(self.started.get() + 1);
        let (out, err) = (self.path(&format!("out-{number}")), self.path(&format!("err-{number}")));
        let mut command = Command::new(binary);
        command
            .arg("-c")
            .arg(self.path("lakehold.yaml"))
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .envs(self.variables.borrow().iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), typed: words.join(" "), out, err }
    }

    /// Runs `lakehold -c … <typed>` to its end.
    pub async fn run(&self, typed: &str) -> Ran {
        self.start(typed).end().await
    }

    /// Runs a backup that must end with `code`, and answers what it says of `prod`.
    pub async fn backup(&self, typed: &str, code: i32) -> Value {
        let ran = self.run(format!("backup -o json {typed}").trim_end()).await;
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        ran.json()["environments"]["prod"].clone()
    }

    /// The outcomes in the store, of all its runs.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for run in folders(&self.path("store/runs")) {
            let environments = folders(&run.join("outcomes"));
            for batch in environments.iter().flat_map(|environment| folders(environment)) {
                let files = std::fs::read_dir(&batch).unwrap().map(|file| file.unwrap().path());
                outcomes
                    .extend(files.map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()));
            }
        }
        outcomes
    }

    /// How many attempts have settled their tasks.
    pub fn settled(&self) -> usize {
        self.outcomes().iter().filter(|outcome| outcome.settles()).count()
    }

    /// The manifests in the store, of all environments.
    pub fn manifests(&self) -> Vec<PathBuf> {
        let snapshots = folders(&self.path("store/snapshots"));
        let all = snapshots.iter().flat_map(|environment| folders(environment));
        all.map(|snapshot| snapshot.join("manifest.json")).filter(|path| path.is_file()).collect()
    }

    /// The runs in the store: those whose plan is there whole.
    pub fn runs(&self) -> usize {
        folders(&self.path("store/runs")).iter().filter(|run| run.join("plan.json").is_file()).count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.dir.disable_cleanup(std::thread::panicking());
    }
}

impl Running {
    /// Ends it as the kernel does: nothing of it runs any more when this returns.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code(), None, "`{}` ended by itself before it was killed", self.typed);
    }

    /// Sends Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Asks it to end, as Kubernetes does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Stops it where it is: it does nothing, and its connections stay.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether it runs still.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that it had resident so far, in bytes; `None` when it has ended.
    pub fn peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `condition` holds, while it runs.
    pub async fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let (typed, said) = (self.typed.clone(), self.err.clone());
        let child = &mut self.child;
        until(what, || {
            if condition() {
                return true;
            }
            let ended = child.try_wait().unwrap();
            let said = || String::from_utf8_lossy(&std::fs::read(&said).unwrap()).into_owned();
            assert!(ended.is_none(), "`{typed}` ended ({ended:?}) before {what}: {}", said());
            false
        })
        .await;
    }

    /// Waits until it has written `words` for people.
    pub async fn says(&mut self, words: &str) {
        let said = self.err.clone();
        let says = || String::from_utf8_lossy(&std::fs::read(&said).unwrap()).contains(words);
        self.until(&format!("saying {words:?}"), says).await;
    }

    /// What it has written for people so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap()).into_owned()
    }

    /// Waits for its end.
    pub async fn end(self) -> Ran {
        self.end_within(PATIENCE).await
    }

    /// Waits for its end that may take longer than any condition of a test.
    pub async fn end_within(mut self, patience: Duration) -> Ran {
        let mut status = None;
        let what = format!("`{}` to end", self.typed);
        let ended = || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        };
        until_within(patience, &what, ended).await;
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Ran {
            typed: self.typed.clone(),
            code: status.and_then(|status| status.code()),
            out: read(&self.out),
            err: read(&self.err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; a process that cannot be killed is for the test's runner to report.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Its standard output as a document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no document ({e}): {self:#?}"))
    }

    /// The error that it ended with: it must have ended with `code` and say each of `words`.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let said = format!("{}{}", self.out, self.err);
        for word in words {
            assert!(said.contains(word), "it does not say {word:?}: {self:#?}");
        }
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(PATIENCE, what, condition).await;
}

async fn until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let clock: SharedClock = SystemClock::shared();
    while !condition() {
        assert!(clock.tick().elapsed() < patience, "waited {patience:?} for {what}");
        clock.sleep(LOOK).await;
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(path) else { return Vec::new() };
    let mut folders: Vec<_> = read.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
