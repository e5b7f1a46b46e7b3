//! Points in time as people write them: `2027-03-31`, or `2027-03-31T12:00:00Z` to the second.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::problem::{Wrong, quote};

/// Seconds since 1970 in UTC (proleptic Gregorian calendar, no leap seconds).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(i64);

impl Instant {
    /// The time of the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// In seconds since 1970, which nothing precedes.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// How long from `earlier` until then; none if it is past.
    #[must_use]
    pub fn after(self, earlier: Self) -> Option<Duration> {
        let seconds = u64::try_from(self.0.checked_sub(earlier.0)?).ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// So much earlier.
    #[must_use]
    pub(super) fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(time.as_secs()))
    }

    /// Reads the end of a day, or a second of it, in UTC.
    pub(super) fn parse_end(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong::new(format!("not a date: {}", quote(text)))
                .hint("expected such as 2027-03-31, which it includes, or 2027-03-31T12:00:00Z")
        };
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or_else(wrong)?;
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(wrong());
        }
        if day < 1 || day > days_of(year, month) {
            return Err(wrong());
        }
        let midnight = days_since_1970(year, month, day) * DAY;
        let Some(time) = time else { return Ok(Self(midnight + DAY)) };
        let time = time.strip_suffix('Z').ok_or_else(wrong)?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).ok_or_else(wrong)?;
        if hour > 23 || minute > 59 || second > 59 {
            return Err(wrong());
        }
        Ok(Self(midnight + hour * 3600 + minute * 60 + second))
    }
}

/// As the end of a rule is written.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0.rem_euclid(DAY);
        let days = self.0.div_euclid(DAY) - i64::from(second == 0);
        let (year, month, day) = date_of(days);
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        if second == 0 {
            return Ok(());
        }
        write!(f, "T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// A day of UTC, counted from 1970-01-01, as `2027-03-31`.
#[must_use]
pub fn day(days: u64) -> String {
    // more days than that have no name of four digits
    let (year, month, day) = date_of(i64::try_from(days).unwrap_or(LAST_DAY).min(LAST_DAY));
    format!("{year:04}-{month:02}-{day:02}")
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut all = [0; 3];
    for (slot, width) in all.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970-01-01 to a date: whole years with their leap days, then whole months.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - LEAP_DAYS_BEFORE_1970;
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    (year - 1970) * 365 + leap_days + months + day - 1
}

fn date_of(days: i64) -> (i64, i64, i64) {
    // no year is longer than 366 days, so this is not too late
    let mut year = 1970 + days.max(0) / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut rest = days - days_since_1970(year, 1, 1);
    let mut month = 1;
    while rest >= days_of(year, month) {
        rest -= days_of(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

const DAY: i64 = 86_400;
/// 9999-12-31
const LAST_DAY: i64 = 2_932_896;
/// 1969 / 4 - 1969 / 100 + 1969 / 400
const LEAP_DAYS_BEFORE_1970: i64 = 477;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_to_their_end_and_shown_as_they_were_written() {
        for (text, seconds) in [
            ("1970-01-01", 86_400),
            ("2000-02-29", 951_868_800),
            ("2027-03-31", 1_806_537_600),
            ("2027-03-31T12:00:00Z", 1_806_494_400),
            ("2100-12-31", 4_133_980_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let instant = Instant::parse_end(text).unwrap();
            assert_eq!((instant.0, instant.to_string()), (seconds, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2027",
            "2027-3-31",
            "2027-02-29",
            "2100-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-01-32",
            "31.03.2027",
            "2027-03-31T12:00",
            "2027-03-31T24:00:00Z",
            "2027-03-31T12:00:00",
            "2027-03-31T12:00:00+01:00",
            "2027-03-31 12:00:00Z",
            "1969-12-31",
            "2027-03-31-",
            "+027-03-31",
            "２027-03-31",
        ] {
            assert!(Instant::parse_end(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_past_has_no_time_left() {
        let end = Instant::parse_end("2027-03-31").unwrap();
        assert_eq!(end.after(end), None);
        assert_eq!(end.minus(Duration::from_secs(5)).after(end), None);
        assert_eq!(end.after(end.minus(Duration::from_secs(5))), Some(Duration::from_secs(5)));
    }
}
