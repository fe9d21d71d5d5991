//! Who asks: what goes into the headers of a call, and how it is renewed.
//!
//! **Single flight**: one caller at a time signs in; the others wait and take what it brought. **Freshness**: a token is
//! renewed 40 s before it ends (Azure refuses those with less than 30 s left) and never used past its end, by monotonic
//! time counted from before it was asked for. **Retries**: signing in is repeatable and is retried like a read. A call that
//! is refused all the same signs in anew, once. Secrets are read anew each time, so rotated ones are picked up.

mod exchange;
mod issue;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::OnceCell;

use super::settings::{Credentials, Settings};

/// Tokens are renewed this long before they end.
const EARLY: Duration = Duration::from_secs(40);
/// While an old token still works, this is how long its renewal may be retried.
const BRIEFLY: Duration = Duration::from_secs(5);

/// What lets a call in.
#[derive(Debug)]
pub(super) struct Pass {
    /// The headers of every call; those with secrets are marked sensitive.
    pub(super) headers: HeaderMap,
    /// The secrets in them, to be blotted out of whatever a server repeats.
    pub(super) secrets: Vec<Secret>,
    /// When to renew it, and when it ends; a pass without is good until it is refused.
    ends: Option<(Tick, Tick)>,
}

/// Who asks, for one host.
#[derive(Debug)]
pub(super) struct Auth {
    http: reqwest::Client,
    settings: Settings,
    clock: SharedClock,
    pass: Mutex<Option<Arc<Pass>>>,
    signing_in: tokio::sync::Mutex<()>,
    /// Where Databricks issues tokens for this host.
    endpoint: OnceCell<reqwest::Url>,
    /// Where Entra issues tokens for this host.
    tenant: OnceCell<reqwest::Url>,
}

impl Auth {
    /// Who asks, by `settings`. Makes no call.
    pub(super) fn new(http: reqwest::Client, settings: Settings, clock: SharedClock) -> Self {
        Self {
            http,
            settings,
            clock,
            pass: Mutex::default(),
            signing_in: tokio::sync::Mutex::default(),
            endpoint: OnceCell::new(),
            tenant: OnceCell::new(),
        }
    }

    /// A pass that is good now. To be asked for before every call, never kept.
    ///
    /// # Errors
    /// `Config` when a secret cannot be read; `Denied` when the issuer refuses it; `Unavailable` when the issuer cannot be
    /// reached for as long as `retries`.
    pub(super) async fn pass(&self, retries: Duration) -> Result<Arc<Pass>> {
        if let Some(pass) = self.fresh() {
            return Ok(pass);
        }
        let _only_one = self.signing_in.lock().await;
        if let Some(pass) = self.fresh() {
            return Ok(pass);
        }
        let old = self.current().filter(|pass| pass.ends.is_some_and(|(_, end)| end > self.clock.tick()));
        let patience = if old.is_some() { retries.min(BRIEFLY) } else { retries };
        match (self.sign_in(patience).await, old) {
            (Ok(pass), _) => Ok(self.keep(pass)),
            (Err(fault), Some(old)) if fault.class.may_retry() => {
                tracing::debug!(error = %fault, "a token could not be renewed yet; the old one still works");
                Ok(old)
            }
            (Err(fault), _) => Err(fault),
        }
    }

    /// Signs in anew after `refused` was refused, unless somebody did so meanwhile. Answers whether there is another pass
    /// now: a fixed token that did not change is none.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub(super) async fn renew(&self, refused: &Arc<Pass>, retries: Duration) -> Result<bool> {
        let _only_one = self.signing_in.lock().await;
        if self.current().is_some_and(|now| !Arc::ptr_eq(&now, refused)) {
            return Ok(true);
        }
        let pass = self.sign_in(retries).await?;
        let changed = pass.secrets != refused.secrets;
        self.keep(pass);
        Ok(changed)
    }

    async fn sign_in(&self, retries: Duration) -> Result<Pass> {
        match &self.settings.credentials {
            Credentials::Token(token) => Pass::new(&[(AUTHORIZATION, token.resolve()?)], None),
            Credentials::Machine { client_id, client_secret } => {
                self.machine(&client_id.resolve()?, &client_secret.resolve()?, retries).await
            }
            Credentials::Azure { tenant, client_id, client_secret, resource_id, login_host } => {
                let azure = issue::Azure {
                    tenant: tenant.as_ref().map(super::settings::SecretSource::resolve).transpose()?,
                    client_id: client_id.resolve()?,
                    client_secret: client_secret.resolve()?,
                    resource_id: resource_id.as_deref(),
                    login_host: login_host.as_ref(),
                };
                self.azure(&azure, retries).await
            }
        }
    }

    fn current(&self) -> Option<Arc<Pass>> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Arc<Pass>> {
        let now = self.clock.tick();
        self.current().filter(|pass| pass.ends.is_none_or(|(renew, _)| renew > now))
    }

    fn keep(&self, pass: Pass) -> Arc<Pass> {
        let pass = Arc::new(pass);
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pass));
        pass
    }
}

impl Pass {
    /// A pass of secrets in headers; `Authorization` becomes a bearer token. `life` is when the shortest-lived of them was
    /// asked for, and how long it lives.
    fn new(secrets: &[(HeaderName, Secret)], life: Option<(Tick, Duration)>) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, secret) in secrets {
            let bearer = if name == AUTHORIZATION { "Bearer " } else { "" };
            let mut value = HeaderValue::from_str(&format!("{bearer}{}", secret.reveal())).map_err(|_| {
                Fault::new(
                    Class::Config,
                    "config.token",
                    "sign in",
                    "the token holds characters that no token has",
                )
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // A token that lives shortly is renewed at half its life, or it would never be fresh.
        let ends = life.map(|(asked, life)| (asked.plus(life - EARLY.min(life / 2)), asked.plus(life)));
        Ok(Self { headers, secrets: secrets.iter().map(|(_, secret)| secret.clone()).collect(), ends })
    }
}
