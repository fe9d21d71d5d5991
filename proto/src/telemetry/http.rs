//! What an orchestrator and Prometheus ask of a process: does it live, is it ready, what has it done.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics::metrics;
use crate::fault::{Class, Fault, Result};

/// Whether the process is ready for work, and why not.
#[derive(Clone, Debug)]
pub struct Monitor {
    ready: Arc<watch::Sender<Option<String>>>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { ready: Arc::new(watch::Sender::new(Some("it is starting".into()))) }
    }
}

impl Monitor {
    /// It is ready for work.
    pub fn ready(&self) {
        self.ready.send_replace(None);
    }

    /// It takes no work now, for this reason.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.ready.send_replace(Some(why.into()));
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
    match &*monitor.ready.borrow() {
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
