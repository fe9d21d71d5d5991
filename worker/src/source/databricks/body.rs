//! Bodies of answers: read whole or as they come, bounded, and told apart from what is no answer at all.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::de::IgnoredAny;

use super::request::Request;
use super::retry::{Failure, LONGEST_ASKED, Stage};

/// No answer that is read into memory may be larger.
const LARGEST: usize = 256 << 20;
/// A stream is tried again as long as it breaks off within its first bytes.
const HEAD: usize = 256 << 10;
/// The most that is read of a refusal.
pub(super) const REFUSAL: usize = 64 << 10;

/// Reads a body whole.
pub(super) async fn whole(answer: &mut Response, request: &Request) -> Result<Bytes, Failure> {
    let too_large = || Failure {
        fault: Fault::new(
            Class::Unsupported,
            "http.too-large",
            request.context(),
            "the answer is above 256 MiB",
        ),
        stage: Stage::Final,
    };
    if answer.content_length().is_some_and(|length| length > LARGEST as u64) {
        return Err(too_large());
    }
    let body = first(answer, LARGEST + 1).await.map_err(|e| broken(&request.context(), &e))?;
    if body.len() > LARGEST { Err(too_large()) } else { Ok(body) }
}

/// Reads a body until it ends or `most` bytes have come.
pub(super) async fn first(answer: &mut Response, most: usize) -> reqwest::Result<Bytes> {
    // The common case is one piece, which is not copied.
    let Some(one) = answer.chunk().await? else { return Ok(Bytes::new()) };
    let Some(two) = (if one.len() < most { answer.chunk().await? } else { None }) else {
        return Ok(one.slice(..one.len().min(most)));
    };
    let mut body = BytesMut::from(one);
    body.extend_from_slice(&two);
    while body.len() < most {
        match answer.chunk().await? {
            Some(piece) => body.extend_from_slice(&piece),
            None => break,
        }
    }
    body.truncate(most);
    Ok(body.freeze())
}

/// Reads the beginning of a body, and answers it with the rest to come: the one is retried with the call, the other breaks
/// off as an error in the stream.
pub(super) async fn streamed(
    mut answer: Response,
    request: &Request,
) -> Result<BoxStream<'static, Result<Bytes>>, Failure> {
    let context = request.context();
    let mut head = Vec::new();
    let mut held = 0;
    while held < HEAD {
        match answer.chunk().await.map_err(|e| broken(&context, &e))? {
            Some(piece) => {
                held += piece.len();
                head.push(Ok(piece));
            }
            None => return Ok(stream::iter(head).boxed()),
        }
    }
    let rest = stream::try_unfold(answer, move |mut answer| {
        let context = context.clone();
        async move {
            let piece = answer.chunk().await.map_err(|e| broken(&context, &e).fault)?;
            Ok(piece.map(|piece| (piece, answer)))
        }
    });
    Ok(stream::iter(head).chain(rest).boxed())
}

/// Checks that a body is JSON in UTF-8, without making anything of it. `what` is how it was announced.
pub(super) fn check_json(body: Bytes, request: &Request) -> Result<Bytes, Failure> {
    let not_json = |detail: String| Failure {
        fault: Fault::new(Class::Unavailable, "http.not-json", request.context(), detail)
            .hint("something between here and the workspace may be answering in its place"),
        stage: Stage::Underway,
    };
    let text = std::str::from_utf8(&body).map_err(|e| not_json(format!("the answer is no UTF-8: {e}")))?;
    if looks_html(text) {
        return Err(login_page(request, "an HTML page", None));
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(body),
        // The parser tells the place and what it expected there, and nothing of the text.
        Err(e) => Err(not_json(format!("the answer is no JSON ({} bytes): {e}", body.len()))),
    }
}

/// Whether an answer announces a page for people. Under an API path that is a login page, whatever its status.
pub(super) fn is_html(headers: &HeaderMap) -> bool {
    let announced = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    announced.trim_start().to_ascii_lowercase().starts_with("text/html")
}

