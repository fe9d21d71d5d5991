//! The routes of the API: see `deploy/api.md`. Every answer is JSON; a failure is a `lakehold.error/v1`.
//!
//! Whoever calls shows the one token; nothing that is answered holds a secret.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{Hash, RunId};
use lakehold_proto::secret::Secret;
use serde::Deserialize;
use tokio::sync::watch;

use super::Service;
use super::wire::{Accepted, Schedules, Status};
use crate::backup::asked::Asked;
use crate::backup::runs::{self, Runs};
use crate::output::ErrorDocument;

/// The largest body that is read.
const BODY: usize = 64 * 1024;
/// The most runs that are listed at once.
const MOST_RUNS: usize = 1000;

/// The service, once it has what it needs.
pub type Told = watch::Receiver<Option<Arc<Service>>>;

#[derive(Clone)]
struct Api {
    service: Told,
    /// Of the token: what is compared has one length, and says nothing of it.
    token: Hash,
}

/// All routes of the API; they refuse until there is a service. Others may be merged into it; those have no token asked for.
pub fn router(service: Told, token: &Secret) -> Router {
    let api = Api { service, token: Hash::of(token.reveal()) };
    Router::new()
        .route("/v1/runs", post(begin).get(list))
        .route("/v1/runs/{run}", get(status))
        .route("/v1/runs/{run}/cancel", post(cancel))
        .route("/v1/schedules", get(schedules))
        .route_layer(from_fn_with_state(api.clone(), authorise))
        .method_not_allowed_fallback(no_method)
        .fallback(no_route)
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(api)
}

/// A fault, as an answer.
struct Refusal(StatusCode, Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match fault.class {
            Class::Config => StatusCode::BAD_REQUEST,
            Class::Denied => StatusCode::FORBIDDEN,
            Class::Absent => StatusCode::NOT_FOUND,
            Class::Conflict | Class::Cancelled => StatusCode::CONFLICT,
            Class::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Class::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Class::Integrity | Class::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorDocument::from(&self.1))).into_response()
    }
}

type Answer<T> = Result<T, Refusal>;

async fn authorise(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| is_same(api.token, Hash::of(shown.trim()))) {
        let Some(service) = api.service.borrow().clone() else { return starting().into_response() };
        request.extensions_mut().insert(service);
        return next.run(request).await;
    }
    let detail = if shown.is_some() { "the token is not the service's" } else { "no token was shown" };
    let fault = Fault::new(Class::Denied, "api.token", "call the coordinator", detail)
        .hint("give `coordinator.token` in the configuration the same token as the service's");
    let asked = [(WWW_AUTHENTICATE, "Bearer")];
    (asked, Refusal(StatusCode::UNAUTHORIZED, fault)).into_response()
}

fn starting() -> Refusal {
    let detail = "it is starting, and waits for a server that it needs: its /readyz tells for which";
    Fault::new(Class::Unavailable, "serve.starting", "call the coordinator", detail).into()
}

/// Takes the same time wherever the first difference is.
fn is_same(a: Hash, b: Hash) -> bool {
    a.bytes().iter().zip(b.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

async fn begin(
    Extension(service): Extension<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<Accepted>)> {
    let context = "read a request for a run";
    let body = body.map_err(|rejected| {
        let fault = Fault::new(Class::Config, "api.body", context, rejected.body_text());
        Refusal(rejected.status(), fault)
    })?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|e| {
        Fault::new(Class::Config, "api.body", context, e)
            .hint("send the flags of `lakehold backup` as JSON, such as {\"environments\": [\"prod\"]}")
    })?;
    let accepted = service.begin(&asked).await?;
    let status = if accepted.run.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(accepted)))
}

#[derive(Deserialize)]
struct Last {
    last: Option<usize>,
}

async fn list(
    Extension(service): Extension<Arc<Service>>,
    query: Result<Query<Last>, QueryRejection>,
) -> Answer<Json<Runs>> {
    let Query(Last { last }) =
        query.map_err(|e| Fault::new(Class::Config, "api.query", "list runs", e.body_text()))?;
    Ok(Json(runs::newest(&**service.store(), last.unwrap_or(20).min(MOST_RUNS)).await?))
}

async fn status(
    Extension(service): Extension<Arc<Service>>,
    Path(typed): Path<String>,
) -> Answer<Json<Status>> {
    Ok(Json(service.status(find(&service, &typed).await?).await?))
}

async fn cancel(
    Extension(service): Extension<Arc<Service>>,
    Path(typed): Path<String>,
) -> Answer<(StatusCode, Json<Status>)> {
    let run = find(&service, &typed).await?;
    service.cancel(run).await?;
    Ok((StatusCode::ACCEPTED, Json(service.status(run).await?)))
}

async fn schedules(Extension(service): Extension<Arc<Service>>) -> Answer<Json<Schedules>> {
    Ok(Json(service.schedules().await?))
}

/// A whole id is not looked for: it is asked for often, and the store tells whether there is such a run.
async fn find(service: &Service, typed: &str) -> Result<RunId> {
    match typed.parse() {
        Ok(run) => Ok(run),
        Err(_) => runs::find(&**service.store(), typed).await,
    }
}

async fn no_route() -> Refusal {
    Fault::new(Class::Absent, "api.route", "call the coordinator", "there is no such route").into()
}

async fn no_method() -> Refusal {
    let detail = "this route does not take that method";
    Refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        Fault::new(Class::Config, "api.method", "call the coordinator", detail),
    )
}
