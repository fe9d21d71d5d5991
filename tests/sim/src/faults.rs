//! Faults as data: which calls they hit, when, and what they do.
//!
//! A fault of `when: before` answers in the handler's place, so nothing happened; `when: after`
//! lets the handler's effect stand and spoils only the answer, which is how a client that retries
//! writes is caught creating things twice. Spoiled bodies (truncated, slow, stale, shifted) always
//! start from the handler's true answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::errors::{ApiError, Shape};
use crate::population::Mutation;
use crate::reply::{Answer, Payload};
use crate::state::lock;

/// One fault. Absent conditions match everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// HTTP verb.
    #[serde(default)]
    pub method: Option<String>,
    /// Glob on the decoded path; `*` also crosses slashes.
    #[serde(default)]
    pub path: Option<String>,
    /// Text that the decoded query string contains (`path=/Users/a`).
    #[serde(default)]
    pub query: Option<String>,
    /// Index of the workspace.
    #[serde(default)]
    pub workspace: Option<usize>,
    /// The first match it hits, from 1.
    #[serde(default = "one")]
    pub nth: u64,
    /// How many matches in a row it hits; 0 means for ever.
    #[serde(default = "one")]
    pub times: u64,
    /// Before or after the handler's effect.
    #[serde(default)]
    pub when: When,
    /// What it does.
    pub effect: Effect,
}

fn one() -> u64 {
    1
}

/// On which side of the handler's effect a fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Instead of the effect.
    #[default]
    Before,
    /// The effect happens, its answer is lost.
    After,
}

/// What a fault does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// An error of any shape.
    Error {
        /// HTTP status.
        status: u16,
        /// `error_code`, or `scimType`.
        #[serde(default)]
        error_code: String,
        /// The message.
        #[serde(default)]
        message: String,
        /// Shape of the body.
        #[serde(default)]
        shape: Shape,
        /// Seconds for `Retry-After`.
        #[serde(default)]
        retry_after: Option<u64>,
        /// `reason` of an ErrorInfo detail.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Waits before the call goes on.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Ends the body early.
    Truncate {
        /// Bytes that still arrive.
        keep: u64,
        /// True: `Content-Length` is that of the shortened body. False: of the whole one.
        #[serde(default)]
        honest_length: bool,
    },
    /// The true body, whose first listed item has a member `nested` of so many levels.
    Nest {
        /// Arrays in arrays.
        levels: usize,
    },
    /// A 200 with a body that is not JSON although it says so.
    NotJson,
    /// The true body, in small pieces.
    Slow {
        /// Bytes in a piece.
        chunk: usize,
        /// Milliseconds between pieces.
        every_ms: u64,
    },
    /// The connection is reset without an answer.
    Reset,
    /// A 200 whose body is one huge JSON string, made while it is sent.
    Huge {
        /// Size of the body.
        #[serde(default = "hundred_megabytes")]
        bytes: u64,
    },
    /// The first read after a write still shows what the reader saw before.
    Stale {
        /// Answer 404 to the first read of something never read before, as after a create.
        #[serde(default)]
        missing: bool,
    },
    /// Changes the workspace after the answer was made: the next page shifts under the reader.
    Mutate(Mutation),
}

fn hundred_megabytes() -> u64 {
    100_000_000
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    table: Mutex<Table>,
    /// Lets calls go that a fault delays.
    cleared: Notify,
}

#[derive(Debug, Default)]
struct Table {
    armed: Vec<Armed>,
    /// What readers saw last, for URLs under a [`Effect::Stale`] fault.
    seen: HashMap<(usize, String), (u16, Bytes)>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    path: Option<GlobMatcher>,
    matched: u64,
    fired: u64,
}

/// The call a fault is matched against.
pub(crate) struct Target<'a> {
    pub(crate) workspace: usize,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Decoded `k=v&k=v`.
    pub(crate) query: &'a str,
}

impl Faults {
    /// Arms a fault, or says what is wrong with its glob.
    pub(crate) fn add(&self, fault: Fault) -> Result<(), globset::Error> {
        let path = fault.path.as_deref().map(Glob::new).transpose()?.map(|g| g.compile_matcher());
        lock(&self.table).armed.push(Armed { fault, path, matched: 0, fired: 0 });
        Ok(())
    }

