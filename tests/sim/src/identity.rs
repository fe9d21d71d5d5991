//! Who is calling: tokens and the principals behind them.
//!
//! The token `sim` is a workspace admin; the OAuth client `sim`/`sim` an admin service principal.
//! Others can be defined at start or later (`POST /__sim/identities`): non-admins whose lists
//! silently return less, tokens that expire, callers who lose a right in mid-run.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::errors::ApiError;
use crate::state::lock;

/// The token that every workspace accepts.
pub const TOKEN: &str = "sim";

/// User name of the person behind the token `sim`.
pub const OPERATOR: &str = "operator@example.com";

/// Application id of the service principal behind the OAuth client `sim`.
pub const CLIENT: &str = "51b00000-0000-4000-a000-000000000051";

/// A token or OAuth client, and the rights of the principal behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySpec {
    /// The bearer token, or the OAuth client id.
    pub token: String,
    /// OAuth client secret: makes `token` a client id instead of a bearer token.
    #[serde(default)]
    pub secret: Option<String>,
    /// User name, or application id of a service principal.
    pub name: String,
    /// Workspace admin.
    #[serde(default)]
    pub admin: bool,
    /// Of 100 things, how many the lists show to a non-admin.
    #[serde(default = "half")]
    pub visible_percent: u8,
    /// API families answered with 403 PERMISSION_DENIED (`jobs`, `unity-catalog`, …).
    #[serde(default)]
    pub denied: Vec<String>,
    /// Milliseconds since 1970 after which the token is refused.
    #[serde(default)]
    pub expires_at_ms: Option<i64>,
    /// Life of a minted OAuth token in seconds.
    #[serde(default = "hour")]
    pub lifetime_s: i64,
}

fn half() -> u8 {
    50
}

fn hour() -> i64 {
    3600
}

impl IdentitySpec {
    /// An admin with a static token.
    pub fn admin(token: &str, name: &str) -> Self {
        Self {
            token: token.to_owned(),
            secret: None,
            name: name.to_owned(),
            admin: true,
            visible_percent: 100,
            denied: Vec::new(),
            expires_at_ms: None,
            lifetime_s: 3600,
        }
    }
}

/// The caller as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) admin: bool,
    pub(crate) visible_percent: u8,
    pub(crate) denied: Vec<String>,
}

/// The tokens of one workspace: a minted token is bound to the host that minted it (section 1.3).
#[derive(Debug)]
pub(crate) struct Identities(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    specs: HashMap<String, IdentitySpec>,
    /// Minted token to (client id, expiry).
    minted: HashMap<String, (String, i64)>,
    serial: u64,
}

impl Identities {
    pub(crate) fn new(extra: &[IdentitySpec]) -> Self {
        let client =
            IdentitySpec { secret: Some("sim".to_owned()), ..IdentitySpec::admin("client:sim", CLIENT) };
        let all = Self(Mutex::default());
        all.define(IdentitySpec::admin(TOKEN, OPERATOR));
        lock(&all.0).specs.insert("client:sim".to_owned(), client);
        for spec in extra {
            all.define(spec.clone());
        }
        all
    }

    /// Adds or replaces an identity; a minted token of a replaced client takes its new rights at once.
    pub(crate) fn define(&self, spec: IdentitySpec) {
        let key = if spec.secret.is_some() { format!("client:{}", spec.token) } else { spec.token.clone() };
        lock(&self.0).specs.insert(key, spec);
    }

    /// Makes a token unknown, as revoking it does.
    pub(crate) fn revoke(&self, token: &str) -> bool {
        let mut table = lock(&self.0);
        table.specs.remove(token).is_some()
            | table.minted.remove(token).is_some()
            | table.specs.remove(&format!("client:{token}")).is_some()
    }

    /// Mints an access token for a client, or `None` if id or secret are wrong.
    pub(crate) fn mint(&self, client: &str, secret: &str, now_ms: i64) -> Option<(String, i64)> {
        let mut table = lock(&self.0);
        let key = format!("client:{client}");
        let lifetime = table.specs.get(&key).filter(|s| s.secret.as_deref() == Some(secret))?.lifetime_s;
        table.serial += 1;
        let token = format!("sim-oauth-{}-{}", table.serial, now_ms);
        table.minted.insert(token.clone(), (key, now_ms + lifetime * 1000));
        Some((token, lifetime))
    }

    /// The caller of a request, or why there is none.
    pub(crate) fn caller(&self, authorization: Option<&str>, now_ms: i64) -> Result<Identity, ApiError> {
        let Some(header) = authorization else {
            return Err(ApiError::new(
                401,
                "UNAUTHENTICATED",
                "Credential was not sent or was of an unsupported type for this API.",
            ));
        };
        let token = header.strip_prefix("Bearer ").unwrap_or_default();
        let table = lock(&self.0);
        let (spec, expiry) = match table.minted.get(token) {
            Some((client, expiry)) => (table.specs.get(client), Some(*expiry)),
            None => (table.specs.get(token).filter(|s| s.secret.is_none()), None),
        };
        let Some(spec) = spec else {
            return Err(ApiError::new(401, "UNAUTHENTICATED", "Invalid access token."));
        };
        if expiry.into_iter().chain(spec.expires_at_ms).any(|t| t <= now_ms) {
            return Err(ApiError::new(401, "UNAUTHENTICATED", "Access token has expired."));
        }
        Ok(Identity {
            name: spec.name.clone(),
            admin: spec.admin,
            visible_percent: spec.visible_percent,
            denied: spec.denied.clone(),
        })
    }
}
