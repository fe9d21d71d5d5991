//! A verify that is killed goes on where it was: the real binaries, in one process and on a fleet.

use lakehold_sim::{Population, Sim, SimConfig};
use lakehold_tests::fleet::Servers;
use lakehold_tests::program::{Program, Ran};
use serde_json::Value;

const ITEMS: usize = 1000;
/// The pack at which whoever reads it dies: in the midst.
const KILL: &str = "worker.mid-export:20";

async fn workspace() -> Sim {
    let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
    Sim::start(config).await.unwrap()
}

/// What was read, and by which run.
fn read(ran: &Ran) -> (Value, Value, Value, Value) {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let found = ran.json();
    assert_eq!(found["sound"], true, "{found:#}");
    let of = |name: &str| found[name].clone();
    (of("packs_read"), of("bytes_read"), of("frames"), of("run"))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_midst_it_goes_on_with_what_was_not_read() {
    let sim = workspace().await;
    let program = Program::of(&sim);
    program.backup("", 0).await;
    let (packs, bytes, frames, _) = read(&program.run("verify prod -o json").await);
    assert!(packs.as_u64() > Some(40), "{packs} packs are too few to tell anything");
    let (runs, outcomes) = (program.runs(), program.outcomes().len());
    program.variable("LAKEHOLD_KILL", KILL);
    let killed = program.run("verify prod").await;
    assert_eq!(killed.code, None, "{killed:#?}");
    let settled = program.outcomes().len() - outcomes;
    program.without("LAKEHOLD_KILL");
    read(&program.run("verify prod --no-record -o json").await);
    let again = program.run("verify prod -o json").await;
    assert!(again.err.contains("going on with a verify that was interrupted"), "{again:#?}");
    let (packs_again, bytes_again, frames_again, _) = read(&again);
    assert_eq!((packs_again, bytes_again, frames_again), (packs, bytes, frames));
    assert_eq!(program.runs(), runs + 1, "it is the same run");
    let tasks = program.outcomes().len() - outcomes;
    assert!(tasks > settled, "{settled} of {tasks} had settled");
    program.run("verify prod --resume").await.refused(1, &["no unfinished verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_reads_what_one_process_reads_though_a_worker_dies() {
    let servers = Servers::start().await;
    let sim = workspace().await;
    let program = servers.install("verify", &sim).await;
    let backs_up = program.worker(&[]);
    program.backup("", 0).await;
    backs_up.kill();
    let (packs, bytes, frames, _) = read(&program.run("verify prod --no-record -o json").await);
    // Reading packs takes no credential of the environment.
    program.token("");
    program.variable("LAKEHOLD_KILL", KILL);
    let dies = program.worker(&["--slots", "2"]);
    let run = program.start("verify prod -o json");
    let died = dies.end().await;
    assert_eq!(died.code, None, "{died:#?}");
    servers.forget_locks(&program, "task/");
    program.without("LAKEHOLD_KILL");
    let _lives = program.worker(&["--slots", "2"]);
    let ended = run.end().await;
    let (packs_read, bytes_read, frames_read, _) = read(&ended);
    assert_eq!((packs_read, bytes_read, frames_read), (packs, bytes, frames));
}
