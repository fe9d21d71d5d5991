//! Calls to issuers of tokens. They are no API calls: no budget counts them, and their errors have shapes of their own.

use std::time::Duration;

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, HttpRefusal, Result};
use lakehold_proto::secret::Secret;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use super::super::body;
use super::super::errors::{self, Answer};
use super::super::retry::{self, Failure, Stage};
use super::Auth;

/// One try at an issuer takes no longer than this.
const DEADLINE: Duration = Duration::from_secs(20);
/// No answer of an issuer is longer than this.
const LARGEST: usize = 256 * 1024;
/// A token whose answer does not say how long it lives is kept this long.
const UNTOLD: Duration = Duration::from_secs(60);

/// What an issuer answered, with whatever status.
pub(super) struct Issued {
    /// The status.
    pub(super) status: u16,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
}

/// A token, and how long it lives from when it was asked for.
pub(super) struct Token {
    /// The token.
    pub(super) secret: Secret,
    /// Its life.
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Auth {
    /// Asks an issuer for a token: `form` to `endpoint`, with the client's id and secret in the form or as `basic`.
    ///
    /// # Errors
    /// `Denied` when the issuer refuses; `Unavailable` when it cannot be reached or answers nothing of use.
    pub(super) async fn token(
        &self,
        endpoint: &Url,
        form: &[(&str, &str)],
        basic: Option<(&Secret, &Secret)>,
        secrets: &[Secret],
        retries: Duration,
    ) -> Result<Token> {
        const DOING: &str = "sign in";
        let build = || {
            let call = self.http.post(endpoint.clone()).form(form);
            match basic {
                Some((id, secret)) => call.basic_auth(id.reveal(), Some(secret.reveal())),
                None => call,
            }
        };
        let issued = self.fetch(build, DOING, retries).await?;
        if issued.status != 200 {
            return Err(refused(&issued, DOING, secrets));
        }
        let strange = || {
            Fault::new(Class::Unavailable, "auth.answer", DOING, "the issuer's answer holds no token")
                .hint("check that the host is a Databricks workspace")
        };
        let answer: TokenAnswer = serde_json::from_slice(&issued.body).map_err(|_| strange())?;
        let secret = Secret::new(answer.access_token.unwrap_or_default());
        if secret.is_empty() {
            return Err(strange());
        }
        Ok(Token { secret, life: life(answer.expires_in.as_ref()) })
    }

    /// Makes a call to an issuer and answers whatever it says, but for what may pass: that is tried again.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be reached for as long as `retries`.
    pub(super) async fn fetch(
        &self,
        build: impl Fn() -> RequestBuilder,
        doing: &str,
        retries: Duration,
    ) -> Result<Issued> {
        let began = self.clock.tick();
        for tries in 1.. {
            let failure = match self.try_fetch(build(), doing).await {
                Ok(issued) => return Ok(issued),
                Err(failure) => failure,
            };
            let spent = self.clock.tick().since(began);
            match retry::pause(&failure, true, tries, spent, retries, rand::random()) {
                Some(pause) => self.clock.sleep(pause).await,
                None => return Err(failure.fault),
            }
        }
        Err(Fault::new(Class::Bug, "auth.endless", doing, "tries ran out of numbers"))
    }

    async fn try_fetch(&self, call: RequestBuilder, doing: &str) -> Result<Issued, Failure> {
        let mut answer = call.timeout(DEADLINE).send().await.map_err(|e| body::broken(doing, &e))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = body::first(&mut answer, LARGEST).await.map_err(|e| body::broken(doing, &e))?;
        let issued = Issued { status, headers, body };
        if status == 429 || status >= 500 {
            let asked =
                issued.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
            let stage = match status {
                429 | 503 => Stage::TooBusy(asked.map(Duration::from_secs)),
                _ => Stage::Refused,
            };
            return Err(Failure { fault: refused(&issued, doing, &[]), stage });
        }
        Ok(issued)
    }
}

/// What an issuer's refusal means.
pub(super) fn refused(issued: &Issued, doing: &str, secrets: &[Secret]) -> Fault {
    let said = errors::read(&Answer { status: issued.status, request_id: None, body: &issued.body });
    let words = if said.message.is_empty() { "no reason given" } else { said.message.as_str() };
    let detail = format!("{}: {}", issued.status, errors::clean(words, secrets));
    let fault = match issued.status {
        400 | 401 | 403 => Fault::new(Class::Denied, "http.unauthenticated", doing, detail)
            .hint("check the client id and secret, that they are not expired, and that they belong to this workspace"),
        429 => Fault::new(Class::Throttled, "auth.throttled", doing, detail),
        500.. => Fault::new(Class::Unavailable, "auth.unavailable", doing, detail),
        _ => Fault::new(Class::Config, "auth.no-issuer", doing, detail)
            .hint("check that the host is a Databricks workspace"),
    };
    fault.http(HttpRefusal { status: issued.status, code: None, request_id: None })
}

/// How long a token lives. A number or a string of one, depending on the issuer.
fn life(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = match expires_in {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(UNTOLD),
        None => UNTOLD,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lives_come_as_numbers_and_as_words() {
        for (told, seconds) in [(json!(3600), 3600), (json!("3599"), 3599), (json!(-5), 0), (json!("x"), 60)]
        {
            assert_eq!(life(Some(&told)), Duration::from_secs(seconds), "{told}");
        }
        assert_eq!(life(None), UNTOLD);
    }

    #[test]
    fn refusals_of_both_shapes_are_read() {
        for body in [
            r#"{"error":"invalid_client","error_description":"bad secret"}"#,
            r#"{"errorCode":"E1","errorSummary":"bad secret"}"#,
        ] {
            let issued =
                Issued { status: 401, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
            let fault = refused(&issued, "sign in", &[]);
            assert_eq!((fault.class, fault.code), (Class::Denied, "http.unauthenticated"));
            assert!(fault.detail.contains("bad secret"), "{fault}");
        }
    }
}
