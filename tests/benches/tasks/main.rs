//! Measures what a task costs besides its work, side by side with others that send tasks over RabbitMQ: no-op tasks per
//! second, from the first one sent until all their results are collected. It starts a RabbitMQ and a Redis; everything
//! shares this machine. `lakehold-tasks [--tasks N] [--rounds N] [--peers PYTHON]`.
//!
//! *lakehold*: one coordinator (this process) and one worker process of 64 slots; a tree of tasks that find tasks, quorum
//! queue, confirms, outcomes stored, then acknowledged, and collected, on a directory store.
//! *bare*: a message there and one back for each task, and a file, by lapin alone: send with confirm, consume with prefetch 1 on 64
//! channels, write a file, send a report, acknowledge, and hear the report.
//!
//! `lakehold-tasks --killed N` instead carries out one run of N tasks with a coordinator that is killed at nine tenths, and
//! tells what its processes needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be measured ends")]

mod bare;
mod killed;
mod nothing;
mod ours;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;

use bare::bare;
use ours::ours;

const SLOTS: usize = 64;

struct Asked {
    tasks: usize,
    rounds: usize,
    peers: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [role, site @ ..] = words.as_slice()
        && let Some(site) = ours::Site::parse(site)
    {
        return match role.as_str() {
            "work" => ours::work(&site).await,
            _ => killed::coordinate(&site).await,
        };
    }
    let named = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let number = |name, unless| named(name).map_or(unless, |word| word.parse().unwrap());
    let asked = Asked {
        tasks: number("--tasks", 20_000),
        rounds: number("--rounds", 5),
        peers: named("--peers").map(PathBuf::from),
    };
    match named("--killed") {
        Some(tasks) => killed::measure(tasks.parse().unwrap()).await,
        None => measure(&asked).await,
    }
}

#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
async fn measure(asked: &Asked) {
    let (rabbit, redis) = tokio::join!(Rabbit::start(), Redis::start(&[]));
    // What a round wrote stays to the end: ext4 without a journal passes over each inode freed in the last minutes whenever it
    // looks for a new one, which made rounds wait seconds for what their forerunner had left.
    let folders = tempfile::tempdir().unwrap();
    let mut rates: HashMap<&str, Vec<f64>> = HashMap::new();
    let peers: &[&str] = if asked.peers.is_some() { &["celery", "dramatiq"] } else { &[] };
    for round in 1..=asked.rounds {
        let mut told = Vec::new();
        for &who in ["bare", "lakehold"].iter().chain(peers) {
            let folder = folders.path().join(format!("{who}-{round}"));
            std::fs::create_dir(&folder).unwrap();
            let rate = match (who, &asked.peers) {
                ("bare", _) => bare(&rabbit, &folder, asked.tasks).await,
                ("lakehold", _) => ours(&rabbit, &redis, &folder, asked.tasks).await,
                (peer, Some(python)) => theirs(python, peer, &rabbit, &redis, asked.tasks),
                (_, None) => continue,
            };
            rates.entry(who).or_default().push(rate);
            told.push(format!("{who} {rate:.0}/s"));
        }
        println!("round {round}: {}", told.join(", "));
    }
    let median = |who: &str| {
        let mut rates = rates.get(who).cloned().unwrap_or_default();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let ours = median("lakehold");
    println!("lakehold {ours:.0} tasks/s (median of {})", asked.rounds);
    println!("lakehold / bare      {:.2}  target >= 0.60", ours / median("bare"));
    if asked.peers.is_some() {
        println!(
            "lakehold / celery    {:.2}  target >= 6 (quorum queue, confirms, acks_late, results)",
            ours / median("celery")
        );
        println!(
            "lakehold / dramatiq  {:.2}  target >= 1 (without confirms, classic queue)",
            ours / median("dramatiq")
        );
    }
}

fn theirs(python: &Path, peer: &str, rabbit: &Rabbit, redis: &Redis, tasks: usize) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers.py");
    let ran = Command::new(python)
        .arg("-B")
        .arg(script)
        .args([peer, &tasks.to_string()])
        .env("BROKER", rabbit.url())
        .env("RESULTS", redis.url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("{peer}: {said} {}", String::from_utf8_lossy(&ran.stderr)))
}
