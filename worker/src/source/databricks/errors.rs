//! What a refusal means: every shape of error body that the vendor's services answer with, turned into a [`Fault`].
//!
//! An error code beats the status, since services disagree about statuses. The message is shown to people and never
//! decides, but for two short tables: refusals that the vendor gives the wrong code, and refusals that it documents as
//! passing although they do not say so.

use std::time::Duration;

use lakehold_proto::fault::{Class, Fault, HttpRefusal};
use lakehold_proto::secret::Secret;
use serde_json::Value;

use super::request::Request;

/// Messages are cut to this many characters: they go into manifests and onto terminals.
const LONGEST: usize = 300;

/// A refusal as it came over the wire.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The request id of its headers.
    pub(super) request_id: Option<&'a str>,
    /// The beginning of its body.
    pub(super) body: &'a [u8],
}

/// What a refusal says, whatever its shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The error code, where there is one.
    pub(super) code: Option<String>,
    /// The words.
    pub(super) message: String,
    /// Reasons in the details, which may say more than the code.
    pub(super) reasons: Vec<String>,
    /// The pause asked for in the details.
    pub(super) pause: Option<Duration>,
    request_id: Option<String>,
}

/// A call that was wrongly called invalid: the vendor's own SDK treats these as "does not exist".
/// <https://github.com/databricks/databricks-sdk-py> `errors/overrides.py`, checked 2026-08.
const MISNAMED: [(&str, &str, &str); 3] = [
    ("/clusters/get", "Cluster ", "does not exist"),
    ("/jobs/get", "Job ", "does not exist"),
    ("/jobs/runs/get", "Run ", "does not exist"),
];

/// Messages that the vendor's SDK treats as passing whatever their status (`_base_client.py`, checked 2026-08).
const PASSING: [&str; 8] = [
    "com.databricks.backend.manager.util.UnknownWorkerEnvironmentException",
    "does not have any associated worker environments",
    "There is no worker environment with id",
    "Unknown worker environment",
    "ClusterNotReadyException",
    "Unexpected error",
    "Please try again later or try a faster operation.",
    "RPC token bucket limit has been exceeded",
];

/// Codes for things too large for the call; also seen in the details only.
const TOO_LARGE: [&str; 5] = [
    "MAX_NOTEBOOK_SIZE_EXCEEDED",
    "MAX_READ_SIZE_EXCEEDED",
    "MAX_BLOCK_SIZE_EXCEEDED",
    "MAX_LIST_SIZE_EXCEEDED",
    "MAX_CHILD_NODE_SIZE_EXCEEDED",
];

/// The fault that `answer` to `request` is. `secrets` are blotted out of whatever the server repeats.
pub(super) fn fault(request: &Request, answer: &Answer<'_>, secrets: &[Secret]) -> Fault {
    let said = read(answer);
    let (class, code) = classify(request, answer.status, &said);
    let message = if said.message.is_empty() { reason_phrase(answer.status) } else { said.message.as_str() };
    let refusal = HttpRefusal {
        status: answer.status,
        code: said.code.as_deref().map(|code| clean(code, secrets)),
        request_id: answer.request_id.or(said.request_id.as_deref()).map(|id| clean(id, secrets)),
    };
    let detail = match &refusal.code {
        Some(api) => format!("{} {api}: {}", answer.status, clean(message, secrets)),
        None => format!("{}: {}", answer.status, clean(message, secrets)),
    };
    let fault = Fault::new(class, code, request.context(), detail).http(refusal);
    let fault = match said.pause {
        Some(pause) => fault.after(pause),
        None => fault,
    };
    match hint(code) {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// What kind of failure it is, and its stable name.
fn classify(request: &Request, status: u16, said: &Said) -> (Class, &'static str) {
    if said.reasons.iter().chain(&said.code).any(|word| TOO_LARGE.contains(&word.as_str())) {
        return (Class::Unsupported, "http.too-large");
    }
    if MISNAMED
        .iter()
        .any(|(path, what, tail)| request.path.ends_with(path) && says(&said.message, what, tail))
    {
        return (Class::Absent, "http.absent");
    }
    if PASSING.iter().any(|passing| said.message.contains(passing)) {
        return (Class::Unavailable, "http.passing");
    }
    said.code.as_deref().and_then(by_code).unwrap_or_else(|| by_status(status))
}

fn says(message: &str, what: &str, tail: &str) -> bool {
    message.find(what).is_some_and(|at| message[at..].contains(tail))
}

fn by_code(code: &str) -> Option<(Class, &'static str)> {
    Some(match code {
        "METASTORE_DOES_NOT_EXIST" | "FEATURE_DISABLED" => (Class::Unsupported, "http.not-enabled"),
        "ENDPOINT_NOT_FOUND" | "NOT_IMPLEMENTED" | "UNIMPLEMENTED" => {
            (Class::Unsupported, "http.unsupported")
        }
        "RESOURCE_LIMIT_EXCEEDED" | "QUOTA_EXCEEDED" => (Class::Unsupported, "http.quota"),
        "UNAUTHENTICATED" | "CUSTOMER_UNAUTHORIZED" => (Class::Denied, "http.unauthenticated"),
        "PERMISSION_DENIED" => (Class::Denied, "http.denied"),
        "NOT_FOUND" => (Class::Absent, "http.absent"),
        "ABORTED" | "RESOURCE_CONFLICT" | "INVALID_STATE" => (Class::Conflict, "http.conflict"),
        "RESOURCE_EXHAUSTED" | "REQUEST_LIMIT_EXCEEDED" => (Class::Throttled, "http.throttled"),
        "TEMPORARILY_UNAVAILABLE"
        | "INTERNAL_ERROR"
        | "UNKNOWN"
        | "DATA_LOSS"
        | "DEADLINE_EXCEEDED"
        | "CANCELLED" => (Class::Unavailable, "http.server-error"),
        "INVALID_PARAMETER_VALUE" | "BAD_REQUEST" | "MALFORMED_REQUEST" => (Class::Bug, "http.refused"),
        // Resources of Unity Catalog carry their type in the code: TABLE_DOES_NOT_EXIST, SCHEMA_ALREADY_EXISTS.
        _ if code.ends_with("DOES_NOT_EXIST") => (Class::Absent, "http.absent"),
        _ if code.ends_with("ALREADY_EXISTS") => (Class::Conflict, "http.exists"),
        _ => return None,
    })
}

fn by_status(status: u16) -> (Class, &'static str) {
    match status {
        401 => (Class::Denied, "http.unauthenticated"),
        402 | 403 | 407 | 451 => (Class::Denied, "http.denied"),
        404 | 410 => (Class::Absent, "http.absent"),
        409 | 412 => (Class::Conflict, "http.conflict"),
        413 => (Class::Unsupported, "http.too-large"),
        429 => (Class::Throttled, "http.throttled"),
        501 => (Class::Unsupported, "http.unsupported"),
        408 | 499 | 500.. => (Class::Unavailable, "http.server-error"),
        _ => (Class::Bug, "http.refused"),
    }
}

fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "http.unauthenticated" => {
            "the credentials are wrong, expired or revoked: make new ones and run again"
        }
        "http.denied" => {
            "give the identity that lakehold uses the missing right, or leave the kind out with --exclude-kind"
        }
        "http.throttled" => "lower limits.share of this environment, or run when fewer others do",
        "http.too-large" => "the workspace does not hand this out by its API; keep a copy of it elsewhere",
        "http.refused" => "this is a fault of lakehold or of its idea of this API: please report it",
        _ => return None,
    })
}

