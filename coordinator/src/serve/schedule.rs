//! When an environment is due: values in, values out. No clock, no store.
//!
//! A **due time** is a time that the cron expression names in the schedule's zone; it **fires** a little later, by the
//! environment's own part of the jitter. Each due time is begun at most once, ever: its run's id is worked out from it
//! ([`RunId::scheduled`]), so the store tells whether somebody has. Where clocks go forwards, a fixed time that does not
//! exist that day comes at the end of the gap; where they go back, it comes once, and what comes every few minutes goes on.

use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::config::{Missed, ScheduleConfig};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::{EnvName, Hash, RunId};

/// A due time that fired longer ago than this, and was not seen before, was missed: somebody who is there sees it within
/// seconds.
const MISSED: SignedDuration = SignedDuration::from_mins(5);

/// When one environment is backed up.
#[derive(Clone, Debug)]
pub struct Schedule {
    environment: EnvName,
    cron: Cron,
    zone: TimeZone,
    offset: SignedDuration,
    missed: Missed,
}

impl Schedule {
    /// What a configuration means.
    ///
    /// # Errors
    /// `Config`, those of [`ScheduleConfig::read`].
    pub fn read(environment: &EnvName, config: &ScheduleConfig) -> Result<Self> {
        let (cron, zone) = config.read(&format!("environments.{environment}.schedule"))?;
        let jitter = config.jitter.map_or(Duration::ZERO, |jitter| jitter.0);
        Ok(Self {
            cron,
            zone,
            offset: offset(environment, jitter),
            missed: config.missed,
            environment: environment.clone(),
        })
    }

    /// What is to be begun now, unless it has been: the last due time that has fired. An earlier one is never made up for,
    /// since a backup has no use for the past; the last one is left, too, when it was missed and the schedule skips such.
    /// `seen` is what was due at the last look: what was seen in time is not missed, however long it has to wait.
    pub fn due(&self, now: Timestamp, seen: &mut Option<Timestamp>) -> Option<Timestamp> {
        let due = self.last(now)?;
        let late = now.duration_since(self.fires(due));
        if self.missed == Missed::Skip && late > MISSED && *seen != Some(due) {
            return None;
        }
        *seen = Some(due);
        *seen
    }

    /// The last due time that has fired.
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let fired = now.checked_sub(self.offset).ok()?.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&fired, true).ok().map(|due| due.timestamp())
    }

    /// The first due time that has not fired.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let fired = now.checked_sub(self.offset).ok()?.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&fired, false).ok().map(|due| due.timestamp())
    }

    /// When a due time fires.
    pub fn fires(&self, due: Timestamp) -> Timestamp {
        due.checked_add(self.offset).unwrap_or(due)
    }

    /// The run of a due time.
    pub fn run(&self, due: Timestamp) -> RunId {
        RunId::scheduled(&self.environment, due)
    }
}

