//! One long run whose coordinator is killed: what coordinator and worker need of memory, and how soon the next coordinator
//! goes on.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStdout;
use std::sync::Arc;
use std::time::Duration;

use lakehold::engine::view::RunView;
use lakehold_proto::clock::SystemClock;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;

use crate::ours::{Process, Site, wait_for_readers};

/// How often a coordinator tells how far it is.
const TELLING: Duration = Duration::from_millis(100);

/// Prints a line for each figure: its name and its value.
#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
pub(crate) async fn measure(tasks: usize) {
    let (rabbit, redis) = tokio::join!(Rabbit::start(), Redis::start(&[]));
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(&rabbit, &redis, folder.path().to_str().unwrap(), tasks).await;
    let worker = site.start("work");
    wait_for_readers(&rabbit).await;
    let clock = SystemClock::shared();
    let began = clock.tick();
    let mut first = Coordinator::start(&site);
    while first.settled().is_some_and(|settled| settled < site.tasks() / 10 * 9) {}
    let first_mib = first.process.peak_mib();
    // SIGKILL.
    drop(first);
    let killed = clock.tick();
    let mut second = Coordinator::start(&site);
    second.settled().unwrap();
    let recovery = clock.tick().since(killed);
    let mut second_mib: f64 = 0.0;
    while second.settled().is_some() {
        second_mib = second_mib.max(second.process.peak_mib());
    }
    assert!(second.process.0.wait().unwrap().success(), "the second coordinator did not end well");
    println!("tasks {}", site.tasks());
    println!("seconds {:.1}", clock.tick().since(began).as_secs_f64());
    println!("killed-coordinator-mib {first_mib:.1}");
    println!("coordinator-mib {second_mib:.1}");
    println!("recovery-seconds {:.2}", recovery.as_secs_f64());
    println!("worker-mib {:.1}", worker.peak_mib());
}

/// A coordinator in a process of its own, which tells how many tasks are settled.
struct Coordinator {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Coordinator {
    fn start(site: &Site) -> Self {
        let mut process = site.start("coordinate");
        let said = BufReader::new(process.0.stdout.take().unwrap());
        Self { process, said }
    }

    /// What it tells next; `None` when it has ended.
    fn settled(&mut self) -> Option<usize> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().ok()
    }
}

/// The role of the coordinator. It tells nothing before it has found out what was settled.
#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
pub(crate) async fn coordinate(site: &Site) {
    let view = Arc::new(RunView::default());
    let seen = Arc::clone(&view);
    tokio::spawn(async move {
        loop {
            seen.tasks().values().for_each(|tasks| println!("{}", tasks.settled));
            tokio::time::sleep(TELLING).await;
        }
    });
    crate::ours::coordinate(site, &view).await;
}
