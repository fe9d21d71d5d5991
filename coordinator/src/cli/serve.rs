//! `lakehold serve`.

use std::time::Duration;

use clap::Args;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::store::identity;
use lakehold_proto::telemetry::Monitor;
use lakehold_worker::signals::Signals;
use tracing::{info, warn};

use super::{Context, exit};
use crate::running::Running;
use crate::serve::{Service, api};

const EXAMPLES: &str = "\
Examples:
  lakehold serve --log info
  lakehold -c /etc/lakehold/lakehold.yaml serve --grace 30

It listens on `coordinator.listen` and wants `coordinator.token`; the API is described in deploy/api.md. /livez, /readyz and
/metrics ask for no token.
On SIGTERM it begins no more and stops the runs under way where they are: the next service goes on with them.";

/// What may be typed behind `serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Seconds that tasks under way are given to finish when it is told to end
    #[arg(long, default_value_t = 100, value_name = "SECONDS")]
    pub grace: u64,
}

pub(super) async fn run(args: &ServeArgs, context: &Context) -> Result<u8> {
    let config = &context.settings.config;
    let token = config.coordinator.token.as_ref().ok_or_else(no_token)?.resolve()?;
    let mut signals = Signals::listen()?;
    let identity = match &context.directory {
        Some(directory) => identity::open_or_create(directory, context.clock.now()).await?,
        None => identity::open(&*context.store).await?,
    };
    context.warn_of_second_coordinators();
    let address = config.coordinator.listens()?;
    let unheard = |e| {
        Fault::new(Class::Unavailable, "serve.listen", format!("listen on {address}"), e)
            .hint("is another `lakehold serve` running? Give this one another `coordinator.listen`")
    };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(unheard)?;
    let bound = listener.local_addr().map_err(unheard)?;
    let running = tokio::select! {
        running = Running::start(config, context.place(), Some(&identity.store)) => running?,
        () = signals.next() => return Ok(exit::COMPLETE),
    };
    let service = Service::new(running, config)?;
    let stopped = service.clone();
    let (monitor, told) = (Monitor::default(), service.clone());
    monitor.tells(move || told.why_not_ready());
    let routes = api::router(service.clone(), &token).merge(monitor.routes());
    let serving =
        axum::serve(listener, routes).with_graceful_shutdown(async move { stopped.stopped().await });
    info!(address = %bound, schedules = config.environments.values().filter(|e| e.schedule.is_some()).count(), "serving");
    let work = async { tokio::join!(serving, service.work()).0 };
    tokio::select! {
        served = work => served.map_err(unheard)?,
        () = told_to_end(signals, &service, Duration::from_secs(args.grace), &context.clock) => {
            warn!("tasks under way were not finished; whoever goes on with their runs does them again");
        }
    }
    info!("ended");
    Ok(exit::COMPLETE)
}

/// Passes the first request to end on; returns when the time is up, or at a second one.
async fn told_to_end(mut signals: Signals, service: &Service, grace: Duration, clock: &SharedClock) {
    signals.next().await;
    info!(grace = grace.as_secs(), "told to end: stopping runs where they are");
    service.stop();
    tokio::select! {
        () = clock.sleep(grace) => {}
        () = signals.next() => {}
    }
}

fn no_token() -> Fault {
    let detail =
        "no `coordinator.token` is configured: anybody who reaches the port could begin and cancel runs";
    Fault::new(Class::Config, "serve.no-token", "serve the API", detail).hint(
        "make one: head -c 32 /dev/urandom | base64 > /etc/lakehold/token; \
         then write `coordinator: {token: file:/etc/lakehold/token}`",
    )
}