fn looks_html(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(15).collect::<String>().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// The fault of being sent to a login page.
pub(super) fn login_page(request: &Request, what: &str, query: Option<&str>) -> Failure {
    let private = query.is_some_and(|query| query.contains("private-link-validation-error"));
    let fault =
        Fault::new(Class::Denied, "http.login-page", request.context(), format!("answered with {what}"));
    let fault = if private {
        fault
            .hint("the workspace takes calls through its private link only: run lakehold inside that network")
    } else {
        fault.hint("check the host, and set workspace_id where one host serves many workspaces")
    };
    Failure { fault, stage: Stage::Final }
}

/// What a redirect means: nothing under an API path redirects but a login page, or a host that is not the workspace.
pub(super) fn redirected(request: &Request, location: Option<&str>) -> Failure {
    let target = location.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path.contains("login") {
        return login_page(request, "a redirect to a login page", Some(query));
    }
    let host =
        path.split_once("://").map_or("another path", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let fault = Fault::new(
        Class::Config,
        "http.redirect",
        request.context(),
        format!("answered with a redirect to {host}"),
    )
    .hint("set host to where the workspace really is");
    Failure { fault, stage: Stage::Final }
}

/// What an error of the connection means, and how far the call had come. The text is the innermost cause, without the
/// address.
pub(super) fn broken(doing: &str, error: &reqwest::Error) -> Failure {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let detail = cause.map_or_else(|| "the connection broke".to_owned(), ToString::to_string);
    let fault = |code, detail: String| Fault::new(Class::Unavailable, code, doing, detail);
    if refuses_certificate(error) {
        let fault = Fault::new(Class::Config, "http.certificate", doing, detail).hint(
            "check the host; if a CA of your own signed its certificate, install that CA, or let SSL_CERT_FILE name a \
             PEM file with every CA to be trusted",
        );
        return Failure { fault, stage: Stage::Final };
    }
    if error.is_connect() {
        let detail = if error.is_dns() { format!("the host has no address: {detail}") } else { detail };
        let fault = fault("http.unreachable", detail)
            .hint("check the host, the network and the proxy settings (HTTPS_PROXY, NO_PROXY)");
        return Failure { fault, stage: Stage::Connecting };
    }
    if error.is_builder() {
        return Failure { fault: Fault::new(Class::Bug, "http.request", doing, detail), stage: Stage::Final };
    }
    let fault = if error.is_timeout() {
        fault("http.timeout", "no answer in time".to_owned())
    } else if error.is_body() || error.is_decode() {
        fault("http.truncated", format!("the answer broke off: {detail}"))
    } else {
        fault("http.connection-lost", detail)
    };
    Failure { fault, stage: Stage::Underway }
}

/// Whether it was us who would not trust the server.
fn refuses_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    // An error of input and output passes over the one that it holds when it is asked for its source.
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    held.is_some_and(|held| refuses_certificate(held)) || error.source().is_some_and(refuses_certificate)
}

/// The pause that an answer asks for: seconds, or a date, which is compared with the clock of this machine. At most five
/// minutes.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::super::families::JOBS;
    use super::*;

    fn request() -> Request {
        Request::get(&JOBS, "/api/x")
    }

    #[test]
    fn only_json_in_utf8_passes() {
        let check = |body: &'static [u8]| check_json(Bytes::from_static(body), &request());
        assert!(check(br#" {"a":[1,"\u0000"]} "#).is_ok());
        for body in [&b""[..], b"{", br#"{"a":1}x"#, b"\xff\xfe", b"{\"a\":\"\xc3\x28\"}", b"plain"] {
            let failure = check(body).unwrap_err();
            assert_eq!((failure.fault.code, failure.stage), ("http.not-json", Stage::Underway), "{body:?}");
        }
        assert_eq!(check(b"\n<!DOCTYPE html><html>").unwrap_err().fault.code, "http.login-page");
    }

    #[test]
    fn redirects_lead_to_login_pages_or_elsewhere() {
        let code = |location| redirected(&request(), Some(location)).fault;
        let private = code("/login.html?error=private-link-validation-error");
        assert_eq!((private.class, private.code), (Class::Denied, "http.login-page"));
        assert!(private.hint.unwrap().contains("private link"));
        assert_eq!(code("https://x.test/login").code, "http.login-page");
        let elsewhere = code("https://other.test/api/x?token=hunter2");
        assert_eq!((elsewhere.class, elsewhere.code), (Class::Config, "http.redirect"));
        assert!(elsewhere.detail.contains("other.test") && !elsewhere.detail.contains("hunter2"));
    }

    #[test]
    fn pauses_are_read_as_seconds_and_as_dates() {
        let at: Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        let read = |text| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, at)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sat, 01 Aug 2026 02:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(read("Sat, 01 Aug 2026 01:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("86400"), Some(LONGEST_ASKED));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
