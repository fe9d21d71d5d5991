//! What a bucket's refusals mean: one row for each of them
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, checked 2026-11-21).

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use super::bucket::Bucket;
use crate::fault::Class::{self, Config, Denied, Unavailable, Unsupported};
use crate::fault::{Fault, HttpRefusal};

/// What was asked of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// A verb for people: "write".
    pub(super) verb: &'static str,
    /// The permission it takes: "s3:PutObject".
    pub(super) action: &'static str,
    /// The key or prefix, as the port has it.
    pub(super) of: &'a str,
}

impl Asked<'_> {
    pub(super) fn context(&self) -> String {
        let of = if self.of.is_empty() { "the store" } else { self.of };
        format!("{} {of}", self.verb)
    }

    /// A fault of this request that the server's answer, not its refusal, is the cause of.
    pub(super) fn fault(&self, class: Class, code: &'static str, detail: impl std::fmt::Display) -> Fault {
        Fault::new(class, code, self.context(), detail)
    }
}

/// One refusal.
struct Row {
    /// S3's own names of it.
    names: &'static [&'static str],
    class: Class,
    code: &'static str,
    says: &'static str,
    hint: &'static str,
}

const SLOW_DOWN: &str = "store.slow-down";
const DENIED: &str = "store.denied";
const WRONG_REGION: &str = "store.wrong-region";
/// How long to leave a server alone that asked for it without saying how long.
const BREATH: Duration = Duration::from_secs(5);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { names: &["AccessDenied", "AllAccessDisabled", "UnauthorizedAccess"], class: Denied, code: DENIED,
          says: "it is not allowed", hint: "" },
    Row { names: &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp"], class: Denied, code: "store.wrong-credentials",
          says: "the server does not accept the credentials",
          hint: "check the access key and its secret: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the profile's" },
    Row { names: &["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired"], class: Denied, code: "store.expired-token",
          says: "the session token is expired or no longer valid",
          hint: "sign in again or renew AWS_SESSION_TOKEN; a role of the machine or pod renews itself" },
    Row { names: &["RequestTimeTooSkewed"], class: Denied, code: "store.clock-skew",
          says: "this machine's clock and the server's are too far apart",
          hint: "set the clock of this machine (NTP), then try again" },
    Row { names: &["NoSuchBucket"], class: Config, code: "store.no-bucket",
          says: "there is no such bucket", hint: "check its name, endpoint and account; Lakehold makes no buckets" },
    Row { names: &["InvalidBucketName"], class: Config, code: "store.no-bucket",
          says: "the server does not take that for the name of a bucket", hint: "check its name in the configuration" },
    Row { names: &["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "IncorrectEndpoint"],
          class: Config, code: WRONG_REGION,
          says: "the bucket is in another region or at another endpoint", hint: "set `region` (and `endpoint`) to the bucket's own" },
    Row { names: &["TemporaryRedirect", "Redirect"], class: Unavailable, code: "store.redirected",
          says: "the server sends us elsewhere for now, as it does for new buckets", hint: "try again later, or name the bucket's own regional endpoint" },
    Row { names: &["SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
                   "RequestThrottled", "KMS.ThrottlingException", "BandwidthLimitExceeded"],
          class: Unavailable, code: SLOW_DOWN,
          says: "the server asks for fewer requests", hint: "it is tried again later; if it lasts, run fewer workers or ask for a higher limit" },
    Row { names: &["QuotaExceeded", "StorageFull", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity", "NoSpaceLeft",
                   "AccountQuotaExceeded", "StorageQuotaExceeded"],
          class: Unavailable, code: "store.full",
          says: "there is no room left", hint: "raise the quota or make room, and run the same command with --resume: nothing is lost" },
    Row { names: &["EntityTooLarge"], class: Unsupported, code: "store.too-large",
          says: "the server does not take a body of this size", hint: "raise the server's limit to 16 MiB for one request" },
    Row { names: &["KMS.NotFoundException", "KMS.DisabledException", "KMS.InvalidStateException", "KMS.KMSInvalidStateException",
                   "KMS.InvalidKeyUsageException", "KMS.ArnNotFoundException", "KMSInvalidKeyUsageException", "NoSuchKMSKey"],
          class: Config, code: "store.kms-key",
          says: "the KMS key cannot be used", hint: "check `kms_key`: that it exists, is enabled, and is in the bucket's region" },
    Row { names: &["KMS.AccessDeniedException"], class: Denied, code: "store.kms-denied",
          says: "the KMS key may not be used", hint: "allow kms:GenerateDataKey and kms:Decrypt on it" },
    Row { names: &["InvalidObjectState"], class: Unsupported, code: "store.archived",
          says: "the object was moved to an archive", hint: "bring it back from the archive (`aws s3api restore-object`), and exempt the store from such lifecycle rules" },
    Row { names: &["NotImplemented"], class: Unsupported, code: "store.unsupported",
          says: "the server cannot do this", hint: "see `lakehold doctor` for what a store must be able to do" },
    Row { names: &["BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody", "RequestTimeout"],
          class: Unavailable, code: TORN,
          says: "what arrived is not what was sent", hint: "it is tried again; if it lasts, look at proxies on the way" },
];

