//! Accounting: every call by family, verb, path template and status, and per second.
//!
//! The seconds are what proves a client's rate: a test sums them over any window. A window that begins within a second may
//! hold more than any whole one, so the most that any did is told, too.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state::lock;

/// What a workspace was asked since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// Calls answered, throttled ones included; calls to `/__sim/` do not count.
    pub total: u64,
    /// Those answered 429.
    pub throttled: u64,
    /// Bytes of request bodies received.
    pub bytes_in: u64,
    /// Bytes of response bodies promised.
    pub bytes_out: u64,
    /// Most calls in flight at once.
    pub most_in_flight: u64,
    /// Calls by family, verb, path template and status.
    pub calls: Vec<CallCount>,
    /// Calls by second since the simulator started, family and verb.
    pub seconds: Vec<SecondCount>,
    /// The most calls in any second and in any ten, wherever these begin, by family and verb; throttled ones included.
    pub peaks: Vec<Peak>,
}

/// One row of [`CallReport::calls`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCount {
    /// API family.
    pub family: String,
    /// HTTP verb.
    pub method: String,
    /// Path template, such as `/api/2.0/repos/{id}`.
    pub path: String,
    /// HTTP status.
    pub status: u16,
    /// How many.
    pub count: u64,
}

/// One row of [`CallReport::seconds`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondCount {
    /// Seconds since the simulator started.
    pub second: u64,
    /// API family.
    pub family: String,
    /// HTTP verb.
    pub method: String,
    /// Calls let through.
    pub admitted: u64,
    /// Calls answered 429.
    pub throttled: u64,
}

/// One row of [`CallReport::peaks`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// API family.
    pub family: String,
    /// HTTP verb.
    pub method: String,
    /// Most in one second.
    pub in_one: u64,
    /// Most in ten seconds.
    pub in_ten: u64,
}

impl CallReport {
    /// How many calls a predicate on (family, verb, path template, status) matches.
    pub fn count(&self, matches: impl Fn(&CallCount) -> bool) -> u64 {
        self.calls.iter().filter(|c| matches(c)).map(|c| c.count).sum()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.total += other.total;
        self.throttled += other.throttled;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.most_in_flight = self.most_in_flight.max(other.most_in_flight);
        for c in other.calls {
            match self.calls.iter_mut().find(|d| {
                (&d.family, &d.method, &d.path, d.status) == (&c.family, &c.method, &c.path, c.status)
            }) {
                Some(d) => d.count += c.count,
                None => self.calls.push(c),
            }
        }
        for s in other.seconds {
            match self
                .seconds
                .iter_mut()
                .find(|d| (d.second, &d.family, &d.method) == (s.second, &s.family, &s.method))
            {
                Some(d) => {
                    d.admitted += s.admitted;
                    d.throttled += s.throttled;
                }
                None => self.seconds.push(s),
            }
        }
        // Each workspace has its own limits: of several the highest counts, not the sum.
        for p in other.peaks {
            match self.peaks.iter_mut().find(|q| (&q.family, &q.method) == (&p.family, &p.method)) {
                Some(q) => {
                    q.in_one = q.in_one.max(p.in_one);
                    q.in_ten = q.in_ten.max(p.in_ten);
                }
                None => self.peaks.push(p),
            }
        }
    }
}

/// The counters of one workspace.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Counters>);

#[derive(Debug, Default)]
struct Counters {
    total: u64,
    throttled: u64,
    bytes_in: u64,
    bytes_out: u64,
    in_flight: u64,
    most_in_flight: u64,
    by_route: BTreeMap<(&'static str, String, String, u16), u64>,
    by_second: BTreeMap<(u64, &'static str, String), (u64, u64)>,
    /// When each call began.
    began: BTreeMap<(&'static str, String), Vec<Duration>>,
}

/// One call to be counted.
pub(crate) struct Counted<'a> {
    pub(crate) family: &'static str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// True if the limits refused it, as opposed to a fault that says 429.
    pub(crate) throttled: bool,
    pub(crate) began: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Calls {
    pub(crate) fn enter(&self) {
        let mut c = lock(&self.0);
        c.in_flight += 1;
        c.most_in_flight = c.most_in_flight.max(c.in_flight);
    }

    pub(crate) fn leave(&self) {
        let mut c = lock(&self.0);
        c.in_flight = c.in_flight.saturating_sub(1);
    }

    pub(crate) fn record(&self, call: &Counted<'_>) {
        let mut c = lock(&self.0);
        c.total += 1;
        c.throttled += u64::from(call.status == 429);
        c.bytes_in += call.bytes_in;
        c.bytes_out += call.bytes_out;
        *c.by_route
            .entry((call.family, call.method.to_owned(), call.path.to_owned(), call.status))
            .or_default() += 1;
        let second =
            c.by_second.entry((call.began.as_secs(), call.family, call.method.to_owned())).or_default();
        let count = if call.throttled { &mut second.1 } else { &mut second.0 };
        *count += 1;
        c.began.entry((call.family, call.method.to_owned())).or_default().push(call.began);
    }

    pub(crate) fn report(&self) -> CallReport {
        let c = lock(&self.0);
        CallReport {
            total: c.total,
            throttled: c.throttled,
            bytes_in: c.bytes_in,
            bytes_out: c.bytes_out,
            most_in_flight: c.most_in_flight,
            calls: c
                .by_route
                .iter()
                .map(|((family, method, path, status), count)| CallCount {
                    family: (*family).to_owned(),
                    method: method.clone(),
                    path: path.clone(),
                    status: *status,
                    count: *count,
                })
                .collect(),
            seconds: c
                .by_second
                .iter()
                .map(|((second, family, method), (admitted, throttled))| SecondCount {
                    second: *second,
                    family: (*family).to_owned(),
                    method: method.clone(),
                    admitted: *admitted,
                    throttled: *throttled,
                })
                .collect(),
            peaks: c
                .began
                .iter()
                .map(|((family, method), began)| Peak {
                    family: (*family).to_owned(),
                    method: method.clone(),
                    in_one: most_within(Duration::from_secs(1), began),
                    in_ten: most_within(Duration::from_secs(10), began),
                })
                .collect(),
        }
    }

    pub(crate) fn reset(&self) {
        let mut c = lock(&self.0);
        let in_flight = c.in_flight;
        *c = Counters { in_flight, ..Counters::default() };
    }
}

/// The most of these moments that any span of this length holds.
fn most_within(span: Duration, moments: &[Duration]) -> u64 {
    // Calls are written down when they end.
    let mut moments = moments.to_vec();
    moments.sort_unstable();
    let mut first = 0;
    let within = moments.iter().enumerate().map(|(last, moment)| {
        while moments[first] + span <= *moment {
            first += 1;
        }
        last - first + 1
    });
    within.max().unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_within_a_span_is_found_wherever_it_begins() {
        let at = |millis: &[u64]| millis.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>();
        let second = Duration::from_secs(1);
        assert_eq!(most_within(second, &[]), 0);
        assert_eq!(most_within(second, &at(&[1_900, 100, 900, 1_100, 1_899])), 3);
        assert_eq!(most_within(second, &at(&[0, 1_000, 2_000])), 1);
    }
}
