//! Nanoseconds since the Unix epoch as RFC 3339, and durations as people read them.

/// Nanoseconds since the Unix epoch.
pub type Time = u64;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

const DAY_SECONDS: i64 = 86_400;

/// In UTC with milliseconds: `2026-11-20T16:21:24.123Z`.
pub fn format(time: Time) -> String {
    let seconds = time / SECOND;
    let millis = time % SECOND / 1_000_000;
    let days = (seconds / DAY_SECONDS as u64) as i64;
    let (year, month, day) = date_of_day(days);
    let second_of_day = seconds % DAY_SECONDS as u64;
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads an RFC 3339 time; a blank may stand for the `T`. `None` when it is none, or lies before 1970 or after
/// 2553, the ends of what 64 bits of nanoseconds hold.
pub fn parse(text: &str) -> Option<Time> {
    let mut rest = Cursor { text: text.as_bytes() };
    let year = rest.number(4)?;
    rest.expect(b"-")?;
    let month = rest.number(2)?;
    rest.expect(b"-")?;
    let day = rest.number(2)?;
    rest.expect(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.expect(b":")?;
    let minute = rest.number(2)?;
    rest.expect(b":")?;
    let second = rest.number(2)?;
    let nanos = rest.fraction()?;
    let offset_minutes = rest.offset()?;
    if !rest.text.is_empty() {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // 60 is a leap second; it is taken as the second after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = day_of_date(year, month, day);
    let seconds = days * DAY_SECONDS + hour * 3600 + (minute - offset_minutes) * 60 + second;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(nanos)
}

/// Two units at most, the largest first: `3 d 4 h`, `12 min`, `7 s`.
pub fn format_duration(nanos: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let seconds = nanos / SECOND;
    let Some(largest) = UNITS.iter().position(|(size, _)| seconds >= *size) else {
        return "0 s".to_string();
    };
    let (size, name) = UNITS[largest];
    let first = format!("{} {name}", seconds / size);
    match UNITS.get(largest + 1) {
        Some((next, name)) if seconds % size >= *next => format!("{first} {} {name}", seconds % size / next),
        _ => first,
    }
}

struct Cursor<'a> {
    text: &'a [u8],
}

impl Cursor<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, tail) = self.text.split_at_checked(digits)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.text = tail;
        Some(head.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    fn expect(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, tail) = self.text.split_first()?;
        if !allowed.contains(first) {
            return None;
        }
        self.text = tail;
        Some(*first)
    }

    fn fraction(&mut self) -> Option<u64> {
        if self.expect(b".").is_none() {
            return Some(0);
        }
        let length = self.text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 || length > 9 {
            return None;
        }
        let value = self.number(length)? as u64;
        Some(value * 10u64.pow(9 - length as u32))
    }

    fn offset(&mut self) -> Option<i64> {
        let sign = match self.expect(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2)?;
        self.expect(b":")?;
        let minutes = self.number(2)?;
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days between 1970-01-01 and a date of the Gregorian calendar. Counted from March on, so that the leap day is
/// the last of its year.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// The inverse of [`day_of_date`] for days from 1970 on.
fn date_of_day(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    let month = (day_of_year * 5 + 2) / 153;
    let day = day_of_year - (month * 153 + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_read_as_rfc_3339() {
        assert_eq!(format(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(1_709_210_096_789_000_000), "2024-02-29T12:34:56.789Z");
        assert_eq!(parse("2024-02-29T12:34:56.789Z"), Some(1_709_210_096_789_000_000));
        assert_eq!(parse("2024-02-29 14:34:56.789+02:00"), Some(1_709_210_096_789_000_000));
        assert_eq!(parse("2024-02-29t08:04:56-04:30"), parse("2024-02-29T12:34:56Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "latest",
            "2024-02-29",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:34:56",
            "2024-02-29T12:34:56.Z",
            "2024-02-29T12:34:56Zx",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2024-02-29T12:34:56+0200",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_show_two_units() {
        let shown = [0, 59, 60, 3599, 3660, 86_400, 100_000].map(|s| format_duration(s * SECOND));
        assert_eq!(shown, ["0 s", "59 s", "1 min", "59 min 59 s", "1 h 1 min", "1 d", "1 d 3 h"]);
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_back(millis in 0u64..u64::MAX / 1_000_000) {
            let time = millis * 1_000_000;
            prop_assert_eq!(parse(&format(time)), Some(time));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            parse(&text);
        }
    }
}