pub(super) const TORN: &str = "store.torn-upload";

/// What an HTTP status means when its code says nothing that is known: the row of a refusal of that kind, or its own.
fn by_status(status: u16) -> &'static Row {
    match status {
        301 | 308 => row("PermanentRedirect"),
        401 | 403 => row("AccessDenied"),
        413 => row("EntityTooLarge"),
        429 | 503 => row("SlowDown"),
        501 => row("NotImplemented"),
        507 => row("QuotaExceeded"),
        500.. => &FAILED,
        // Also what is no answer of S3 at all, such as the page of a proxy.
        200..=399 | 404 => &NO_ANSWER,
        _ => &REFUSED,
    }
}

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.names.contains(&name)).unwrap_or(&REFUSED)
}

#[rustfmt::skip]
const FAILED: Row = Row {
    names: &[], class: Unavailable, code: "store.server-error",
    says: "the server failed", hint: "it is tried again; if it lasts, the request id is what its operator needs",
};
#[rustfmt::skip]
const NO_ANSWER: Row = Row {
    names: &[], class: Unavailable, code: "store.answer",
    says: "that is no answer of an S3 server", hint: "look whether the endpoint is right, and at proxies on the way",
};
#[rustfmt::skip]
const REFUSED: Row = Row {
    names: &[], class: Unsupported, code: "store.refused",
    says: "the server does not take this request", hint: "see `lakehold doctor` for what a store must be able to do",
};

/// The server's own name of a refusal, and its status.
pub(super) fn refusal<E>(error: &SdkError<E, HttpResponse>) -> (u16, &str)
where
    E: ProvideErrorMetadata,
{
    let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    (status, code)
}

