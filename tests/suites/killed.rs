//! A backup that is killed or interrupted, and goes on: the real binary against a simulated workspace that is idle.
//!
//! One call hangs until the test lets it go, so a run can never end before it is killed: each point is met for certain.

use lakehold_proto::outcome::Figures;
use lakehold_sim::{Effect, Fault, Population, Sim, SimConfig, When};
use lakehold_tests::program::Program;
use lakehold_worker::source::databricks::families::WORKSPACE_EXPORT;

const ITEMS: usize = 300;
const JOBS: &str = "/api/2.*/jobs/list";

async fn workspace() -> Sim {
    Sim::start(SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() }).await.unwrap()
}

/// What an undisturbed backup of the workspace comes to.
struct Whole {
    root: String,
    exports: u64,
    calls: u64,
}

async fn undisturbed(sim: &Sim) -> Whole {
    let program = Program::of(sim);
    sim.reset_calls();
    let ended = program.backup("", 0).await;
    let whole = Whole { root: root_of(&ended), exports: exports(sim), calls: sim.calls().total };
    assert!(whole.exports > 50, "{} exports are too few to tell anything", whole.exports);
    whole
}

fn root_of(ended: &serde_json::Value) -> String {
    ended["content_root"].as_str().unwrap_or_else(|| panic!("nothing was committed: {ended:#}")).to_owned()
}

fn exports(sim: &Sim) -> u64 {
    sim.calls().count(|call| call.path.ends_with("/workspace/export"))
}

/// The n-th call to `path` does not come back until the faults are cleared.
fn hang(sim: &Sim, path: &str, nth: u64) {
    let effect = Effect::Delay { ms: 600_000 };
    let fault = Fault {
        method: None,
        path: Some(path.into()),
        query: None,
        workspace: None,
        nth,
        times: 1,
        when: When::Before,
        effect,
    };
    sim.add_fault(fault).unwrap();
}

/// What the tasks took that are settled.
fn settled(program: &Program) -> Figures {
    let mut figures = Figures::default();
    program.outcomes().iter().filter(|outcome| outcome.settles()).for_each(|o| figures.add(&o.figures));
    figures
}

fn settled_exports(program: &Program) -> u64 {
    settled(program).calls.get(WORKSPACE_EXPORT.name).map_or(0, |calls| calls.made)
}

/// Goes on with what is there, and holds the end against an undisturbed run. Returns how many calls it took.
async fn goes_on(sim: &Sim, program: &Program, typed: &str, whole: &Whole) -> u64 {
    assert!(program.manifests().is_empty(), "it was committed before it was killed");
    let settled = settled(program);
    let settled_exports = settled_exports(program);
    sim.clear_faults();
    sim.reset_calls();
    let ended = program.backup(typed, 0).await;
    assert_eq!(root_of(&ended), whole.root, "the content root differs from an undisturbed run's");
    assert_eq!(ended["state"], "complete");
    assert_eq!(exports(sim), whole.exports - settled_exports, "what had settled is not fetched again");
    let calls = sim.calls().total;
    assert!(calls <= whole.calls - settled.calls_made(), "{calls} calls of {}", whole.calls);
    assert_eq!((program.runs(), program.manifests().len()), (1, 1), "it is the same run");
    let verified = program.run("verify --all").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_anything_settled() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    hang(&sim, JOBS, 1);
    let mut run = program.start("backup");
    run.until("a plan", || program.runs() == 1).await;
    run.kill();
    goes_on(&sim, &program, "--resume", &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_some_tasks_have_settled_and_some_not() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    for outcomes in [1, 8, 15] {
        let program = Program::of(&sim);
        hang(&sim, JOBS, 1);
        let mut run = program.start("backup");
        run.until("outcomes", || program.outcomes().len() >= outcomes).await;
        run.kill();
        let calls = goes_on(&sim, &program, "--resume", &whole).await;
        assert!(calls < whole.calls);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_midst_of_bodies_and_taken_up_by_a_plain_backup() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    hang(&sim, "/api/2.0/workspace/export", whole.exports / 2);
    sim.reset_calls();
    let mut run = program.start("backup");
    // All but the one that hangs are made, or wait behind it in its slice.
    run.until("half of the bodies", || exports(&sim) + 1 >= whole.exports / 2).await;
    run.kill();
    goes_on(&sim, &program, "", &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_only_one_task_was_left() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    hang(&sim, JOBS, 1);
    sim.reset_calls();
    let mut run = program.start("backup");
    run.until("all bodies to have settled", || settled_exports(&program) == whole.exports).await;
    run.kill();
    let calls = goes_on(&sim, &program, "--resume", &whole).await;
    assert!(calls * 2 < whole.calls, "{calls} of {} calls were made again", whole.calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    for (kills, more) in [1, 4, 4, 4].into_iter().enumerate() {
        hang(&sim, JOBS, 1);
        let before = program.outcomes().len();
        // By turns: a person who says --resume, and a timer that does not.
        let mut run = program.start(if kills % 2 == 1 { "backup --resume" } else { "backup" });
        run.until("more outcomes", || program.outcomes().len() >= before + more).await;
        run.kill();
        sim.clear_faults();
    }
    goes_on(&sim, &program, "--resume", &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_once_it_ends_what_it_began_and_can_go_on() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    hang(&sim, JOBS, 1);
    let mut run = program.start("backup");
    run.until("outcomes, and jobs being listed", || sim.faults_fired() == 1 && program.outcomes().len() >= 3)
        .await;
    run.interrupt();
    run.says("stopping").await;
    assert!(!has_jobs(&program));
    sim.clear_faults();
    let ended = run.end().await;
    ended.refused(130, &["stopping", "stopped before its end", "--resume"]);
    assert!(has_jobs(&program), "what was under way is finished, and nothing of it thrown away");
    goes_on(&sim, &program, "--resume", &whole).await;
}

fn has_jobs(program: &Program) -> bool {
    program.outcomes().iter().any(|outcome| outcome.task.kind.as_str() == "job")
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_twice_it_ends_at_once_and_can_go_on() {
    let sim = workspace().await;
    let whole = undisturbed(&sim).await;
    let program = Program::of(&sim);
    hang(&sim, JOBS, 1);
    let mut run = program.start("backup");
    run.until("outcomes", || program.outcomes().len() >= 3).await;
    run.interrupt();
    run.says("stopping").await;
    run.interrupt();
    // The call that hangs would hold it for ten minutes.
    let ended = run.end().await;
    ended.refused(130, &["interrupted", "--resume"]);
    assert!(!has_jobs(&program));
    goes_on(&sim, &program, "--resume", &whole).await;
}
