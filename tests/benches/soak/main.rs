//! The soak: a fleet of real binaries backs up workspaces that do not change, in full and again and again, while every few
//! seconds something is killed, stopped, wiped, cut or throttled. Whatever happens, each run ends with the content roots of
//! the first one, which was left alone. See tests/SOAK.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark on its own terminal, which ends when it cannot go on"
)]

mod nemesis;
mod scene;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, SystemClock};

use nemesis::Nemesis;
use scene::Scene;

/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A run that takes longer is left alone until it ends.
const LONG: Duration = Duration::from_secs(240);
/// A run that does not end when it is left alone for so long never will.
const STUCK: Duration = Duration::from_secs(900);

struct Args {
    minutes: f64,
    seed: u64,
}

impl Args {
    fn read() -> Result<Self, String> {
        let mut args = Self { minutes: 60.0, seed: 1 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_default();
            let wrong = |e: &dyn std::fmt::Display| format!("{word} {value}: {e}");
            match word.as_str() {
                "--minutes" => args.minutes = value.parse().map_err(|e| wrong(&e))?,
                "--seed" => args.seed = value.parse().map_err(|e| wrong(&e))?,
                _ => return Err(format!("{word}: known are --minutes N and --seed S")),
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(wrong) => {
            println!("{wrong}");
            return ExitCode::from(2);
        }
    };
    // The servers end when the thread that started them does, so that a soak that is killed leaves none: this is the main
    // thread, and nothing of it is spawned.
    if soak(&args).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn soak(args: &Args) -> bool {
    let clock = SystemClock::shared();
    let mut scene = Scene::set(SharedClock::clone(&clock)).await;
    let mut nemesis = Nemesis::new(args.seed);
    let end = clock.tick().plus(Duration::from_secs_f64(args.minutes * 60.0));
    loop {
        let over = clock.tick() >= end;
        let age = scene.age_of_run();
        if age > LONG + STUCK {
            scene.say("STUCK: a run does not end though it is left alone");
            return scene.sum_up(args.seed, &nemesis, false).await;
        }
        nemesis.relieve(&mut scene, over || age > LONG).await;
        if !over && age <= LONG {
            nemesis.strike(&mut scene).await;
        }
        if scene.look(!over).await && over && nemesis.is_quiet() {
            break;
        }
        clock.sleep(LOOK).await;
    }
    let sound = scene.last_look().await;
    scene.sum_up(args.seed, &nemesis, sound).await
}
