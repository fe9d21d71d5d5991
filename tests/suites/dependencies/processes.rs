//! The fleet's own processes, and its queue: two coordinators, workers that come back from the dead, clocks that are wrong, a
//! queue that somebody deletes.

use lakehold_sim::Effect;
use lakehold_tests::fleet::{Servers, root};
use reqwest::Method;
use serde_json::Value;

use super::{BACKUP, Scene, expected, seconds};

const EXPORT: &str = "/api/2.0/workspace/export";

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_are_two_workers_come_back_clocks_are_wrong_and_a_queue_is_deleted() {
    let servers = &Servers::start().await;
    tokio::join!(
        two_coordinators(servers),
        a_zombie(servers),
        wrong_clocks(servers),
        a_deleted_queue(servers)
    );
}

/// The lock that keeps the second out is lost.
async fn two_coordinators(servers: &Servers) {
    let mut scene = Scene::new(servers, "two-coordinators").await;
    let one = scene.run().await;
    servers.forget_locks(&scene.program, "backup/");
    let mut other = scene.program.start(&format!("{BACKUP} --resume"));
    other.says("resuming").await;
    scene.sim.clear_faults();
    let (one, other) = tokio::join!(one.end(), other.end());
    scene.is_right(&one).await;
    scene.is_right(&other).await;
    println!("{}: both complete", scene.name);
}

/// A worker is stopped for longer than its lock lives; it wakes when another has done its task, and writes its outcome.
async fn a_zombie(servers: &Servers) {
    let mut scene = Scene::new(servers, "zombie").await;
    scene.fault(Some(EXPORT), 8, 1, Effect::Delay { ms: 600_000 });
    let mut zombie = scene.program.worker(&["--slots", "1"]);
    let run = scene.program.start(BACKUP);
    zombie.until("a task to hang in the midst of its bodies", || scene.sim.faults_fired() == 1).await;
    zombie.freeze();
    servers.forget_locks(&scene.program, "task/");
    // As the broker does when it misses the heartbeats.
    while servers.rabbit.cut_at(Some(scene.name), "lakehold-worker").await == 0 {
        // The broker's lists lag behind.
        seconds(0.2).await;
    }
    scene.add_worker();
    scene.ends(run).await;
    zombie.thaw();
    // It finishes what it held, and cannot acknowledge it any more.
    zombie.says("cannot acknowledge").await;
    let verified = scene.program.run("verify --all").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    let again = scene.program.backup("", 0).await;
    assert_eq!(root(&again), expected().await, "what the zombie wrote counts for nothing");
}

/// Workers whose clocks are wrong in either way, a coordinator whose clock is set back in the midst of a run, and another that
/// goes on with it before it began.
async fn wrong_clocks(servers: &Servers) {
    let mut scene = Scene::new(servers, "wrong-clocks").await;
    let clock = |name: &str, seconds: i64| {
        std::fs::write(scene.program.path(name), seconds.to_string()).unwrap();
        scene.program.without("LAKEHOLD_CLOCK_SKEW");
        scene.program.variable("LAKEHOLD_CLOCK_SKEW", &scene.program.path(name).display().to_string());
    };
    clock("early", -3600);
    let early = scene.program.worker(&["--slots", "2"]);
    clock("late", 3600);
    let late = scene.program.worker(&["--slots", "2"]);
    clock("coordinator", 7200);
    scene.workers.extend([early, late]);
    let run = scene.begin().await;
    std::fs::write(scene.program.path("coordinator"), "-7200").unwrap();
    scene.ends(run).await;

    let mut run = scene.program.start(&format!("{BACKUP} --full"));
    run.until("a second run", || scene.exports() > 120).await;
    run.kill();
    servers.forget_locks(&scene.program, "backup/");
    std::fs::write(scene.program.path("coordinator"), "-90000").unwrap();
    let ended = scene.program.backup("--resume", 0).await;
    assert_eq!(root(&ended), expected().await);
    let listed = scene.program.run("snapshots -o json").await.json();
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed:#}");
}

/// The coordinator's own connection stands, so nobody tells it what was lost: it hears nothing, and asks again.
async fn a_deleted_queue(servers: &Servers) {
    let mut scene = Scene::new(servers, "queue-deleted").await;
    let mut run = scene.program.start(BACKUP);
    let (queues, filled) = (format!("queues/{}", scene.name), |queue: &Value| {
        queue["name"] == "lakehold.tasks.default" && queue["messages"].as_u64() > Some(0)
    });
    while !servers.rabbit.api(Method::GET, &queues, Value::Null).await.as_array().unwrap().iter().any(filled)
    {
        seconds(0.2).await;
    }
    servers.rabbit.delete_at(scene.name, "lakehold.tasks.default").await;
    scene.add_worker();
    run.says("it is sent again").await;
    scene.ends(run).await;
}
