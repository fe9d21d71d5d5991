//! `lakehold serve`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::config::Settings;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::store::identity;
use lakehold_proto::telemetry::Monitor;
use lakehold_worker::signals::Signals;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Context, Global, exit};
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

pub(super) async fn run(args: &ServeArgs, global: &Global) -> Result<u8> {
    let settings = Context::settings(global)?;
    let config = &settings.config;
    let token = config.coordinator.token.as_ref().ok_or_else(no_token)?.resolve()?;
    let mut signals = Signals::listen()?;
    let address = config.coordinator.listens()?;
    let unheard = |e| {
        Fault::new(Class::Unavailable, "serve.listen", format!("listen on {address}"), e)
            .hint("is another `lakehold serve` running? Give this one another `coordinator.listen`")
    };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(unheard)?;
    let bound = listener.local_addr().map_err(unheard)?;
    let (clock, monitor) = (SystemClock::shared(), Monitor::default());
    let (tell, told) = watch::channel(None);
    let routes = api::router(told.clone(), &token).merge(monitor.routes());
    // From the beginning: a service that waits for its broker is not dead.
    let serving =
        tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ended(told)).into_future());
    let service = tokio::select! {
        service = monitor.once_there(&clock, async || start(settings.clone(), global).await) => service?,
        () = signals.next() => return Ok(exit::COMPLETE),
    };
    let ready = Arc::clone(&service);
    monitor.tells(move || ready.why_not_ready());
    tell.send_replace(Some(Arc::clone(&service)));
    info!(address = %bound, schedules = config.environments.values().filter(|e| e.schedule.is_some()).count(), "serving");
    tokio::select! {
        // Serving has no errors of its own.
        _ = async { tokio::join!(serving, service.work()) } => {}
        () = told_to_end(signals, &service, Duration::from_secs(args.grace), &clock) => {
            warn!("tasks under way were not finished; whoever goes on with their runs does them again");
        }
    }
    info!("ended");
    Ok(exit::COMPLETE)
}

/// A service on what the settings name.
async fn start(settings: Settings, global: &Global) -> Result<Arc<Service>> {
    let context = Context::over(settings, global).await?;
    let identity = match &context.directory {
        Some(directory) => identity::open_or_create(directory, context.clock.now()).await?,
        None => identity::open(&*context.store).await?,
    };
    Service::new(context.running(Some(&identity.store)).await?, &context.settings.config)
}

/// Waits until the service was told to end.
async fn ended(mut told: api::Told) {
    let service = told.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
    if let Some(service) = service {
        service.stopped().await;
    }
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