    /// Disarms all, and lets go what they delay.
    pub(crate) fn clear(&self) {
        *lock(&self.table) = Table::default();
        self.cleared.notify_waiters();
    }

    /// Ends when all faults are disarmed after this call.
    pub(crate) fn cleared(&self) -> Notified<'_> {
        self.cleared.notified()
    }

    /// How often the faults in force have struck.
    pub(crate) fn fired(&self) -> u64 {
        lock(&self.table).armed.iter().map(|armed| armed.fired).sum()
    }

    /// The faults that this call sets off, in the order in which they were added.
    pub(crate) fn fire(&self, target: &Target<'_>) -> Vec<(When, Effect)> {
        let mut table = lock(&self.table);
        let mut fired = Vec::new();
        for armed in &mut table.armed {
            if !armed.matches(target) {
                continue;
            }
            armed.matched += 1;
            let left = armed.fault.times == 0 || armed.fired < armed.fault.times;
            if armed.matched < armed.fault.nth || !left {
                continue;
            }
            // A stale read is used up only when there is something stale to show.
            if !matches!(armed.fault.effect, Effect::Stale { .. }) {
                armed.fired += 1;
            }
            fired.push((armed.fault.when, armed.fault.effect.clone()));
        }
        fired
    }

    /// Replaces a changed answer by the one that was given before, once for each change.
    pub(crate) fn stale(&self, target: &Target<'_>, missing: bool, answer: Answer) -> Answer {
        let Payload::Bytes(fresh) = &answer.body else { return answer };
        let now = (answer.status, fresh.clone());
        let mut table = lock(&self.table);
        let before =
            table.seen.insert((target.workspace, format!("{}?{}", target.path, target.query)), now.clone());
        let old = match before {
            Some(old) if old != now => old,
            None if missing && answer.status == 200 => {
                let absent = ApiError::absent("The requested resource does not exist.").answer();
                let Payload::Bytes(body) = absent.body else { return answer };
                (404, body)
            }
            _ => return answer,
        };
        for armed in &mut table.armed {
            if matches!(armed.fault.effect, Effect::Stale { .. }) && armed.matches(target) {
                armed.fired += 1;
            }
        }
        Answer { body: Payload::Bytes(old.1), ..answer }.with_status(old.0)
    }
}

impl Armed {
    fn matches(&self, target: &Target<'_>) -> bool {
        let f = &self.fault;
        f.workspace.is_none_or(|w| w == target.workspace)
            && f.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(target.method))
            && self.path.as_ref().is_none_or(|p| p.is_match(target.path))
            && f.query.as_deref().is_none_or(|q| target.query.contains(q))
            && (!matches!(f.effect, Effect::Stale { .. }) || target.method == "GET")
    }
}

impl Effect {
    /// The answer this effect gives in place of the handler's; `None` if it only changes one.
    pub(crate) fn instead(&self) -> Option<Answer> {
        match self {
            Self::Error { status, error_code, message, shape, retry_after, reason } => {
                let mut error = ApiError::new(*status, error_code, message.clone());
                error.shape = *shape;
                error.retry_after = *retry_after;
                if let Some(reason) = reason {
                    error = error.with_reason(reason, serde_json::json!({}));
                }
                Some(error.answer())
            }
            Self::NotJson => Some(Answer::bytes(
                "application/json",
                Bytes::from_static(b"upstream connect error or disconnect/reset before headers"),
            )),
            Self::Reset => {
                let mut answer = Answer::bytes("application/json", Bytes::new());
                answer.reset = true;
                Some(answer)
            }
            Self::Huge { bytes } => Some(huge(*bytes)),
            Self::Delay { .. }
            | Self::Nest { .. }
            | Self::Truncate { .. }
            | Self::Slow { .. }
            | Self::Stale { .. }
            | Self::Mutate(_) => None,
        }
    }

