//! The client of one workspace: a call is let in by [`Auth`], waits for its [`Budget`], is sent, and what comes back is
//! read, checked, and retried where that is safe.
//!
//! **Retries** are counted from the first failure, so waiting for our own budget is no reason to give up. Reads are retried
//! after whatever may pass; changes only where they certainly had no effect. A refused pass is renewed.
//! **Cancellation**: dropping the future of a call, or a stream, stops it and frees what it held.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::telemetry;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use reqwest::{Response, Url};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use super::auth::{Auth, Pass};
use super::body;
use super::budget::{Budget, Leave};
use super::dns::Careful;
use super::errors::{self, Answer};
use super::families::Verb;
use super::host;
use super::request::Request;
use super::retry::{self, Failure, Stage};
use super::settings::{Credentials, Settings};
use crate::capture::Meter;

/// The pause after a 429 or 503 that names none.
const BREATH: Duration = Duration::from_secs(1);
/// How often a call signs in anew because its pass was refused. A second refusal is no proof that we are not let in: tokens
/// may end one after another, and a new one may not be known everywhere yet.
const RENEWALS: u32 = 3;
/// Which workspace is meant, for hosts that serve many.
const WORKSPACE_ID: HeaderName = HeaderName::from_static("x-databricks-workspace-id");
/// Which workspace answered.
const ORG_ID: &str = "x-databricks-org-id";
/// The server's name for a call.
const REQUEST_ID: &str = "x-request-id";

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
    auth: Auth,
    budget: Budget,
    clock: SharedClock,
    metastore: OnceLock<String>,
}

/// How a body is wanted.
#[derive(Clone, Copy, Debug)]
enum Want {
    Json,
    Whole,
    Stream,
}

/// A body as it was wanted, and which workspace says it is from.
enum Got {
    Whole(Bytes, Option<String>),
    Stream(BoxStream<'static, Result<Bytes>>),
}

impl Client {
    /// A client for the workspace of `settings`, within the budget that `locks` shares with others. Makes no call.
    ///
    /// Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`), but for loopback hosts, which have none. Trusted
    /// are the CAs of the system, or instead of them those that `SSL_CERT_FILE` or `SSL_CERT_DIR` name.
    ///
    /// # Errors
    /// `Config` when no TLS set-up can be made.
    pub fn new(settings: Settings, locks: SharedLocks, clock: SharedClock) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("lakehold/", env!("CARGO_PKG_VERSION")))
            // A redirect of an API is a login page or a wrong host, and must not take the credentials along.
            .redirect(reqwest::redirect::Policy::none())
            // Retries are ours, and counted.
            .retry(reqwest::retry::never())
            .connect_timeout(settings.patience.connect)
            .read_timeout(settings.patience.idle)
            .dns_resolver(Careful);
        if host::is_loopback(&settings.host) {
            http = http.no_proxy();
        }
        if settings.host.scheme() == "http" && !matches!(settings.credentials, Credentials::Azure { .. }) {
            // Nothing will be asked for a certificate: a machine without any CA does as well.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Fault::new(Class::Config, "http.set-up", "set up the HTTP client", cause).hint(
                "install ca-certificates, or let SSL_CERT_FILE name a PEM file with every CA to be trusted",
            )
        })?;
        let auth = Auth::new(http.clone(), settings.clone(), Arc::clone(&clock));
        let workspace = host::scope(&settings.host);
        let budget = Budget::new(locks, Arc::clone(&clock), workspace, settings.share, settings.concurrency);
        Ok(Self {
            inner: Arc::new(Inner { settings, http, auth, budget, clock, metastore: OnceLock::new() }),
        })
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
    /// - `Unavailable`: `http.unreachable`, `http.connection-lost`, `http.timeout`, `http.truncated`, `http.not-json`,
    ///   `http.server-error`, `http.passing`;
    /// - `Config`: `http.redirect`;
    /// - `Bug`: `http.refused`, when the workspace finds the call itself wrong (400). That says nothing about whether a kind
    ///   is available, and is never to be taken for "not supported".
    ///
    /// A change that ends in `http.connection-lost`, `http.timeout` or `http.truncated` may have had its effect.
    pub async fn json(&self, request: &Request, meter: &Arc<Meter>) -> Result<Bytes> {
        let (body, _) = self.whole(request, meter, Want::Json, self.inner.settings.patience.retries).await?;
        Ok(body)
    }

    /// Sends a call and answers the whole body, whatever it is, up to 256 MiB: for contents known to be small.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn bytes(&self, request: &Request, meter: &Arc<Meter>) -> Result<Bytes> {
        let (body, _) = self.whole(request, meter, Want::Whole, self.inner.settings.patience.retries).await?;
        Ok(body)
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
        match self.spawn(request, meter, Want::Stream, self.inner.settings.patience.retries).await? {
            Got::Stream(stream) => Ok(stream),
            Got::Whole(body, _) => Ok(Box::pin(futures::stream::iter([Ok(body)]))),
        }
    }

    /// As [`Client::json`], with a patience of its own, and which workspace says it answered.
    pub(super) async fn json_within(
        &self,
        request: &Request,
        meter: &Arc<Meter>,
        retries: Duration,
    ) -> Result<(Bytes, Option<String>)> {
        self.whole(request, meter, Want::Json, retries).await
    }

    /// Time, as this client sees it.
    pub(super) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    async fn whole(
        &self,
        request: &Request,
        meter: &Arc<Meter>,
        want: Want,
        retries: Duration,
    ) -> Result<(Bytes, Option<String>)> {
        match self.spawn(request, meter, want, retries).await? {
            Got::Whole(body, org) => Ok((body, org)),
            Got::Stream(_) => Err(Fault::new(Class::Bug, "http.want", request.context(), "a stream came")),
        }
    }

    /// Runs the call in a task of its own, which ends when the caller goes away.
    async fn spawn(
        &self,
        request: &Request,
        meter: &Arc<Meter>,
        want: Want,
        retries: Duration,
    ) -> Result<Got> {
        let (inner, request, meter) = (Arc::clone(&self.inner), request.clone(), Arc::clone(meter));
        let context = request.context();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { inner.call(&request, &meter, want, retries).await }.in_current_span());
        match task.join_next().await {
            Some(Ok(got)) => got,
            Some(Err(e)) if e.is_panic() => {
                Err(Fault::new(Class::Bug, "http.panic", context, "the call panicked"))
            }
            _ => Err(Fault::new(Class::Cancelled, "http.cancelled", context, "the process is stopping")),
        }
    }
}

