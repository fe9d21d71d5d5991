//! What a fleet leans on fails in the midst of a run: its broker, its Redis, its bucket, the lines to them, the workspace, and
//! its own processes. Whatever it is, the run ends, and its content root is that of one that was left alone.
#![allow(clippy::print_stdout, reason = "how often a run had to be resumed is worth a look")]

mod lines;
mod processes;
mod servers;
mod workspaces;

use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use lakehold_sim::{Effect, Fault, Population, Sim, SimConfig, When};
use lakehold_tests::fleet::{Addresses, Servers, root};
use lakehold_tests::program::{Program, Ran, Running};

const ITEMS: usize = 150;
const JOBS: &str = "/api/2.*/jobs/list";
const BACKUP: &str = "backup -o json";
/// Scenes at once: most of their time is waiting.
const AT_ONCE: usize = 3;

/// An installation on servers that it shares with other scenes, and a workspace of its own.
struct Scene {
    name: &'static str,
    sim: Sim,
    program: Program,
    workers: Vec<Running>,
}

impl Scene {
    async fn new(servers: &Servers, name: &'static str) -> Self {
        Self::at(servers, name, servers.addresses()).await
    }

    /// One that finds the servers elsewhere.
    async fn at(servers: &Servers, name: &'static str, addresses: Addresses) -> Self {
        let sim = workspace().await;
        let program = servers.install_at(name, &sim, addresses).await;
        Self { name, sim, program, workers: Vec::new() }
    }

    fn add_worker(&mut self) {
        self.workers.push(self.program.worker(&["--slots", "2"]));
    }

    /// A run with two workers that is in its midst, and does not end before [`Scene::ends`] lets it.
    async fn run(&mut self) -> Running {
        self.add_worker();
        self.add_worker();
        self.begin().await
    }

    async fn begin(&mut self) -> Running {
        self.fault(Some(JOBS), 1, 1, Effect::Delay { ms: 600_000 });
        let mut run = self.program.start(BACKUP);
        run.until("some bodies", || self.exports() >= 5).await;
        run
    }

    fn fault(&self, path: Option<&str>, nth: u64, times: u64, effect: Effect) {
        let path = path.map(str::to_owned);
        let (method, query, workspace) = (None, None, None);
        let fault = Fault { method, path, query, workspace, nth, times, when: When::Before, effect };
        self.sim.add_fault(fault).unwrap();
    }

    fn exports(&self) -> u64 {
        self.sim.calls().count(|call| call.path.ends_with("/workspace/export") && call.status == 200)
    }

    fn sign_ins(&self) -> u64 {
        self.sim.calls().count(|call| call.path.ends_with("/token") && call.status == 200)
    }

    /// Lets the run end, and is followed by others as long as it can be resumed. It is complete, as if nothing had been.
    async fn ends(&self, run: Running) {
        self.sim.clear_faults();
        let ended = run.end().await;
        self.ended(ended).await;
    }

    async fn ended(&self, mut ended: Ran) {
        let mut resumed = 0;
        while ended.code != Some(0) {
            let again = ended.code.is_none() || ended.code == Some(1) || ended.code == Some(11);
            if !again || resumed == 5 {
                let gaps = self.program.run("ls prod --gaps").await.out;
                panic!("{}: {ended:#?}\n{gaps}", self.name);
            }
            println!("{}: resumed after {}", self.name, ended.err.lines().last().unwrap_or_default());
            resumed += 1;
            ended = self.program.run(&format!("{BACKUP} --resume")).await;
        }
        self.is_right(&ended).await;
        println!("{}: complete, resumed {resumed} times", self.name);
    }

    async fn is_right(&self, ended: &Ran) {
        assert_eq!(ended.code, Some(0), "{}: {ended:#?}", self.name);
        let said = &ended.json()["environments"]["prod"];
        assert_eq!(
            (root(said), said["state"].as_str()),
            (expected().await, Some("complete")),
            "{}",
            self.name
        );
        let listed = self.program.run("snapshots -o json").await.json();
        assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{}: {listed:#}", self.name);
        let verified = self.program.run("verify --all").await;
        assert_eq!(verified.code, Some(0), "{}: {verified:#?}", self.name);
    }
}

/// The same each time; a little late, so that a run has a midst.
async fn workspace() -> Sim {
    let (population, latency) = (Population::Items(ITEMS), Duration::from_millis(5));
    Sim::start(SimConfig { population, latency, ..SimConfig::default() }).await.unwrap()
}

/// The root of a run that is left alone.
async fn expected() -> String {
    static ROOT: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    let alone = async || root(&Program::of(&workspace().await).backup("", 0).await);
    ROOT.get_or_init(alone).await.clone()
}

/// For how long something is wrong.
async fn seconds(seconds: f64) {
    SystemClock::shared().sleep(Duration::from_secs_f64(seconds)).await;
}
