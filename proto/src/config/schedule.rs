//! When an environment is backed up: `schedule:`.

use croner::Cron;
use croner::parser::{CronParser, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::HumanDuration;
use super::check::wrong;
use super::parse::nearest;
use crate::fault::Result;

/// When an environment is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Minute, hour, day of month, month, day of week; seconds may stand before.
    pub cron: String,
    /// The time zone of the fields above, by its name in the IANA database.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// How much later a run may begin, so that many environments do not begin at once: each has its own part of it, which
    /// stays the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<HumanDuration>,
    /// What becomes of a time at which nobody was there to begin a run.
    #[serde(default)]
    pub missed: Missed,
}

fn utc() -> String {
    "UTC".into()
}

/// What becomes of a time at which nobody was there to begin a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// The last of them is made up for, once.
    #[default]
    Run,
    /// The next one is waited for.
    Skip,
}

impl ScheduleConfig {
    /// What the words mean; `key` is where they stand.
    ///
    /// # Errors
    /// `Config`: `config.cron` when it is no cron expression, or no day ever fits it; `config.time-zone`.
    pub fn read(&self, key: &str) -> Result<(Cron, TimeZone)> {
        let no_cron = |detail: String| {
            wrong("config.cron", &format!("{key}.cron"), detail)
                .hint("write minute, hour, day, month and weekday, like `0 2 * * *` for two every night")
        };
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(&self.cron).map_err(|e| no_cron(format!("{:?}: {e}", self.cron)))?;
        let zone = TimeZone::get(&self.time_zone).map_err(|_| self.no_zone(key))?;
        cron.find_next_occurrence(&Timestamp::UNIX_EPOCH.to_zoned(zone.clone()), true)
            .map_err(|_| no_cron(format!("{:?} fits no day of any year", self.cron)))?;
        Ok((cron, zone))
    }

    fn no_zone(&self, key: &str) -> crate::fault::Fault {
        let fault = wrong(
            "config.time-zone",
            &format!("{key}.time_zone"),
            format!("{:?} is no name of a time zone", self.time_zone),
        );
        let known: Vec<_> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let typed = self.time_zone.to_lowercase().replace(' ', "_");
        // Most who forget something forget the continent.
        let city = |name: &&String| name.to_lowercase().rsplit('/').next() == Some(&typed);
        let lower: Vec<_> = known.iter().map(|name| name.to_lowercase()).collect();
        let similar = nearest(&typed, &lower.iter().map(String::as_str).collect::<Vec<_>>());
        let near = known.iter().find(city).or_else(|| {
            let similar = similar?;
            known.iter().find(|name| name.to_lowercase() == similar)
        });
        match near {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint("write it like Europe/Berlin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<(Cron, TimeZone)> {
        serde_saphyr::from_str::<ScheduleConfig>(yaml).unwrap().read("environments.prod.schedule")
    }

    #[test]
    fn what_can_never_come_is_refused() {
        for good in
            ["0 2 * * *", "*/15 * * * *", "0 0 29 2 *", "30 0 2 * * *", "0 2 * * MON-FRI", "0 2 L * *"]
        {
            assert!(read(&format!("{{cron: '{good}', time_zone: Europe/Berlin}}")).is_ok(), "{good}");
        }
        for bad in ["", "2am", "0 25 * * *", "0 2 * *", "0 0 30 2 *", "0 0 2 * * * 2027", "* * * * * * * *"] {
            let fault = read(&format!("{{cron: '{bad}'}}")).unwrap_err();
            assert_eq!(fault.code, "config.cron", "{bad}");
            assert!(
                fault.context.contains("environments.prod.schedule.cron") && fault.hint.is_some(),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_time_zone_that_is_none_has_a_suggestion() {
        let fault = read("{cron: '0 2 * * *', time_zone: Europe/Berln}").unwrap_err();
        assert_eq!(
            (fault.code, fault.hint.as_deref()),
            ("config.time-zone", Some("did you mean `Europe/Berlin`?"))
        );
        let fault = read("{cron: '0 2 * * *', time_zone: New York}").unwrap_err();
        assert_eq!(fault.hint.as_deref(), Some("did you mean `America/New_York`?"));
        assert_eq!(read("{cron: '0 2 * * *', time_zone: ''}").unwrap_err().code, "config.time-zone");
    }
}
