//! Measures what a task costs besides its work, side by side with others that send tasks over RabbitMQ: no-op tasks per
//! second, from the first one sent until all their results are collected. It starts a RabbitMQ and a Redis; everything
//! shares this machine.
//!
//! *lakehold*: one coordinator (this process) and one worker process of 64 slots; a tree of tasks that find tasks, quorum
//! queue, confirms, outcomes stored, then acknowledged, and collected, on a directory store; with `--bucket` also in a bucket.
//! *bare*: a message there and one back for each task, and a file, by lapin alone: send with confirm, consume with prefetch 1 on 64
//! channels, write a file, send a report, acknowledge, and hear the report.
//!
//! `--killed N` instead carries out one run of N tasks with a coordinator that is killed at nine tenths, and tells what its
//! processes needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be measured ends")]

mod bare;
mod killed;
mod nothing;
mod ours;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::component::seaweed::Seaweed;

use bare::bare;
use ours::ours;

const SLOTS: usize = 64;

/// Measures what a task costs besides its work, beside a bare loop and others that send tasks over RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "lakehold-tasks")]
struct Asked {
    /// Tasks in each round.
    #[arg(long, default_value_t = 20_000)]
    tasks: usize,
    /// Rounds, of which the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Also a Lakehold whose store is a bucket of SeaweedFS.
    #[arg(long)]
    bucket: bool,
    /// Also Celery and dramatiq, by this Python.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Instead one run of so many tasks, whose coordinator is killed at nine tenths.
    #[arg(long)]
    killed: Option<usize>,
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
    let asked = Asked::parse();
    match asked.killed {
        Some(tasks) => killed::measure(tasks).await,
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
    let weed = if asked.bucket { Some(Seaweed::start().await) } else { None };
    let bucket = weed.as_ref().map(|_| "bucket");
    let peers: &[&str] = if asked.peers.is_some() { &["celery", "dramatiq"] } else { &[] };
    for round in 1..=asked.rounds {
        let mut told = Vec::new();
        for &who in ["bare", "lakehold"].iter().chain(&bucket).chain(peers) {
            let folder = folders.path().join(format!("{who}-{round}"));
            std::fs::create_dir(&folder).unwrap();
            let rate = match (who, &asked.peers) {
                ("bare", _) => bare(&rabbit, &folder, asked.tasks).await,
                ("lakehold", _) => ours(&rabbit, &redis, folder.to_str().unwrap(), asked.tasks).await,
                ("bucket", _) => ours(&rabbit, &redis, &weed.as_ref().unwrap().endpoint, asked.tasks).await,
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
    if bucket.is_some() {
        let rate = median("bucket");
        println!("lakehold with a bucket {rate:.0} tasks/s, {:.2} of that with a directory", rate / ours);
    }
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