/// The environment's own part of the jitter, the same for ever: from nothing to all of it, to the second.
fn offset(environment: &EnvName, jitter: Duration) -> SignedDuration {
    let [a, b, c, d, ..] = *Hash::of(format!("jitter\n{environment}")).bytes();
    let part = u64::from(u32::from_be_bytes([a, b, c, d])) % (jitter.as_secs() + 1);
    SignedDuration::from_secs(i64::try_from(part).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn named(environment: &str, yaml: &str) -> Schedule {
        let file = format!(
            "version: 1\nenvironments: {{e: {{databricks: {{host: https://x}}, schedule: {yaml}}}}}\n"
        );
        let config = lakehold_proto::config::parse(std::path::Path::new("x.yaml"), &file).unwrap();
        let given = config.environments.values().next().unwrap().schedule.clone().unwrap();
        Schedule::read(&environment.parse().unwrap(), &given).unwrap()
    }

    fn berlin(cron: &str) -> Schedule {
        named("prod", &format!("{{cron: '{cron}', time_zone: Europe/Berlin}}"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Every due time from `from` to `to`, found forwards; each must be found backwards, too.
    fn all(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let (mut now, to) = (at(from), at(to));
        let mut found = Vec::new();
        while let Some(next) = schedule.next(now).filter(|next| *next <= to) {
            let just_before = next - SignedDuration::from_secs(1);
            assert_eq!(schedule.last(next), Some(next));
            assert_ne!(schedule.last(just_before), Some(next));
            assert_eq!(schedule.next(just_before), Some(next));
            found.push(next.to_string());
            now = next;
        }
        found
    }

    #[test]
    fn a_time_of_day_follows_the_clocks_of_its_zone() {
        let summer_and_winter = all(&berlin("0 2 * * *"), "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z");
        // Clocks went back on the 25th: two o'clock came twice, the run once.
        assert_eq!(
            summer_and_winter,
            ["2026-10-24T00:00:00Z", "2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"]
        );
    }

    #[test]
    fn a_time_that_does_not_exist_comes_at_the_end_of_the_gap() {
        // Clocks went from two to three on the 29th.
        let found = all(&berlin("30 2 * * *"), "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(found, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn what_comes_every_half_hour_goes_on_through_gap_and_fold() {
        let gap = all(&berlin("*/30 * * * *"), "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        assert_eq!(gap.len(), 4, "{gap:?}");
        let fold = all(&berlin("*/30 * * * *"), "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(fold.len(), 8, "{fold:?}");
    }

    #[test]
    fn looking_second_by_second_through_a_change_begins_each_due_time_once() {
        for (cron, from, expected) in [
            ("0 2 * * *", "2026-10-24T22:00:00Z", 1),
            ("30 2 * * *", "2026-10-24T22:00:00Z", 1),
            ("30 2 * * *", "2026-03-28T23:00:00Z", 1),
            ("0 3 * * *", "2026-03-28T23:00:00Z", 1),
            ("*/20 * * * *", "2026-03-28T23:00:00Z", 11),
        ] {
            let schedule = berlin(cron);
            let mut begun = BTreeSet::new();
            let (mut newest, mut seen) = (None, None);
            for second in 0..4 * 3600 {
                let now = at(from) + SignedDuration::from_secs(second);
                let due = schedule.due(now, &mut seen).unwrap();
                assert!(Some(due) >= newest, "{cron}: at {now} it is {due} after {newest:?}");
                newest = Some(due);
                if due > at(from) {
                    begun.insert(schedule.run(due));
                }
            }
            assert_eq!(begun.len(), expected, "{cron} from {from}");
        }
    }

    #[test]
    fn a_missed_time_is_made_up_for_once_or_skipped() {
        let (run, skip) = ("{cron: '0 2 * * *'}", "{cron: '0 2 * * *', missed: skip}");
        let (run, skip) = (named("prod", run), named("prod", skip));
        let due = Some(at("2026-08-03T02:00:00Z"));
        for (now, made_up, skipped) in [
            ("2026-08-03T02:00:00Z", due, due),
            ("2026-08-03T02:05:00Z", due, due),
            ("2026-08-03T02:05:01Z", due, None),
            ("2026-08-04T01:59:59Z", due, None),
        ] {
            let found = (run.due(at(now), &mut None), skip.due(at(now), &mut None));
            assert_eq!(found, (made_up, skipped), "{now}");
        }
        // However long nobody was there, only the last is due.
        assert_eq!(run.due(at("2027-08-03T12:00:00Z"), &mut None), Some(at("2027-08-03T02:00:00Z")));
    }

    #[test]
    fn a_time_that_was_seen_in_time_stays_due_until_the_next() {
        let skip = named("prod", "{cron: '0 2 * * *', missed: skip}");
        let (third, fourth) = (Some(at("2026-08-03T02:00:00Z")), Some(at("2026-08-04T02:00:00Z")));
        let mut seen = None;
        for (now, due) in [
            ("2026-08-03T01:59:58Z", None),
            ("2026-08-03T02:00:02Z", third),
            ("2026-08-03T02:05:03Z", third),
            ("2026-08-04T01:59:59Z", third),
            ("2026-08-04T02:00:01Z", fourth),
            // Nobody was there on the fifth.
            ("2026-08-05T02:05:01Z", None),
        ] {
            assert_eq!(skip.due(at(now), &mut seen), due, "{now}");
        }
    }

    #[test]
    fn jitter_is_the_environments_own_and_moves_no_due_time() {
        let of = |name: &str| named(name, "{cron: '0 2 * * *', jitter: 10m}");
        let due = at("2026-08-03T02:00:00Z");
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let fires: BTreeSet<_> = names.iter().map(|name| of(name).fires(due)).collect();
        assert!(fires.len() > 4, "{fires:?}");
        for name in names {
            let schedule = of(name);
            let fires = schedule.fires(due);
            assert!((due..=due + SignedDuration::from_mins(10)).contains(&fires), "{name}: {fires}");
            assert_eq!(schedule.fires(due), of(name).fires(due));
            let before = fires - SignedDuration::from_secs(1);
            assert_eq!((schedule.next(before), schedule.last(fires)), (Some(due), Some(due)));
            assert_ne!(schedule.last(before), Some(due));
        }
    }

    #[test]
    fn seconds_weekdays_and_leap_days_are_understood() {
        let every = named("e", "{cron: '*/10 * * * * *'}");
        assert_eq!(every.next(at("2026-08-03T02:00:01Z")), Some(at("2026-08-03T02:00:10Z")));
        let monday = named("e", "{cron: '0 2 * * MON'}");
        assert_eq!(monday.next(at("2026-08-04T00:00:00Z")), Some(at("2026-08-10T02:00:00Z")));
        let leap = named("e", "{cron: '0 0 29 2 *'}");
        assert_eq!(leap.last(at("2026-08-04T00:00:00Z")), Some(at("2024-02-29T00:00:00Z")));
    }
}