impl Inner {
    async fn call(&self, request: &Request, meter: &Meter, want: Want, retries: Duration) -> Result<Got> {
        let url = request.url(&self.settings.host)?;
        let family = request.family.name;
        let harmless = request.verb == Verb::Read || request.repeatable;
        let (mut failed_at, mut tries, mut renewals) = (None, 0, 0);
        loop {
            // Nobody signs in for long with leave in hand; and during the wait for leave a token may end.
            self.auth.pass(retries).await?;
            let leave = self.enter(request, &url, meter).await;
            let pass = self.auth.pass(retries).await?;
            // <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>. The URL goes without its
            // query, which names things of the workspace.
            let span = info_span!("call", otel.name = %request.method, otel.kind = "client", http.request.method = %request.method,
                server.address = url.host_str(), server.port = url.port_or_known_default(),
                url.full = format!("{}{}", url.origin().ascii_serialization(), url.path()), url.path = url.path(),
                lakehold.api.family = family, http.request.resend_count = tries, http.response.status_code = Empty);
            let attempt = self.attempt(request, &url, &pass, leave, meter, want).instrument(span.clone());
            let failure = match attempt.await {
                Ok(got) => return Ok(got),
                Err(failure) => failure,
            };
            telemetry::failed(&span, failure.fault.code);
            let now = self.clock.tick();
            let spent = now.since(*failed_at.get_or_insert(now));
            if failure.stage == Stage::Unauthenticated && renewals < RENEWALS {
                renewals += 1;
                if self.auth.renew(&pass, retries).await? {
                    meter.retried(family);
                    continue;
                }
            }
            tries += 1;
            let Some(pause) = retry::pause(&failure, harmless, tries, spent, retries, rand::random()) else {
                return Err(failure.fault);
            };
            tracing::debug!(error = %failure.fault, tries, pause_ms = pause.as_millis() as u64, "trying again");
            meter.retried(family);
            self.clock.sleep(pause).await;
        }
    }

