//! When a failed call is sent again, and after how long. Pure: time and dice come in as values.
//!
//! Reads are sent again after whatever may pass. Calls that change something are sent again only where they certainly had
//! no effect: the server said it is too busy, or no connection came about. Pauses grow exponentially with full jitter, so
//! that many workers do not come back at once.

use std::time::Duration;

use lakehold_proto::fault::{Class, Fault};

/// How a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the caller is told if it is given up.
    pub(super) fault: Fault,
    /// Where it failed.
    pub(super) stage: Stage,
}

/// Where a call failed: what decides whether it may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before anything was sent.
    Connecting,
    /// After something was sent, before the answer was complete: it is not known what happened.
    Underway,
    /// The server answered 429 or 503, and asked for a pause of this length where it named one.
    TooBusy(Option<Duration>),
    /// The server refused the credentials.
    Unauthenticated,
    /// The server answered with some other refusal.
    Refused,
    /// It cannot be sent, or must not be sent again.
    Final,
}

/// Pauses start with this and double.
const FIRST: Duration = Duration::from_millis(500);
/// No pause of our own is longer.
const LONGEST: Duration = Duration::from_secs(20);
/// No pause asked for is believed beyond this: a server that says "next week" is asked again sooner, or given up.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// What fails inside the server this many times will fail again: a body that it cannot make, an answer it cannot finish.
/// Waiting the whole budget for each such item would cost a backup hours.
const STUBBORN: u32 = 6;

/// How long to wait before the `tries`-th try has a successor; `None` to give up. `harmless` says that sending the call twice
/// comes to the same as sending it once, `spent` is the time since the first
/// failure, `dice` a number from 0 to 1.
pub(super) fn pause(
    failure: &Failure,
    harmless: bool,
    tries: u32,
    spent: Duration,
    budget: Duration,
    dice: f64,
) -> Option<Duration> {
    let jittered = LONGEST.min(FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10))).mul_f64(dice);
    let pause = match failure.stage {
        Stage::Connecting => jittered,
        // A pause that was asked for is kept, and stretched a little so that not everybody ends it at once.
        Stage::TooBusy(Some(asked)) if !asked.is_zero() => asked + Duration::from_millis(250).mul_f64(dice),
        Stage::TooBusy(_) => jittered,
        Stage::Underway | Stage::Refused
            if harmless && failure.fault.class.may_retry() && tries < STUBBORN =>
        {
            jittered
        }
        Stage::Underway | Stage::Refused | Stage::Unauthenticated | Stage::Final => return None,
    };
    (spent + pause <= budget).then_some(pause)
}

/// The stage of a refusal of `status` that is `fault`.
pub(super) fn stage_of(status: u16, fault: &Fault, asked: Option<Duration>) -> Stage {
    match (status, fault.class, fault.code) {
        (429 | 503, ..) | (_, Class::Throttled, _) => {
            Stage::TooBusy(asked.or(fault.after).map(|a| a.min(LONGEST_ASKED)))
        }
        (_, _, "http.unauthenticated") => Stage::Unauthenticated,
        _ => Stage::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(300);

    fn failure(class: Class, stage: Stage) -> Failure {
        Failure { fault: Fault::new(class, "x", "x", "x"), stage }
    }

    fn first(class: Class, stage: Stage, harmless: bool) -> Option<Duration> {
        pause(&failure(class, stage), harmless, 1, Duration::ZERO, BUDGET, 1.0)
    }

    #[test]
    fn reads_are_sent_again_and_writes_only_where_nothing_happened() {
        for (stage, read, write) in [
            (Stage::Connecting, true, true),
            (Stage::TooBusy(None), true, true),
            (Stage::Underway, true, false),
            (Stage::Refused, true, false),
            (Stage::Unauthenticated, false, false),
            (Stage::Final, false, false),
        ] {
            assert_eq!(first(Class::Unavailable, stage, true).is_some(), read, "{stage:?}");
            assert_eq!(first(Class::Unavailable, stage, false).is_some(), write, "{stage:?}");
        }
        assert_eq!(first(Class::Denied, Stage::Refused, true), None);
    }

    #[test]
    fn a_pause_asked_for_is_kept_within_the_budget() {
        let asked = |seconds| Stage::TooBusy(Some(Duration::from_secs(seconds)));
        let pause = first(Class::Throttled, asked(7), true).unwrap();
        assert!(pause >= Duration::from_secs(7) && pause < Duration::from_secs(8), "{pause:?}");
        assert_eq!(first(Class::Throttled, asked(600), true), None);
    }

    #[test]
    fn pauses_grow_and_the_budget_ends_them() {
        let unreachable = failure(Class::Unavailable, Stage::Connecting);
        let at = |tries, spent| pause(&unreachable, true, tries, Duration::from_secs(spent), BUDGET, 1.0);
        assert_eq!(at(1, 0), Some(Duration::from_millis(500)));
        assert_eq!(at(3, 0), Some(Duration::from_secs(2)));
        assert_eq!(at(60, 0), Some(LONGEST));
        assert_eq!(at(60, 281), None);
    }

    #[test]
    fn what_fails_inside_the_server_is_given_up_sooner() {
        let broken = failure(Class::Unavailable, Stage::Refused);
        assert!(pause(&broken, true, STUBBORN - 1, Duration::ZERO, BUDGET, 1.0).is_some());
        assert!(pause(&broken, true, STUBBORN, Duration::ZERO, BUDGET, 1.0).is_none());
    }
}
