//! Rate limits and concurrency caps per workspace, API family and verb: real token buckets.
//!
//! A call that finds its bucket empty, or too many of its family in flight, is answered 429 with
//! `Retry-After` and consumes nothing. The numbers of [`Limits::real`] are those of reference section
//! 2.4, which says itself where they are from; families without a published number have none here
//! but a cap, since the reference knows only how many parallel callers survive in practice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state::lock;

/// One rule: which calls share a bucket, and how it fills.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The API family, as `GET /__sim/calls` names it.
    pub family: String,
    /// The verbs that share this bucket; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Tokens per second; absent means no limit on the rate.
    #[serde(default)]
    pub per_second: Option<f64>,
    /// The most tokens that can be saved; absent means one second's worth, at least 5.
    #[serde(default)]
    pub burst: Option<f64>,
    /// The most calls in flight.
    #[serde(default)]
    pub concurrent: Option<usize>,
    /// Seconds for which all calls are refused once the cap was exceeded; absent means no ban.
    #[serde(default)]
    pub ban_seconds: Option<u64>,
}

/// All rules of a workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(pub Vec<Limit>);

impl Limits {
    /// No limits at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The numbers of reference section 2.4.
    pub fn real() -> Self {
        let rate = |family: &str, methods: &[&str], per_second: f64, concurrent: Option<usize>| Limit {
            family: family.to_owned(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            per_second: Some(per_second),
            burst: None,
            concurrent,
            ban_seconds: None,
        };
        let cap = |family: &str, concurrent: usize| Limit {
            family: family.to_owned(),
            methods: Vec::new(),
            per_second: None,
            burst: None,
            concurrent: Some(concurrent),
            ban_seconds: None,
        };
        Self(vec![
            rate("permissions", &["GET"], 100.0, None),
            rate("permissions", &["PUT", "PATCH"], 30.0, None),
            rate("workspace.export", &["GET"], 60.0, None),
            rate("workspace.import", &["POST"], 30.0, None),
            rate("jobs.create", &["POST"], 20.0, None),
            rate("jobs.runs.get", &["GET"], 100.0, None),
            rate("jobs.runs.submit", &["POST"], 35.0, None),
            rate("dbfs", &[], 30.0, None),
            rate("secrets", &[], 1100.0 / 60.0, None),
            rate("token-management", &[], 40.0, None),
            rate("scim", &["GET"], 255.0 / 60.0, None),
            // SCIM account limits stand in for workspace writes, which have no published number.
            rate("scim", &["PATCH"], 2.0, None),
            rate("scim", &["POST", "PUT", "DELETE"], 5.0, None),
            rate("mlflow.search", &[], 7.0, None),
            rate("mlflow", &[], 120.0, None),
            // "10 or more concurrent calls can cause throttling, degradation or a temporary ban"; how long
            // it lasts is not told.
            Limit { ban_seconds: Some(10), ..cap("sql.queries", 9) },
            Limit { ban_seconds: Some(10), ..cap("sql.alerts", 9) },
            // Not published; far above what the exporter runs in parallel.
            cap("workspace", 64),
            cap("unity-catalog", 64),
        ])
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Whole seconds: the SDK parses integers only (section 2.3).
    pub(crate) retry_after: u64,
}

/// The buckets of one workspace.
#[derive(Debug)]
pub(crate) struct Limiter {
    rules: Vec<Limit>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<usize, Bucket>,
    in_flight: HashMap<usize, usize>,
    banned_until: HashMap<usize, Duration>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

/// Gives back its place among the calls in flight when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    rules: Vec<usize>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { rules: limits.0, state: Mutex::default() }
    }

    /// Takes one token and one place, or says when to come back.
    pub(crate) fn admit(
        self: &Arc<Self>,
        family: &str,
        method: &str,
        now: Duration,
    ) -> Result<Permit, Refused> {
        let matching: Vec<usize> =
            (0..self.rules.len()).filter(|i| self.rules[*i].covers(family, method)).collect();
        let mut state = lock(&self.state);
        for i in &matching {
            if let Some(until) = state.banned_until.get(i).filter(|until| **until > now) {
                let left = until.saturating_sub(now).as_secs();
                return Err(Refused { retry_after: left + 1 });
            }
            let rule = &self.rules[*i];
            let full = rule.concurrent.is_some_and(|cap| state.in_flight.get(i).copied().unwrap_or(0) >= cap);
            if full {
                if let Some(seconds) = rule.ban_seconds {
                    state.banned_until.insert(*i, now + Duration::from_secs(seconds));
                }
                return Err(Refused { retry_after: rule.ban_seconds.unwrap_or(1) });
            }
        }
        for i in &matching {
            let Some((rate, burst)) = self.rules[*i].bucket() else { continue };
            let bucket = state.buckets.entry(*i).or_insert(Bucket { tokens: burst, at: now });
            bucket.tokens = (bucket.tokens + now.saturating_sub(bucket.at).as_secs_f64() * rate).min(burst);
            bucket.at = now;
            if bucket.tokens < 1.0 {
                let wait = ((1.0 - bucket.tokens) / rate).ceil().max(1.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a small positive number of seconds"
                )]
                return Err(Refused { retry_after: wait.min(3600.0) as u64 });
            }
        }
        for i in &matching {
            if let Some(bucket) = state.buckets.get_mut(i) {
                bucket.tokens -= 1.0;
            }
            *state.in_flight.entry(*i).or_default() += 1;
        }
        Ok(Permit { limiter: Arc::clone(self), rules: matching })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.limiter.state);
        for i in &self.rules {
            if let Some(n) = state.in_flight.get_mut(i) {
                *n = n.saturating_sub(1);
            }
        }
    }
}