/// Reads whatever shape the body has.
pub(super) fn read(answer: &Answer<'_>) -> Said {
    let text = String::from_utf8_lossy(answer.body);
    let text = text.trim();
    if let Ok(Value::Object(body)) = serde_json::from_str(text) {
        return read_json(&body, answer.status);
    }
    let message = if text.starts_with('<') { html_text(text) } else { text.to_owned() };
    // "CODE: message", as some services answer in plain text.
    if let Some((code, rest)) = message.split_once(": ")
        && code.len() > 2
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    {
        return Said { code: Some(code.to_owned()), message: rest.trim().to_owned(), ..Said::default() };
    }
    Said { message, ..Said::default() }
}

fn read_json(body: &serde_json::Map<String, Value>, status: u16) -> Said {
    let text = |name: &str| match body.get(name) {
        Some(Value::String(text)) if !text.is_empty() && text != "null" => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let mut said = Said::default();
    if body.contains_key("schemas") {
        said.code = Some(format!("SCIM_{}", text("status").unwrap_or_else(|| status.to_string())));
        said.message = text("detail").or_else(|| text("scimType")).unwrap_or_default();
        return said;
    }
    said.code = text("error_code").or_else(|| text("errorCode"));
    said.message = ["message", "error_description", "errorSummary", "error", "detail"]
        .into_iter()
        .find_map(text)
        .unwrap_or_default();
    for detail in body.get("details").and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| detail.get(name).and_then(Value::as_str).map(str::to_owned);
        said.reasons.extend(word("reason"));
        said.request_id = said.request_id.or_else(|| word("request_id"));
        said.pause = said.pause.or_else(|| word("retry_delay").as_deref().and_then(proto_duration));
    }
    said
}

/// A duration as proto3 JSON has it: `1.5s`.
fn proto_duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What an HTML error page says: its `<pre>`, else its `<title>`.
fn html_text(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let inside = |tag: &str| {
        let open = lower.find(&format!("<{tag}"))?;
        let from = open + lower[open..].find('>')? + 1;
        let to = from + lower[from..].find(&format!("</{tag}"))?;
        Some(page[from..to].trim().to_owned()).filter(|text| !text.is_empty())
    };
    inside("pre").or_else(|| inside("title")).unwrap_or_else(|| "an HTML page".to_owned())
}

/// `text` fit to be shown and kept: cut, on one line, without control characters, without secrets.
pub(super) fn clean(text: &str, secrets: &[Secret]) -> String {
    // A short secret (only test servers have them) may be a part of many words; it is blotted out as a whole word.
    let (long, short): (Vec<_>, Vec<_>) = secrets.iter().map(Secret::reveal).partition(|s| s.len() >= 8);
    let text = long.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"));
    let hides = |word: &str| looks_secret(word) || short.contains(&bare(word));
    let words: Vec<&str> = text.split(' ').map(|word| if hides(word) { "[secret]" } else { word }).collect();
    let mut shown = String::new();
    for (count, c) in words.join(" ").chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        // Controls could move a terminal's cursor; the bidirectional ones could make a line read as another.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a word has the look of somebody's credential: a Databricks token or a JWT.
fn looks_secret(word: &str) -> bool {
    let word = bare(word);
    let databricks =
        ["dapi", "dose", "dsapi"].iter().any(|prefix| word.starts_with(prefix)) && word.len() >= 32;
    databricks || (word.starts_with("eyJ") && word.len() >= 32)
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_ascii_alphanumeric())
}

fn reason_phrase(status: u16) -> &'static str {
    reqwest::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("an empty answer")
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
