//! The way of a call: who is it, faults, limits, latency, the handler, faults again, the books.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;

use crate::calls::Counted;
use crate::errors::{ApiError, Shape};
use crate::faults::{Effect, Target, When};
use crate::identity::Identity;
use crate::population;
use crate::reply::{Answer, Payload, Req};
use crate::router::{Guard, Route};
use crate::state::{Workspace, World};

/// Marks a response whose connection is to be reset; the accept loop looks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResetConnection;

/// Largest request body read: above the product's cap of 500 MB for a file (section 2.5).
const MAX_BODY: usize = 600 << 20;

/// Answers one request.
pub(crate) async fn serve(
    world: Arc<World>,
    ws: Arc<Workspace>,
    route: Arc<Route>,
    request: Request,
) -> Response {
    let req = match read(&world, &ws, request).await {
        Ok(req) => req,
        Err(error) => return write(error.answer(), &ws),
    };
    if route.guard == Guard::Control {
        let answer = (route.handler)(&req).unwrap_or_else(|e| e.answer());
        return write(answer, &ws);
    }
    let began = world.clock.elapsed();
    ws.calls.enter();
    let _inside = Inside(&ws);
    let mut throttled = false;
    let answer = answer(&world, &ws, &route, req, &mut throttled, began).await;
    ws.calls.record(&Counted {
        family: route.family,
        method: answer.1.as_str(),
        path: &route.path,
        // A reset connection answered nothing.
        status: if answer.0.reset { 0 } else { answer.0.status },
        throttled,
        began,
        bytes_in: answer.2,
        bytes_out: answer.0.body.len(),
    });
    write(answer.0, &ws)
}

/// The answer with the verb and size of the request, for the books.
async fn answer(
    world: &Arc<World>,
    ws: &Arc<Workspace>,
    route: &Route,
    mut req: Req,
    throttled: &mut bool,
    began: Duration,
) -> (Answer, String, u64) {
    let (method, size) = (req.method.clone(), req.body.len() as u64);
    let finish = |answer: Answer| (answer, method.clone(), size);
    if route.guard == Guard::Api {
        match authenticate(world, ws, route, &req) {
            Ok(caller) => req.caller = caller,
            Err(error) => return finish(shaped(error, route).answer()),
        }
    }
    let query = req.query.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&");
    let path = decoded(&req.path);
    let target = Target { workspace: ws.index, method: &method, path: &path, query: &query };
    let mut cleared = std::pin::pin!(world.faults.cleared());
    let fired = world.faults.fire(&target);
    for (when, effect) in &fired {
        if let Effect::Delay { ms } = effect {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(*ms)) => {}
                () = &mut cleared => {}
            }
        }
        if *when == When::Before
            && let Some(instead) = effect.instead()
        {
            return finish(instead);
        }
    }
    let _permit = match ws.limiter.admit(route.family, &method, began) {
        Ok(permit) => permit,
        Err(refused) => {
            *throttled = true;
            let mut error = ApiError::new(
                429,
                "REQUEST_LIMIT_EXCEEDED",
                format!(
                    "Workspace {} exceeded the request limit of {}; try again later.",
                    ws.id, route.family
                ),
            );
            error.retry_after = Some(refused.retry_after);
            return finish(shaped(error, route).answer());
        }
    };
    if !world.config.latency.is_zero() {
        tokio::time::sleep(world.config.latency).await;
    }
    let mut answer = (route.handler)(&req).unwrap_or_else(|e| e.answer());
    for (when, effect) in &fired {
        answer = match effect {
            Effect::Stale { missing } => world.faults.stale(&target, *missing, answer),
            Effect::Mutate(mutation) => {
                population::mutate(world, ws, mutation);
                answer
            }
            _ if *when == When::After => effect.instead().unwrap_or_else(|| effect.spoil(answer)),
            _ => effect.spoil(answer),
        };
    }
    finish(answer)
}

