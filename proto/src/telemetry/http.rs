//! What an orchestrator and Prometheus ask of a process: does it live, is it ready, what has it done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use super::metrics::metrics;
use crate::clock::SharedClock;
use crate::fault::{Class, Fault, Result};

/// The pause before a start is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a process takes no work now; `None` when it does.
type WhyNot = dyn Fn() -> Option<String> + Send + Sync;

/// Tells how the process is.
#[derive(Clone)]
pub struct Monitor {
    why_not: watch::Sender<Arc<WhyNot>>,
}

impl Default for Monitor {
    fn default() -> Self {
        let starting: Arc<WhyNot> = Arc::new(|| Some("it is starting".into()));
        Self { why_not: watch::Sender::new(starting) }
    }
}

impl Monitor {
    /// From now on it is as `why_not` tells: why it takes no work, or `None` when it does. Asked at each request.
    pub fn tells(&self, why_not: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.why_not.send_replace(Arc::new(why_not));
    }

    /// What `start` gives, as soon as every server is there that it needs; until then we are not ready, and it is told why.
    /// For processes that stay: started again by somebody else, they would meet the same, and be back later than the server.
    ///
    /// # Errors
    /// What no waiting mends.
    pub async fn once_there<T>(&self, clock: &SharedClock, start: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut told = "";
        loop {
            let fault = match start().await {
                Err(fault) if fault.is_outage() => fault,
                ended => return ended,
            };
            // An outage of a night is not a log of a night.
            if told != fault.code {
                warn!(%fault, "cannot start yet; trying until it can");
                told = fault.code;
            }
            let why = fault.to_string();
            self.tells(move || Some(why.clone()));
            clock.sleep(fault.after.unwrap_or(AGAIN)).await;
        }
    }

    /// `/livez`, `/readyz` and `/metrics`. That it lives depends on nothing but itself: a process that is killed because its
    /// broker is away would only come back to the same.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz).with_state(self.clone()))
            .route("/metrics", get(async || scraped()))
    }
}

async fn readyz(State(monitor): State<Monitor>) -> Response {
    let why_not = monitor.why_not.borrow().clone();
    match why_not() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

fn scraped() -> Response {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], metrics().text()).into_response()
}

/// Listens at `address`.
///
/// # Errors
/// `Config` when the address cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let taken = |e| Fault::new(Class::Config, "process.listen", format!("listen at {address}"), e);
    TcpListener::bind(address).await.map_err(|e| taken(e).hint("name another with --listen"))
}
