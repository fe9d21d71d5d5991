//! The binary `lakehold-worker`: serves the queue that the configuration names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::config::{Asked, Settings, Surroundings, load};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Nonce;
use lakehold_proto::open::{self, Fleet};
use lakehold_proto::process;
use lakehold_proto::store::identity;
use lakehold_proto::telemetry::{self, Monitor};
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::guard::{GUARD, GuardArgs};
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::{Worker, serve};
use lakehold_worker::signals::Signals;
use tokio::sync::watch;
use tracing::{info, warn};

const EXAMPLES: &str = "\
Examples:
  lakehold-worker -c /etc/lakehold/lakehold.yaml
  lakehold-worker --pool emea --pool apac --slots 16

On SIGTERM it takes no more tasks and finishes those it has, up to --grace; a second SIGTERM or Ctrl-C ends it at once.
What it did not finish is done by another worker.";

/// How often the fleet hears that this worker lives.
const ALIVE: Duration = Duration::from_secs(5);

/// Takes tasks from the configured queue and carries them out, until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "lakehold-worker", version, after_help = EXAMPLES)]
struct Cli {
    /// The configuration file [default: $LAKEHOLD_CONFIG, ./lakehold.yaml, the XDG directory, /etc/lakehold]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A pool whose environments it serves; may be given several times
    #[arg(long = "pool", default_value = "default", value_name = "POOL")]
    pools: Vec<String>,
    /// Tasks of each pool that it works on at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    slots: usize,
    /// Seconds that tasks under way are given to finish when it is told to end
    #[arg(long, default_value_t = 100, value_name = "SECONDS")]
    grace: u64,
    /// Where to tell how it is, at /livez, /readyz and /metrics, such as 127.0.0.1:9640 [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What to log to standard error, such as `info` or `lakehold_worker=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// What this program does besides.
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// See that a program does not outlive the one that began us
    #[command(name = GUARD, hide = true)]
    Guard(GuardArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Other::Guard(guard)) = &cli.other {
        return ExitCode::from(guard.stand());
    }
    let ended = telemetry::start("lakehold-worker", &cli.log, false).and_then(|telemetry| {
        let ended = run(&cli);
        telemetry.end();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            report(&fault);
            ExitCode::from(fault.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let runtime = process::runtime()?;
    let ended = runtime.block_on(work(cli));
    // What the grace period did not suffice for is not waited for.
    runtime.shutdown_background();
    ended
}

async fn work(cli: &Cli) -> Result<()> {
    let asked = Asked { config: cli.config.clone(), ..Asked::default() };
    let settings = load(&asked, &Surroundings::of_process()?)?;
    if settings.config.queue.is_none() {
        return Err(no_queue(cli, &settings));
    }
    let mut signals = Signals::listen()?;
    let monitor = Monitor::default();
    if let Some(address) = cli.listen {
        let listener = telemetry::listen(address).await?;
        info!(address = %listener.local_addr().map_or(address, |address| address), "tells how it is");
        tokio::spawn(axum::serve(listener, monitor.routes()).into_future());
    }
    let clock = SystemClock::shared();
    let reach = async || {
        let (store, _) = open::store(&settings).await?;
        let identity = identity::open(&*store).await?;
        let fleet = open::fleet(&settings.config, &identity.store, "lakehold-worker", &clock).await?;
        Ok((store, fleet.ok_or_else(|| no_queue(cli, &settings))?))
    };
    let (store, fleet) = tokio::select! {
        reached = monitor.once_there(&clock, reach) => reached?,
        () = signals.next() => return Ok(()),
    };
    let sources = ConfiguredSources::new(&settings.config, fleet.locks.clone(), Arc::clone(&clock));
    let worker = Worker {
        queue: fleet.queue.clone(),
        store,
        locks: fleet.locks.clone(),
        clock: Arc::clone(&clock),
        sources: Arc::new(sources),
        reports: Arc::default(),
        progress: Arc::new(Progress::default()),
        plans: Arc::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let slots = cli.pools.iter().map(|pool| serve(worker.clone(), pool, cli.slots, stopped.clone()));
    let serving = futures::future::try_join_all(slots);
    let id = Nonce::random().to_string();
    let (queue, stopping) = (fleet.queue.clone(), stopped.clone());
    monitor.tells(move || match *stopping.borrow() {
        true => Some("it was told to end".into()),
        false => queue.state().trouble(),
    });
    info!(worker = id, pools = cli.pools.join(","), slots = cli.slots, "serving");
    let all_slots = u32::try_from(cli.slots * cli.pools.len()).unwrap_or(u32::MAX);
    let ended = tokio::select! {
        ended = serving => ended.map(|_| ()),
        () = tell_that_we_live(&fleet, &id, all_slots, &clock) => Ok(()),
        () = told_to_end(signals, &stop, Duration::from_secs(cli.grace), &clock) => {
            warn!("tasks under way were not finished; other workers will do them");
            Ok(())
        }
    };
    fleet.locks.withdraw(&id).await;
    fleet.queue.close().await;
    info!("ended");
    ended
}

async fn tell_that_we_live(fleet: &Fleet, id: &str, slots: u32, clock: &SharedClock) {
    loop {
        // A Redis that is away is told of by whoever needs it.
        if let Err(fault) = fleet.locks.announce(id, slots).await {
            tracing::debug!(%fault, "cannot tell the fleet that this worker lives");
        }
        clock.sleep(ALIVE).await;
    }
}

/// Passes the first request to end on to the slots; returns when their time is up, or at a second one.
async fn told_to_end(mut signals: Signals, stop: &watch::Sender<bool>, grace: Duration, clock: &SharedClock) {
    signals.next().await;
    info!(grace = grace.as_secs(), "told to end: finishing tasks under way");
    stop.send_replace(true);
    tokio::select! {
        () = clock.sleep(grace) => {}
        () = signals.next() => {}
    }
}

/// Without a queue every run lives inside the process of `lakehold backup`, with workers of its own: a worker process cannot
/// reach it, and must not look as if it did.
fn no_queue(cli: &Cli, settings: &Settings) -> Fault {
    let context = format!("serve {} with {} slots", cli.pools.join(", "), cli.slots);
    let from = settings.file.as_ref();
    let from = from.map_or("there is no configuration file".into(), |file| file.display().to_string());
    let detail = format!(
        "no queue is configured ({from}), so every run is embedded: `lakehold backup` has its own workers"
    );
    Fault::new(Class::Config, "worker.no-queue", context, detail)
        .hint("run `lakehold backup`; or add `queue:` and `redis:` to the configuration of all processes")
}

#[allow(clippy::print_stderr, reason = "the binary reports to the terminal")]
fn report(fault: &Fault) {
    eprintln!("error[{}]: {fault}", fault.code);
    if let Some(hint) = &fault.hint {
        eprintln!("  hint: {hint}");
    }
}