/// A path without percent signs, as globs are written.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The caller, if the token is good and the family not denied to it.
fn authenticate(world: &World, ws: &Workspace, route: &Route, req: &Req) -> Result<Identity, ApiError> {
    let header = req.headers.get("authorization").and_then(|v| v.to_str().ok());
    let caller = ws.identities.caller(header, world.clock.now_ms())?;
    let denied = |d: &String| {
        route.family == d || route.family.strip_prefix(d.as_str()).is_some_and(|rest| rest.starts_with('.'))
    };
    if caller.denied.iter().any(denied) {
        return Err(ApiError::denied(format!(
            "User {} does not have the permission to use {}.",
            caller.name, route.family
        )));
    }
    Ok(caller)
}

/// SCIM says everything in its own shape (section 2.1).
fn shaped(mut error: ApiError, route: &Route) -> ApiError {
    if route.family == "scim" && error.status != 429 {
        error.shape = Shape::Scim;
        error.code = String::new();
    }
    error
}

async fn read(world: &Arc<World>, ws: &Arc<Workspace>, request: Request) -> Result<Req, ApiError> {
    let bad = |e: &dyn std::fmt::Display| ApiError::new(400, "MALFORMED_REQUEST", e.to_string());
    let (mut parts, body) = request.into_parts();
    let params = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(params) => params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        Err(e) => return Err(bad(&e)),
    };
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|e| bad(&e))?.0;
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|e| bad(&e))?;
    Ok(Req {
        world: Arc::clone(world),
        ws: Arc::clone(ws),
        caller: Identity { name: String::new(), admin: false, visible_percent: 0, denied: Vec::new() },
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        params,
        query,
        headers: parts.headers,
        body,
    })
}

fn write(answer: Answer, ws: &Workspace) -> Response {
    let reset = answer.reset;
    let mut headers = answer.headers;
    headers.push(("x-request-id".to_owned(), ws.request_id()));
    let length = match (&answer.body, answer.claimed_length) {
        (_, Some(claimed)) => Some(claimed),
        (Payload::Lazy { len, .. }, None) => Some(*len),
        (Payload::Bytes(_), None) => None,
    };
    if let Some(length) = length {
        headers.push(("content-length".to_owned(), length.to_string()));
    }
    // What arrives of a cut body must be sent before hyper sees that it is cut, and drops the connection.
    let cut = answer.claimed_length.is_some_and(|claimed| claimed > answer.body.len());
    let body = match (answer.body, answer.pace, answer.claimed_length) {
        (Payload::Bytes(bytes), None, None) => Body::from(bytes),
        // A stream has no size that hyper could compare with the claimed length.
        (Payload::Bytes(bytes), pace, _) => stream(Box::new(std::iter::once(bytes)), pace, cut),
        (Payload::Lazy { chunks, .. }, pace, _) => stream(chunks, pace, cut),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    if reset {
        response.extensions_mut().insert(ResetConnection);
    }
    response
}

/// Time for the pieces before it to leave the machine.
const FLUSH: Duration = Duration::from_millis(5);

fn stream(
    chunks: Box<dyn Iterator<Item = Bytes> + Send>,
    pace: Option<(usize, Duration)>,
    cut: bool,
) -> Body {
    let last = futures::stream::iter(cut.then_some(())).then(|()| async {
        tokio::time::sleep(FLUSH).await;
        Ok::<_, Infallible>(Bytes::new())
    });
    let Some((size, every)) = pace else {
        return Body::from_stream(futures::stream::iter(chunks.map(Ok)).chain(last));
    };
    let pieces = chunks.flat_map(move |chunk| {
        let count = chunk.len().div_ceil(size);
        (0..count).map(move |i| chunk.slice(i * size..((i + 1) * size).min(chunk.len())))
    });
    let paced = futures::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(every).await;
        Ok(piece)
    });
    Body::from_stream(paced.chain(last))
}

/// Counts a call out, also when the client hangs up in the middle.
struct Inside<'a>(&'a Workspace);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.calls.leave();
    }
}
