//! The binary `lakehold-chaos`: runs seeds of the simulation by hand. See `tests/chaos`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use lakehold_proto::clock::SystemClock;
use lakehold_tests::chaos::{run, run_many};

/// Simulates backups on a fleet that is ill-treated in every way its servers allow, one for each seed.
#[derive(Debug, Parser)]
#[command(name = "tests/chaos", after_help = EXAMPLES)]
struct Arguments {
    /// How many seeds to run; 5000 when neither is given.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; alone, the one to replay, with the log of all that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; each runs seeds of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

const EXAMPLES: &str = "\
Examples:
  tests/chaos                                5000 seeds, as the suite runs them
  tests/chaos --seeds 1000000                a release's million
  tests/chaos --seed 4711                    one seed again, with its log
  tests/chaos --seed 1000000 --seeds 1000    a thousand others

The last line of the output is the figures. Ends with 0 when nothing was broken.";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the binary's own terminal")]
fn main() -> ExitCode {
    let Arguments { seeds, seed, threads } = Arguments::parse();
    if let (Some(seed), None) = (seed, seeds) {
        let ran = run(seed, true);
        print!("{}", ran.log.unwrap_or_default());
        println!("the run took {:.3} s; log {:016x}", ran.took.as_secs_f64(), ran.log_hash);
        ran.broken.iter().for_each(|broken| println!("BROKEN: {broken}"));
        println!("seed {seed}: {}", if ran.broken.is_empty() { "nothing is broken" } else { "FAILED" });
        return ExitCode::from(u8::from(!ran.broken.is_empty()));
    }
    let clock = SystemClock::shared();
    let began = clock.tick();
    let (first, seeds) = (seed.unwrap_or(0), seeds.unwrap_or(5000));
    let told = AtomicUsize::new(0);
    let figures = run_many(first..first + seeds, threads, |figures| {
        // At once: a million take hours.
        figures.failures.iter().skip(told.swap(figures.failures.len(), Ordering::Relaxed)).for_each(tell);
        if figures.seeds % 500 == 0 {
            let failed = figures.failures.len();
            eprintln!(
                "{} of {seeds} seeds, {failed} failed, {:.0?}",
                figures.seeds,
                clock.tick().since(began)
            );
        }
    });
    println!("{:.1} s: {figures}", clock.tick().since(began).as_secs_f64());
    ExitCode::from(u8::from(!figures.failures.is_empty()))
}

#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
fn tell((seed, broken): &(u64, Vec<String>)) {
    println!("seed {seed} FAILED; replay it with: tests/chaos --seed {seed}");
    broken.iter().take(5).for_each(|broken| println!("    {broken}"));
}
