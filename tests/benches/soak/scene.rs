//! What is on the stage: the servers, the workers, and the coordinator of the run that is under way.

use std::collections::BTreeMap;
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_sim::{Limits, Population, Sim, SimConfig};
use lakehold_tests::fleet::{Servers, install, sign_in_with_oauth};
use lakehold_tests::program::{Program, Ran, Running};

use crate::nemesis::Nemesis;
use crate::verdict::{Tally, What};

const WORKSPACES: usize = 3;
const ITEMS: usize = 250;
/// Workers at the start.
const WORKERS: usize = 3;
/// A coordinator that ended is followed by the next after so long.
const PAUSE: Duration = Duration::from_millis(500);
const BACKUP: &str = "backup --all --full --quiet -o json";

/// See the module.
pub(crate) struct Scene {
    pub(crate) sim: Sim,
    pub(crate) servers: Servers,
    pub(crate) workers: Vec<Running>,
    /// How many workers there should be: one that ends by itself, or is killed, is followed by another.
    pub(crate) wanted: usize,
    /// Those that were told to end.
    pub(crate) leaving: Vec<Running>,
    pub(crate) coordinator: Option<Running>,
    /// A second coordinator of the same run.
    pub(crate) rival: Option<Running>,
    pub(crate) clock: SharedClock,
    pub(crate) tally: Tally,
    program: Program,
    began: Tick,
    run_began: Option<Tick>,
    resume: bool,
    resumed: usize,
    idle_since: Tick,
}

impl Scene {
    /// Starts everything, and makes the run that the others are held against.
    pub(crate) async fn set(clock: SharedClock) -> Self {
        let config = SimConfig {
            workspaces: WORKSPACES,
            population: Population::Items(ITEMS),
            limits: Limits::real(),
            latency: Duration::from_millis(10),
            ..SimConfig::default()
        };
        let sim = Sim::start(config).await.unwrap();
        let servers = Servers::start().await;
        let program = install("soak", &sim, &servers.addresses()).await;
        sign_in_with_oauth(&program, "prod1");
        let began = clock.tick();
        let mut scene = Self {
            sim,
            servers,
            workers: Vec::new(),
            wanted: WORKERS,
            leaving: Vec::new(),
            coordinator: None,
            rival: None,
            clock,
            tally: Tally::default(),
            program,
            began,
            run_began: None,
            resume: false,
            resumed: 0,
            idle_since: began,
        };
        scene.keep_workers();
        let ran = scene.program.run(BACKUP).await;
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        scene.tally.expect(&ran);
        scene.say(&format!("undisturbed: {WORKSPACES} environments are complete"));
        scene.sim.reset_calls();
        scene
    }

    /// Says something that happened.
    pub(crate) fn say(&self, what: &str) {
        println!("[{:8.1} s] {what}", self.clock.tick().since(self.began).as_secs_f64());
    }

    /// How long the run under way has been so, over all coordinators that it had.
    pub(crate) fn age_of_run(&self) -> Duration {
        self.run_began.map_or(Duration::ZERO, |began| self.clock.tick().since(began))
    }

    /// Starts a second coordinator of the run under way, when the first one's locks are forgotten.
    pub(crate) fn start_rival(&mut self) {
        self.servers.redis.cli(&["FLUSHALL"]);
        self.rival = Some(self.program.start(&format!("{BACKUP} --resume")));
    }

    /// The coordinator was killed.
    pub(crate) fn lost_coordinator(&mut self) {
        self.coordinator = None;
        self.resume = true;
        self.idle_since = self.clock.tick();
    }