    /// Spoils the true answer.
    pub(crate) fn spoil(&self, mut answer: Answer) -> Answer {
        match self {
            Self::Truncate { keep, honest_length } => {
                let whole = answer.body.len();
                answer.body = answer.body.cut(*keep);
                answer.claimed_length = Some(if *honest_length { answer.body.len() } else { whole });
            }
            Self::Nest { levels } => answer.body = nested(answer.body, *levels),
            Self::Slow { chunk, every_ms } => {
                answer.pace = Some(((*chunk).max(1), Duration::from_millis(*every_ms)));
            }
            _ => {}
        }
        answer
    }
}

/// A list has its first item behind the first `[{`; what has none stays as it is.
fn nested(body: Payload, levels: usize) -> Payload {
    let Payload::Bytes(bytes) = body else { return body };
    let Some(at) = bytes.windows(2).position(|start| start == b"[{") else { return Payload::Bytes(bytes) };
    let (before, after) = bytes.split_at(at + 2);
    let member = format!("\"nested\":{}{},", "[".repeat(levels), "]".repeat(levels));
    Payload::Bytes([before, member.as_bytes(), after].concat().into())
}

/// `{"data": "xxxx…"}` of about that many bytes.
fn huge(bytes: u64) -> Answer {
    const PIECE: u64 = 1 << 16;
    let filler = bytes.saturating_sub(12);
    let pieces = (0..filler.div_ceil(PIECE)).map(move |i| {
        let n = PIECE.min(filler - i * PIECE);
        Bytes::from(vec![b'x'; usize::try_from(n).unwrap_or(0)])
    });
    let all = std::iter::once(Bytes::from_static(b"{\"data\": \""))
        .chain(pieces)
        .chain(std::iter::once(Bytes::from_static(b"\"}")));
    Answer::lazy("application/json", 12 + filler, Box::new(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).expect("a fault")
    }

    const LIST: Target<'static> =
        Target { workspace: 0, method: "GET", path: "/api/2.2/jobs/list", query: "limit=5" };

    #[test]
    fn the_nth_match_and_no_other() {
        let faults = Faults::default();
        faults
            .add(fault(r#"{"path": "/api/*/jobs/*", "nth": 2, "times": 2, "effect": {"type": "reset"}}"#))
            .expect("valid glob");
        let fired: Vec<usize> = (0..5).map(|_| faults.fire(&LIST).len()).collect();
        assert_eq!(fired, [0, 1, 1, 0, 0]);
        let other = Target { path: "/api/2.0/repos", ..LIST };
        assert!(faults.fire(&other).is_empty());
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Fault>(r#"{"pth": "/x", "effect": {"type": "reset"}}"#).is_err());
    }

    #[test]
    fn a_changed_answer_is_stale_once() {
        let faults = Faults::default();
        faults.add(fault(r#"{"effect": {"type": "stale"}}"#)).expect("valid");
        let read = |text: &'static str| {
            let answer = faults.stale(
                &LIST,
                false,
                Answer::bytes("application/json", Bytes::from_static(text.as_bytes())),
            );
            match answer.body {
                Payload::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
                Payload::Lazy { .. } => String::new(),
            }
        };
        assert_eq!(read("old"), "old");
        assert_eq!(read("new"), "old");
        assert_eq!(read("new"), "new");
    }

    #[test]
    fn the_first_item_of_a_list_is_nested() {
        let answer = Answer::bytes("application/json", Bytes::from_static(br#"{"x":[{"id":1},{"id":2}]}"#));
        let Payload::Bytes(body) = (Effect::Nest { levels: 3 }).spoil(answer).body else { panic!("bytes") };
        assert_eq!(body, r#"{"x":[{"nested":[[[]]],"id":1},{"id":2}]}"#);
    }

    #[test]
    fn truncation_tells_the_truth_or_not() {
        let whole = || Answer::bytes("application/json", Bytes::from_static(b"0123456789"));
        let honest = Effect::Truncate { keep: 4, honest_length: true }.spoil(whole());
        assert_eq!((honest.body.len(), honest.claimed_length), (4, Some(4)));
        let lying = Effect::Truncate { keep: 4, honest_length: false }.spoil(whole());
        assert_eq!((lying.body.len(), lying.claimed_length), (4, Some(10)));
        let long = huge(200_000);
        let Payload::Lazy { len, chunks } = long.body else { panic!("lazy") };
        assert_eq!(chunks.map(|c| c.len() as u64).sum::<u64>(), len);
    }
}
