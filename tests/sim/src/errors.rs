//! The shapes in which a workspace says no (reference section 2.1) and the codes it uses (2.2).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::reply::Answer;

/// The error shapes of reference section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `{"error_code", "message", "details"}`.
    #[default]
    Standard,
    /// `{"error": "text"}`, as API 1.2 answers.
    Api12,
    /// `{"schemas", "detail", "status", "scimType"}`.
    Scim,
    /// `CODE: message`.
    Text,
    /// An HTML page with the message in `<pre>`.
    Html,
    /// Status 200 and the login page, whatever the status asked for (section 1.1).
    Login,
    /// No body at all.
    Empty,
}

/// An error of the simulated API; it becomes a response in one place, [`ApiError::answer`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) shape: Shape,
    pub(crate) retry_after: Option<u64>,
    /// `details[]` of the standard shape.
    pub(crate) details: Vec<Value>,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            shape: Shape::Standard,
            retry_after: None,
            details: Vec::new(),
        }
    }

    /// 404 RESOURCE_DOES_NOT_EXIST.
    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self::new(404, "RESOURCE_DOES_NOT_EXIST", message)
    }

    /// 400 INVALID_PARAMETER_VALUE.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_PARAMETER_VALUE", message)
    }

    /// 400 with the code RESOURCE_ALREADY_EXISTS is 409 on most services (section 2.2).
    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(409, "RESOURCE_ALREADY_EXISTS", message)
    }

    /// 403 PERMISSION_DENIED.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(403, "PERMISSION_DENIED", message)
    }

    /// 400 INVALID_STATE.
    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_STATE", message)
    }

    /// A SCIM error: its shape differs from all others (section 2.1, shape 3).
    pub(crate) fn scim(status: u16, scim_type: &str, detail: impl Into<String>) -> Self {
        Self { shape: Shape::Scim, ..Self::new(status, scim_type, detail) }
    }

    /// Adds an ErrorInfo detail; some services give the reason only there (section 2.5).
    pub(crate) fn with_reason(mut self, reason: &str, metadata: Value) -> Self {
        self.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason, "domain": "databricks.com", "metadata": metadata,
        }));
        self
    }

    /// The response as bytes, in its shape.
    pub(crate) fn answer(&self) -> Answer {
        let (code, message) = (&self.code, &self.message);
        let mut answer = match self.shape {
            Shape::Standard => {
                let mut body = json!({"error_code": code, "message": message});
                if !self.details.is_empty() {
                    body["details"] = json!(self.details);
                }
                Answer::json(&body)
            }
            Shape::Api12 => Answer::json(&json!({"error": message})),
            Shape::Scim => {
                let mut body = json!({
                    "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
                    "detail": message, "status": self.status.to_string(),
                });
                if !code.is_empty() {
                    body["scimType"] = json!(code);
                }
                Answer::json(&body)
            }
            Shape::Text => {
                Answer::bytes("text/plain;charset=utf-8", Bytes::from(format!("{code}: {message}")))
            }
            Shape::Html => Answer::bytes(
                "text/html;charset=utf-8",
                Bytes::from(format!(
                    "<html><head><title>Error {}</title></head><body><pre>{message}</pre></body></html>",
                    self.status
                )),
            ),
            Shape::Login => Answer::bytes("text/html;charset=utf-8", Bytes::from_static(LOGIN_PAGE)),
            Shape::Empty => Answer::bytes("application/json", Bytes::new()),
        };
        answer.status = if self.shape == Shape::Login { 200 } else { self.status };
        if let Some(seconds) = self.retry_after {
            answer.headers.push(("retry-after".to_owned(), seconds.to_string()));
        }
        answer
    }
}

const LOGIN_PAGE: &[u8] = b"<!doctype html><html><head><title>Databricks - Sign In</title></head>\
<body class=\"light-mode\"><uses-legacy-bootstrap><div id=\"login-page\"></div></body></html>";
