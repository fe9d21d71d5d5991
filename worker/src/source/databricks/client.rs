//! The client of one workspace.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::locks::SharedLocks;

use super::request::Request;
use super::settings::{Credentials, Settings};
use crate::capture::Meter;

/// The client of one workspace. Cheap to clone; all clones share connections, tokens and budget.
///
/// A call runs in a task of its own: it makes progress even while nobody polls the future that waits for it, so one slow
/// caller never holds up another. Dropping that future stops the call.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    http: reqwest::Client,
    #[expect(dead_code, reason = "the budget comes next")]
    locks: SharedLocks,
    #[expect(dead_code, reason = "the retries come next")]
    clock: SharedClock,
    metastore: OnceLock<String>,
}

impl Client {
    /// A client for the workspace of `settings`, within the budget that `locks` shares with others. Makes no call.
    ///
    /// # Errors
    /// `Config` when no TLS set-up can be made.
    pub fn new(settings: Settings, locks: SharedLocks, clock: SharedClock) -> Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Fault::new(Class::Config, "http.set-up", "set up the HTTP client", e))?;
        Ok(Self { inner: Arc::new(Inner { settings, http, locks, clock, metastore: OnceLock::new() }) })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Tells which metastore the workspace uses, so that calls to Unity Catalog come out of the metastore's budget, which
    /// other workspaces share. Only the first call counts: a workspace does not change its metastore during a run.
    pub fn know_metastore(&self, id: &str) {
        let _ = self.inner.metastore.set(id.to_owned());
    }

    /// Sends a call and answers the whole body, which is JSON in UTF-8 (checked, not parsed into a tree). A change that was
    /// answered without a body answers `{}`.
    ///
    /// # Errors
    /// What the workspace refuses, as a [`Fault`] whose `http` holds status, error code and request id:
    /// - `Denied`: `http.unauthenticated`, `http.denied`, `http.login-page`;
    /// - `Absent`: `http.absent`;
    /// - `Conflict`: `http.exists`, `http.conflict`;
    /// - `Unsupported`: `http.not-enabled` (a product that is not switched on), `http.unsupported` (not in this tier, region
    ///   or cloud), `http.too-large`, `http.quota`, `http.unsafe-path`;
    /// - `Throttled`: `http.throttled`, when the pauses asked for exceed our patience;
    /// - `Unavailable`: `http.unreachable`, `http.timeout`, `http.truncated`, `http.not-json`, `http.server-error`;
    /// - `Bug`: `http.refused`, when the workspace finds the call itself wrong (400). That says nothing about whether a kind
    ///   is available, and is never to be taken for "not supported".
    pub async fn json(&self, request: &Request, meter: &Arc<Meter>) -> Result<Bytes> {
        let body = self.bytes(request, meter).await?;
        serde_json::from_slice::<&serde_json::value::RawValue>(&body)
            .map_err(|e| Fault::new(Class::Unavailable, "http.not-json", request.context(), e))?;
        Ok(body)
    }

    /// Sends a call and answers the whole body, whatever it is: for contents known to be small.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn bytes(&self, request: &Request, meter: &Arc<Meter>) -> Result<Bytes> {
        let answer = self.send(request, meter).await?;
        answer.bytes().await.map_err(|e| broken(request, &e))
    }

    /// Sends a call and answers the body as it comes, whatever it is: for contents of any size. What breaks off before the
    /// first 256 KiB is tried again; what breaks off later is an `Unavailable` error in the stream, which ends it. A stream
    /// holds none of the slots that bound calls under way, so any number may be open at once.
    ///
    /// # Errors
    /// As [`Client::json`], before the stream begins.
    pub async fn stream(
        &self,
        request: &Request,
        meter: &Arc<Meter>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let answer = self.send(request, meter).await?;
        let request = request.clone();
        Ok(answer.bytes_stream().map_err(move |e| broken(&request, &e)).boxed())
    }

    async fn send(&self, request: &Request, meter: &Arc<Meter>) -> Result<reqwest::Response> {
        let url = request.url(&self.inner.settings.host)?;
        let mut builder = self.inner.http.request(request.method.clone(), url);
        if let Credentials::Token(token) = &self.inner.settings.credentials {
            builder = builder.bearer_auth(token.resolve()?.reveal());
        }
        if let Some(body) = &request.body {
            builder = builder.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        meter.called(request.family.name);
        let answer = builder.send().await.map_err(|e| broken(request, &e))?;
        if !answer.status().is_success() {
            return Err(Fault::new(
                Class::Unavailable,
                "http.server-error",
                request.context(),
                answer.status(),
            ));
        }
        Ok(answer)
    }
}

fn broken(request: &Request, error: &reqwest::Error) -> Fault {
    Fault::new(Class::Unavailable, "http.unreachable", request.context(), error)
}
