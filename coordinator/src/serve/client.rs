//! The commands' side of the API.

use std::time::Duration;

use lakehold_proto::config::CoordinatorConfig;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;

use super::wire::{Accepted, Status};
use crate::backup::asked::Asked;
use crate::output::ErrorDocument;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long for one that has to ask environments first, and to wait for their locks.
const PLANNING: Duration = Duration::from_secs(10 * 60);

/// A service, as the configuration names it.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Secret,
}

impl Client {
    /// The service that is configured, if there is one.
    ///
    /// # Errors
    /// `Config` when its URL is none or its token cannot be had.
    pub fn configured(config: &CoordinatorConfig) -> Result<Option<Self>> {
        let Some(url) = config.address()? else { return Ok(None) };
        let context = "reach the coordinator";
        let token = config.token.as_ref().ok_or_else(|| {
            let detail = "`coordinator.url` is configured and `coordinator.token` is not";
            Fault::new(Class::Config, "config.coordinator", context, detail)
                .hint("add `token: env:NAME` or `token: file:PATH` beside it")
        })?;
        // A redirect would carry the token elsewhere.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10));
        if url.scheme() == "http" {
            http = http.no_proxy();
        }
        let http =
            http.build().map_err(|e| Fault::new(Class::Unavailable, "coordinator.client", context, e))?;
        let url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Some(Self { http, url, token: token.resolve()? }))
    }

    /// Asks for a run.
    ///
    /// # Errors
    /// What the service says; `Unavailable` when it cannot be reached.
    pub async fn begin(&self, asked: &Asked) -> Result<Accepted> {
        let request = self.request(Method::POST, "runs").timeout(PLANNING).json(asked);
        self.send("hand a backup over", request).await
    }

    /// Asks how a run stands.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn status(&self, run: &str) -> Result<Status> {
        self.send(&format!("ask how {run} stands"), self.request(Method::GET, &format!("runs/{run}"))).await
    }

    /// Asks for a run to be cancelled.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn cancel(&self, run: &str) -> Result<Status> {
        let request = self.request(Method::POST, &format!("runs/{run}/cancel"));
        self.send(&format!("cancel {run}"), request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/{path}", self.url));
        request.bearer_auth(self.token.reveal()).timeout(PATIENCE)
    }

    async fn send<T: DeserializeOwned>(&self, doing: &str, request: RequestBuilder) -> Result<T> {
        let context = || format!("{doing} at {}", self.url);
        let answer = request.send().await.map_err(|e| {
            Fault::new(Class::Unavailable, "coordinator.unreachable", context(), why(&e))
                .hint("is `lakehold serve` up there? Without `coordinator.url` a backup coordinates itself")
        })?;
        let status = answer.status();
        let unread = |e: &dyn std::fmt::Display| {
            let detail = format!("it answered {status}, and not as a coordinator does: {e}");
            Fault::new(Class::Unavailable, "coordinator.answer", context(), detail)
        };
        let body = answer.bytes().await.map_err(|e| unread(&why(&e)))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| unread(&e));
        }
        let error: ErrorDocument = serde_json::from_slice(&body).map_err(|e| unread(&e))?;
        Err(error.into_fault())
    }
}

/// The innermost reason: what reqwest says itself repeats the URL and leaves out why.
fn why(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
