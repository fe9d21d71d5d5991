//! Seeds of the simulation: see `lakehold_tests::chaos`. By hand, and by the million: `tests/chaos`.

use lakehold_tests::chaos::{run, run_many};

const SEEDS: u64 = 5000;

#[test]
fn every_seed_ends_as_if_nothing_had_happened() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let figures = run_many(0..SEEDS, threads, |_| {});
    for (seed, broken) in &figures.failures {
        eprintln!("seed {seed}: {broken:?}\n  replay it with: tests/chaos --seed {seed}");
    }
    eprintln!("{figures}");
    assert!(figures.failures.is_empty(), "{} of {SEEDS} seeds failed", figures.failures.len());
    // Troubles may use up the attempts of a task, but only rarely: otherwise this would prove little.
    assert!(figures.whole * 10 >= SEEDS * 9, "only {} of {SEEDS} runs were whole", figures.whole);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let (first, second) = (run(seed, false), std::thread::spawn(move || run(seed, true)).join().unwrap());
        assert_eq!(first.log_hash, second.log_hash, "seed {seed}");
        assert!(second.log.is_some_and(|log| log.lines().count() > 20), "seed {seed} has no log");
    }
}