impl Bucket {
    /// The fault of a request that failed.
    pub(super) fn fault<E>(&self, asked: Asked<'_>, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        match error {
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => self.refused(asked, error),
            SdkError::TimeoutError(_) => asked
                .fault(Unavailable, "store.timeout", format!("{} did not answer in time", self.location()))
                .hint("it is tried again; look whether the server and the network are well"),
            SdkError::DispatchFailure(e) if e.is_timeout() => asked
                .fault(Unavailable, "store.timeout", format!("{} did not answer in time", self.location()))
                .hint("it is tried again; look whether the server and the network are well"),
            SdkError::DispatchFailure(_) => asked
                .fault(Unavailable, "store.unreachable", format!("{}: {}", self.location(), chain(error)))
                .hint(
                    "look whether the server runs, the endpoint is right, and its certificate is known here",
                ),
            _ => asked.fault(Class::Bug, "store.request", format!("{}: {}", self.location(), chain(error))),
        }
    }

    fn refused<E>(&self, asked: Asked<'_>, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        let (status, name) = refusal(error);
        let row = ROWS.iter().find(|row| row.names.contains(&name)).unwrap_or_else(|| by_status(status));
        let service = error.as_service_error();
        let mut detail = format!("{}: {}", self.location(), row.says);
        if row.code == DENIED {
            let _ = write!(detail, ": {} on {}", asked.action, self.resource(asked));
        }
        let header = |name| error.raw_response().and_then(|raw| raw.headers().get(name));
        if let Some(region) = header("x-amz-bucket-region").filter(|_| row.code == WRONG_REGION) {
            let _ = write!(detail, ": {region}");
        }
        let _ = write!(detail, " ({status}");
        if !name.is_empty() {
            let _ = write!(detail, " {name}");
        }
        match service.and_then(ProvideErrorMetadata::message) {
            Some(said) => {
                let _ = write!(detail, ": {})", quoted(said));
            }
            None => detail.push(')'),
        }
        let mut fault = asked.fault(row.class, row.code, detail).http(HttpRefusal {
            status,
            code: (!name.is_empty()).then(|| name.to_owned()),
            request_id: service.and_then(RequestId::request_id).map(str::to_owned),
        });
        if row.code == SLOW_DOWN {
            let asked_for =
                header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
            fault = fault.after(asked_for.unwrap_or(BREATH));
        }
        match row.code {
            DENIED => fault.hint(self.permission(asked)),
            _ => fault.hint(row.hint),
        }
    }

    /// What a permission must be given on, as people see it.
    fn resource(&self, asked: Asked<'_>) -> String {
        format!("s3://{}/{}{}", self.name, self.root, asked.of)
    }

    fn permission(&self, asked: Asked<'_>) -> String {
        let on = match asked.action {
            "s3:ListBucket" => self.name.clone(),
            _ => format!("{}/{}*", self.name, self.root),
        };
        let mut hint = format!("allow {} on arn:aws:s3:::{on} to this identity", asked.action);
        match (&self.kms_key, asked.action) {
            (Some(_), "s3:PutObject") => {
                hint.push_str(", and kms:GenerateDataKey and kms:Decrypt on the KMS key");
            }
            (_, "s3:GetObject") => {
                hint.push_str(", and s3:ListBucket, without which an absent object is denied");
            }
            _ => {}
        }
        hint
    }
}

/// What a server said, for one line of text. A word so long may be a token that was echoed.
fn quoted(said: &str) -> String {
    let words = said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(|word| if word.len() > 120 { "…" } else { word }).take(60).collect();
    words.join(" ")
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = quoted(&error.to_string());
        if !words.is_empty() && !said.iter().any(|before| before.contains(&words)) {
            said.push(words);
        }
        next = error.source();
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_one_row_and_its_class() {
        let mut names: Vec<_> = ROWS.iter().flat_map(|row| row.names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name stands twice");
        for row in ROWS {
            assert!(row.code.starts_with("store.") && !row.says.is_empty());
            assert!(row.code == DENIED || !row.hint.is_empty(), "{} says nothing to do", row.code);
        }
    }

    #[test]
    fn a_status_alone_says_as_much_as_it_can() {
        for (status, code) in [
            (301, "store.wrong-region"),
            (403, "store.denied"),
            (503, "store.slow-down"),
            (507, "store.full"),
            (501, "store.unsupported"),
            (502, "store.server-error"),
            (404, "store.answer"),
            (418, "store.refused"),
        ] {
            assert_eq!(by_status(status).code, code, "{status}");
        }
    }

    #[test]
    fn what_a_server_says_is_cut_to_a_line_without_tokens() {
        let token = "A".repeat(300);
        assert_eq!(quoted(&format!("no\n  token {token}\u{7} here")), "no token … here");
    }
}
