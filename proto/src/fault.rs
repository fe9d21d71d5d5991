//! One fault taxonomy, and two questions: may it be tried again, and which exit code does it end in?
//!
//! A fault is built where the cause is known. Its context is a lower-case verb phrase without a full stop ("list cluster
//! policies"); its hint says what to do now. There is no catch-all class and nothing ever matches on a fault's text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of failure a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// What was typed or configured cannot be carried out.
    Config,
    /// The other side knows who we are, or refuses to, and says no.
    Denied,
    /// The thing asked for is not there.
    Absent,
    /// Somebody else holds it, made it first, or changed it meanwhile.
    Conflict,
    /// Too many calls; to be tried again after a pause.
    Throttled,
    /// The other side could not be reached, did not answer in time, or answered what its API does not allow.
    Unavailable,
    /// The other side cannot do this here: not in this tier, region, cloud or version, or not for something this large.
    Unsupported,
    /// Bytes are not what their hash or format says.
    Integrity,
    /// Somebody asked to stop.
    Cancelled,
    /// A broken promise of our own code.
    Bug,
}

impl Class {
    /// The stable word for this class, as it appears in manifests, outcomes and `-o json`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Denied => "denied",
            Self::Absent => "absent",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Integrity => "integrity",
            Self::Cancelled => "cancelled",
            Self::Bug => "bug",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What an HTTP API said when it refused, kept with every gap so that the vendor's support can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRefusal {
    /// The HTTP status code.
    pub status: u16,
    /// The API's own error code, such as `PERMISSION_DENIED`, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The request id the server gave the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A failure, with what a person or a program needs to act on it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{context}: {detail}")]
pub struct Fault {
    /// What kind of failure.
    pub class: Class,
    /// A stable, greppable name within the class, such as `store.newer-format`. Documented where it is made.
    pub code: &'static str,
    /// What was being done, as a lower-case verb phrase: "list cluster policies".
    pub context: String,
    /// What went wrong, in words. Never a body, never a secret.
    pub detail: String,
    /// What to do now.
    pub hint: Option<String>,
    /// How long the other side asked us to wait.
    pub after: Option<Duration>,
    /// The HTTP side of it, where there is one.
    pub http: Option<HttpRefusal>,
}

impl Fault {
    /// A fault of `class` with the stable name `code`, met while doing `context`.
    pub fn new(
        class: Class,
        code: &'static str,
        context: impl Into<String>,
        detail: impl fmt::Display,
    ) -> Self {
        Self {
            class,
            code,
            context: context.into(),
            detail: detail.to_string(),
            hint: None,
            after: None,
            http: None,
        }
    }

    /// Whether waiting helps: a store that is full does not empty itself.
    pub fn is_outage(&self) -> bool {
        self.class.may_retry() && self.code != "store.full"
    }

    /// The same fault with advice on what to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same fault, to be tried again no sooner than `after`.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after = Some(after);
        self
    }

    /// The same fault with what the HTTP API said.
    #[must_use]
    pub fn http(mut self, refusal: HttpRefusal) -> Self {
        self.http = Some(refusal);
        self
    }

    /// The same fault seen from one step further out: `context` goes before what it already says.
    #[must_use]
    pub fn while_doing(mut self, context: impl fmt::Display) -> Self {
        self.context = format!("{context}: {}", self.context);
        self
    }

    /// The exit code a command ends with when this fault ends it (DESIGN: 0 complete, 1 failed, 2 usage or
    /// configuration, 5 integrity, 7 denied, 11 lock not obtained, 130 cancelled). `10 no store` and `12 wrong key` are
    /// decided by code, since they are configuration faults that scripts tell apart.
    pub fn exit_code(&self) -> u8 {
        exit_code(self.class, self.code)
    }

    /// The lasting record of this fault, for outcomes, indexes and manifests.
    pub fn record(&self) -> FaultRecord {
        FaultRecord {
            class: self.class,
            code: self.code.to_owned(),
            message: self.to_string(),
            hint: self.hint.clone(),
            http: self.http.clone(),
        }
    }
}

fn exit_code(class: Class, code: &str) -> u8 {
    match (class, code) {
        (_, "store.absent") => 10,
        (_, "store.wrong-key") => 12,
        (Class::Config, _) => 2,
        (Class::Denied, _) => 7,
        (Class::Integrity, _) => 5,
        (Class::Conflict, "lock.held") => 11,
        (Class::Cancelled, _) => 130,
        _ => 1,
    }
}

/// A fault as it is written down: in outcomes, indexes and manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// What kind of failure.
    pub class: Class,
    /// The stable name within the class.
    pub code: String,
    /// What was being done and what went wrong.
    pub message: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the HTTP API said, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRefusal>,
}

impl FaultRecord {
    /// See [`Fault::exit_code`].
    pub fn exit_code(&self) -> u8 {
        exit_code(self.class, &self.code)
    }
}

/// The result of anything that can fail for a reason outside this process.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_design() {
        let code = |class, name| Fault::new(class, name, "x", "y").exit_code();
        assert_eq!(code(Class::Config, "config.unknown-key"), 2);
        assert_eq!(code(Class::Config, "store.absent"), 10);
        assert_eq!(code(Class::Integrity, "pack.hash"), 5);
        assert_eq!(code(Class::Denied, "http.denied"), 7);
        assert_eq!(code(Class::Conflict, "lock.held"), 11);
        assert_eq!(code(Class::Cancelled, "run.cancelled"), 130);
        assert_eq!(code(Class::Bug, "core.illegal"), 1);
    }

    #[test]
    fn class_words_are_what_serde_writes() {
        for class in [Class::Config, Class::Throttled, Class::Bug, Class::Unsupported] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.word());
        }
    }
}
