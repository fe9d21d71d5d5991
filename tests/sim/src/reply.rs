//! What a handler gets ([`Req`]) and what it gives back ([`Reply`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::errors::ApiError;
use crate::identity::Identity;
use crate::rng;
use crate::state::{Workspace, World};

/// A handler's answer or the error it becomes.
pub(crate) type Reply = Result<Answer, ApiError>;

/// Handlers are plain functions: all state is in memory, and waiting is the chain's business.
pub(crate) type Handler = fn(&Req) -> Reply;

/// One call, after authentication.
pub(crate) struct Req {
    pub(crate) world: Arc<World>,
    pub(crate) ws: Arc<Workspace>,
    pub(crate) caller: Identity,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Req {
    /// A segment of the path by its name in the template; empty if the template has none of that name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// A query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A repeated query parameter (arrays are repeated, nested filters dotted: section 2.5).
    pub(crate) fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.query.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// True if the parameter is the string `true`: booleans travel as strings (section 2.5).
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// The body as a JSON object; an empty body is an empty object.
    pub(crate) fn json(&self) -> Result<Map<String, Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(ApiError::new(
                400,
                "MALFORMED_REQUEST",
                "Could not parse request object: expected an object",
            )),
            Err(e) => {
                Err(ApiError::new(400, "MALFORMED_REQUEST", format!("Could not parse request object: {e}")))
            }
        }
    }

    /// A field wherever the caller put it: the query of a GET, the body of a POST.
    pub(crate) fn arg(&self, name: &str) -> Option<String> {
        if let Some(v) = self.query(name) {
            return Some(v.to_owned());
        }
        match self.json().ok()?.get(name)? {
            Value::String(s) => Some(s.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// [`Req::arg`], or the error a workspace gives when a required field is missing.
    pub(crate) fn need(&self, name: &str) -> Result<String, ApiError> {
        self.arg(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| ApiError::invalid(format!("Missing required field: {name}")))
    }

    /// 403 unless the caller is a workspace admin.
    pub(crate) fn admin(&self) -> Result<(), ApiError> {
        if self.caller.admin {
            return Ok(());
        }
        Err(ApiError::denied(format!(
            "Only Admins can perform this operation; user {} is not an admin.",
            self.caller.name
        )))
    }

    /// Whether a list shows this thing to the caller: lists as a non-admin do not fail, they
    /// silently return fewer items (section 1.6).
    pub(crate) fn sees(&self, kind: &str, id: &str) -> bool {
        self.caller.admin
            || rng::hash(kind).wrapping_add(rng::hash(id)) % 100 < u64::from(self.caller.visible_percent)
    }

    /// Milliseconds since 1970 by the simulator's clock.
    pub(crate) fn now(&self) -> i64 {
        self.world.clock.now_ms()
    }

    /// A page size: the first of `names` given, within `1..=max`, else `default`.
    pub(crate) fn size(&self, names: &[&str], default: usize, max: usize) -> Result<usize, ApiError> {
        let Some((name, text)) = names.iter().find_map(|n| self.query(n).map(|v| (*n, v))) else {
            return Ok(default);
        };
        let size: usize =
            text.parse().map_err(|_| ApiError::invalid(format!("Invalid value for {name}: {text}")))?;
        Ok(if size == 0 { default } else { size.min(max) })
    }
}

/// A response before it is written, still open to the faults that spoil it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Payload,
    /// `Content-Length` to claim; a fault may make it a lie.
    pub(crate) claimed_length: Option<u64>,
    /// Pieces of so many bytes, so far apart.
    pub(crate) pace: Option<(usize, Duration)>,
    /// Reset the connection instead of answering.
    pub(crate) reset: bool,
}

/// Bodies are either here or made while they are sent, so that a 100 MB file costs no memory.
pub(crate) enum Payload {
    Bytes(Bytes),
    Lazy { len: u64, chunks: Box<dyn Iterator<Item = Bytes> + Send> },
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(b) => write!(f, "Bytes({})", b.len()),
            Self::Lazy { len, .. } => write!(f, "Lazy({len})"),
        }
    }
}

impl Payload {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(b) => b.len() as u64,
            Self::Lazy { len, .. } => *len,
        }
    }

    /// The first `keep` bytes.
    pub(crate) fn cut(self, keep: u64) -> Self {
        match self {
            Self::Bytes(b) => {
                Self::Bytes(b.slice(..b.len().min(usize::try_from(keep).unwrap_or(usize::MAX))))
            }
            Self::Lazy { len, chunks } => {
                let len = len.min(keep);
                let mut left = len;
                let cut = chunks.map_while(move |c| {
                    if left == 0 {
                        return None;
                    }
                    let n = c.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= n as u64;
                    Some(c.slice(..n))
                });
                Self::Lazy { len, chunks: Box::new(cut) }
            }
        }
    }
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::bytes("application/json", Bytes::from(value.to_string()))
    }

    pub(crate) fn bytes(content_type: &str, body: Bytes) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Payload::Bytes(body),
            claimed_length: None,
            pace: None,
            reset: false,
        }
    }

    pub(crate) fn lazy(content_type: &str, len: u64, chunks: Box<dyn Iterator<Item = Bytes> + Send>) -> Self {
        Self { body: Payload::Lazy { len, chunks }, ..Self::bytes(content_type, Bytes::new()) }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// 200 with a JSON body.
pub(crate) fn ok(value: Value) -> Reply {
    Ok(Answer::json(&value))
}

/// 200 with `{}`, what most writes answer.
pub(crate) fn done() -> Reply {
    ok(Value::Object(Map::new()))
}