impl Limit {
    fn covers(&self, family: &str, method: &str) -> bool {
        self.family == family && (self.methods.is_empty() || self.methods.iter().any(|m| m == method))
    }

    fn bucket(&self) -> Option<(f64, f64)> {
        let rate = self.per_second.filter(|r| *r > 0.0)?;
        Some((rate, self.burst.unwrap_or(rate.max(5.0)).max(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: Option<f64>, concurrent: Option<usize>) -> Arc<Limiter> {
        let rule = Limit {
            family: "x".into(),
            methods: vec!["GET".into()],
            per_second,
            burst: Some(2.0),
            concurrent,
            ban_seconds: None,
        };
        Arc::new(Limiter::new(Limits(vec![rule])))
    }

    #[test]
    fn a_bucket_admits_its_burst_then_its_rate() {
        let l = limiter(Some(0.5), None);
        let admitted = |t: u64| l.admit("x", "GET", Duration::from_secs(t)).is_ok();
        assert!(admitted(0) && admitted(0) && !admitted(0));
        assert!(!admitted(1));
        assert!(admitted(2) && !admitted(2));
        assert_eq!(l.admit("x", "GET", Duration::from_secs(2)).err(), Some(Refused { retry_after: 2 }));
        assert!(l.admit("x", "POST", Duration::from_secs(2)).is_ok(), "another verb has another bucket");
    }

    #[test]
    fn over_any_window_no_more_than_burst_plus_rate() {
        let l = limiter(Some(10.0), None);
        let admitted =
            (0..5000u64).filter(|ms| l.admit("x", "GET", Duration::from_millis(*ms)).is_ok()).count();
        assert!((51..=52).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_refused_call_takes_no_place() {
        let l = limiter(None, Some(1));
        let held = l.admit("x", "GET", Duration::ZERO);
        assert!(held.is_ok());
        assert!(l.admit("x", "GET", Duration::ZERO).is_err());
        assert!(l.admit("x", "GET", Duration::ZERO).is_err());
        drop(held);
        assert!(l.admit("x", "GET", Duration::ZERO).is_ok());
    }

    #[test]
    fn one_call_too_many_is_a_ban_for_all() {
        let rule = Limit {
            family: "x".into(),
            methods: Vec::new(),
            per_second: None,
            burst: None,
            concurrent: Some(1),
            ban_seconds: Some(10),
        };
        let l = Arc::new(Limiter::new(Limits(vec![rule])));
        let held = l.admit("x", "GET", Duration::ZERO);
        assert_eq!(l.admit("x", "GET", Duration::ZERO).err(), Some(Refused { retry_after: 10 }));
        drop(held);
        assert!(l.admit("x", "GET", Duration::from_secs(5)).is_err(), "nobody gets in before the ban ends");
        assert!(l.admit("x", "GET", Duration::from_secs(10)).is_ok());
    }
}