    /// Waits until the budget lets the call be made.
    async fn enter(&self, request: &Request, url: &Url, meter: &Meter) -> Leave {
        let metastore = self.metastore.get().map(String::as_str);
        let bucket = request.family.bucket(&host::scope(url), metastore, request.verb);
        self.budget.enter(request.family, request.verb, bucket, meter).await
    }

    /// One try: sends, reads.
    async fn attempt(
        &self,
        request: &Request,
        url: &Url,
        pass: &Pass,
        leave: Leave,
        meter: &Meter,
        want: Want,
    ) -> Result<Got, Failure> {
        meter.called(request.family.name);
        let answer = self.dress(request, url, pass)?.send();
        let answer = answer.await.map_err(|e| body::broken(&request.context(), &e))?;
        let status = answer.status();
        tracing::Span::current().record("http.response.status_code", status.as_u16());
        if status.is_success() {
            let got = self.read(answer, request, want).await;
            self.budget.fine(leave).await;
            return got;
        }
        if status.is_redirection() {
            let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok());
            return Err(body::redirected(request, location));
        }
        Err(self.refused(answer, request, pass, meter, leave).await)
    }

    fn dress(&self, request: &Request, url: &Url, pass: &Pass) -> Result<reqwest::RequestBuilder, Failure> {
        let mut call = self.http.request(request.method.clone(), url.clone()).headers(pass.headers.clone());
        if let Some(id) = &self.settings.workspace_id {
            let id = HeaderValue::from_str(id).map_err(|_| Failure {
                fault: Fault::new(Class::Config, "config.workspace-id", request.context(), "it is no number"),
                stage: Stage::Final,
            })?;
            call = call.header(WORKSPACE_ID, id);
        }
        if let Some(body) = &request.body {
            let form = if request.is_json { "application/json" } else { "application/octet-stream" };
            call = call.header(CONTENT_TYPE, form).body(body.clone());
        }
        Ok(call)
    }

    /// Reads an answer that says it is fine.
    async fn read(&self, mut answer: Response, request: &Request, want: Want) -> Result<Got, Failure> {
        if body::is_html(answer.headers()) {
            return Err(body::login_page(request, "an HTML page", answer.url().query()));
        }
        let org = answer.headers().get(ORG_ID).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let reading = async {
            match want {
                Want::Stream => body::streamed(answer, request).await.map(Got::Stream),
                Want::Whole => Ok(Got::Whole(body::whole(&mut answer, request).await?, org)),
                Want::Json => {
                    let whole = body::whole(&mut answer, request).await?;
                    if whole.is_empty() && request.verb == Verb::Write {
                        return Ok(Got::Whole(Bytes::from_static(b"{}"), org));
                    }
                    Ok(Got::Whole(body::check_json(whole, request)?, org))
                }
            }
        };
        tokio::select! {
            got = reading => got,
            () = self.clock.sleep(self.settings.patience.answer) => Err(Failure {
                fault: Fault::new(Class::Unavailable, "http.timeout", request.context(), "the answer took too long"),
                stage: Stage::Underway,
            }),
        }
    }

    /// Reads a refusal, and tells the budget.
    async fn refused(
        &self,
        mut answer: Response,
        request: &Request,
        pass: &Pass,
        meter: &Meter,
        leave: Leave,
    ) -> Failure {
        let status = answer.status().as_u16();
        let asked = body::retry_after(answer.headers(), self.clock.now());
        let request_id = answer.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).map(str::to_owned);
        // A body that breaks off says less, and the status still says enough.
        let body = tokio::select! {
            body = body::first(&mut answer, body::REFUSAL) => body.unwrap_or_default(),
            () = self.clock.sleep(self.settings.patience.idle) => Bytes::new(),
        };
        let said = Answer { status, request_id: request_id.as_deref(), body: &body };
        let mut fault = errors::fault(request, &said, &pass.secrets);
        let stage = retry::stage_of(status, &fault, asked);
        if let Stage::TooBusy(pause) = stage {
            meter.throttled(request.family.name);
            fault.after = Some(pause.unwrap_or(BREATH));
            self.budget.throttled(leave, pause.unwrap_or(BREATH)).await;
        } else {
            self.budget.fine(leave).await;
        }
        Failure { fault, stage }
    }
}