    /// Sees who ended, starts who should be there, and answers whether nothing is under way. A run that ended is
    /// followed by another if `go_on`.
    pub(crate) async fn look(&mut self, go_on: bool) -> bool {
        self.watch_memory();
        self.keep_workers();
        if let Some(ran) = ended(&mut self.rival).await {
            let what = self.tally.judge(&ran);
            self.say(&format!("the rival: {what:?}"));
        }
        if let Some(ran) = ended(&mut self.coordinator).await {
            self.idle_since = self.clock.tick();
            self.judge(&ran);
        }
        let is_idle = self.coordinator.is_none();
        let under_way = self.run_began.is_some();
        if is_idle && (under_way || go_on) && self.clock.tick().since(self.idle_since) >= PAUSE {
            let typed = if self.resume { format!("{BACKUP} --resume") } else { BACKUP.to_owned() };
            self.resumed += usize::from(self.resume);
            self.coordinator = Some(self.program.start(&typed));
            let now = self.clock.tick();
            self.run_began.get_or_insert(now);
        }
        !under_way && is_idle && self.rival.is_none()
    }

    fn judge(&mut self, ran: &Ran) {
        let what = self.tally.judge(ran);
        let took = self.age_of_run().as_secs_f64();
        match &what {
            What::Resumable(why) => {
                self.say(&format!("the coordinator ended: {why}"));
                self.resume = true;
                return;
            }
            // The one that was killed had ended its run, or never begun one.
            What::NothingToResume => {
                self.resume = false;
                return;
            }
            What::Ended(states) => {
                self.say(&format!("a run ended in {took:.1} s, resumed {} times: {states}", self.resumed));
            }
        }
        self.tally.run(took, self.resumed);
        (self.run_began, self.resume, self.resumed) = (None, false, 0);
    }

    fn keep_workers(&mut self) {
        let before = self.workers.len();
        self.workers.retain_mut(Running::lives);
        self.leaving.retain_mut(Running::lives);
        self.tally.workers_ended += before - self.workers.len();
        while self.workers.len() < self.wanted {
            self.workers.push(self.program.worker(&["--slots", "4", "--log", "warn"]));
        }
    }

    fn watch_memory(&mut self) {
        let workers = self.workers.iter().chain(&self.leaving).filter_map(Running::peak).max();
        let coordinators = self.coordinator.iter().chain(&self.rival).filter_map(Running::peak).max();
        self.tally.memory(workers, coordinators);
    }

    /// One more run that is left alone, all that was committed, and all that is stored.
    pub(crate) async fn last_look(&mut self) -> bool {
        let ran = self.program.run(BACKUP).await;
        let what = self.tally.judge(&ran);
        self.say(&format!("the last run: {what:?}"));
        let listed = self.program.run("snapshots -o json").await;
        let mut sound = ran.code == Some(0) && listed.code == Some(0);
        for wrong in self.tally.compare(&listed) {
            self.say(&wrong);
            sound = false;
        }
        let verified = self.program.start("verify --all");
        let verified = verified.end_within(Duration::from_secs(1800)).await;
        self.say(&format!(
            "verify --all: {:?} {}",
            verified.code,
            verified.out.lines().last().unwrap_or(&verified.err)
        ));
        sound && verified.code == Some(0)
    }

    /// The figures, and whether all was well.
    pub(crate) async fn sum_up(self, seed: u64, nemesis: &Nemesis, sound: bool) -> bool {
        let minutes = self.clock.tick().since(self.began).as_secs_f64() / 60.0;
        let calls = self.sim.calls();
        let sound = sound && self.tally.is_sound();
        let blows: Vec<_> = nemesis.counts().into_iter().map(|(blow, n)| format!("{blow:?} {n}")).collect();
        let reasons: BTreeMap<_, _> = self.tally.reasons.iter().collect();
        println!("faults: {}", blows.join(", "));
        println!("reasons of gaps and of coordinators that ended early: {reasons:?}");
        println!(
            "soak {}: {minutes:.1} min, seed {seed}, {} faults; {}; {} calls, {} of them throttled by the workspace's limits",
            if sound { "ok" } else { "FAILED" },
            nemesis.counts().values().sum::<usize>(),
            self.tally,
            calls.total,
            calls.throttled,
        );
        if !sound {
            // What is left is for whoever looks into it.
            let kept = self.program.dir.path().display();
            println!("kept: {kept}");
            std::mem::forget(self);
        }
        sound
    }
}

async fn ended(process: &mut Option<Running>) -> Option<Ran> {
    if process.as_mut()?.lives() {
        return None;
    }
    Some(process.take()?.end().await)
}
