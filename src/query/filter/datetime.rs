//! RFC 3339 instants: parsing for range filters, printing for answers.
//!
//! A text without an offset is UTC and a bare date is its midnight, as published clients send naive dates.

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub i128);

impl Instant {
    /// Parses `2026-11-05`, `2026-11-05T10:00[:00[.123]][Z|+01:00|+0100|+01]`; `T` may be a space.
    ///
    /// Digits past nanoseconds are cut; a leap second counts as the second after it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().as_bytes();
        let year = digits(&mut rest, 4)?;
        literal(&mut rest, b"-")?;
        let month = digits(&mut rest, 2)?;
        literal(&mut rest, b"-")?;
        let day = digits(&mut rest, 2)?;
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        let midnight = i128::from(days_from_civil(year, month, day)) * 86_400;
        if rest.is_empty() {
            return Some(Self(midnight * NANOS_PER_SECOND));
        }
        literal(&mut rest, b"Tt ")?;
        let hour = digits(&mut rest, 2)?;
        literal(&mut rest, b":")?;
        let minute = digits(&mut rest, 2)?;
        let (mut second, mut nanos) = (0, 0);
        if literal(&mut rest, b":").is_some() {
            second = digits(&mut rest, 2)?;
            if literal(&mut rest, b".,").is_some() {
                nanos = fraction(&mut rest)?;
            }
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let offset = offset_seconds(&mut rest)?;
        let seconds = midnight + i128::from(hour * 3_600 + minute * 60 + second - offset);
        rest.is_empty().then_some(Self(seconds * NANOS_PER_SECOND + i128::from(nanos)))
    }

    /// RFC 3339 in UTC with milliseconds.
    pub fn format_millis(milliseconds: i64) -> String {
        let (days, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1_000)
    }
}

fn literal(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    any_of.contains(first).then(|| {
        *rest = tail;
        *first
    })
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, tail) = rest.split_at_checked(count).filter(|_| count > 0)?;
    *rest = tail;
    let padded = head.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some(padded.fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn offset_seconds(rest: &mut &[u8]) -> Option<i64> {
    if rest.is_empty() || literal(rest, b"Zz").is_some() {
        return Some(0);
    }
    let sign = if literal(rest, b"+-")? == b'-' { -1 } else { 1 };
    let hours = digits(rest, 2)?;
    let colon = literal(rest, b":").is_some();
    let minutes = if colon || !rest.is_empty() { digits(rest, 2)? } else { 0 };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
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

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
///
/// Source: *chrono-Compatible Low-Level Date Algorithms*, Howard Hinnant: years begin in March, so that the
/// leap day is the last day of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i128> {
        Instant::parse(text).map(|instant| instant.0 / NANOS_PER_SECOND)
    }

    #[test]
    fn the_same_instant_in_every_accepted_form() {
        for text in [
            "2026-11-05T10:00:00Z",
            "2026-11-05T11:00:00+01:00",
            "2026-11-05t11:00:00+0100",
            "2026-11-05 11:00:00+01",
            "2026-11-05T10:00",
            "2026-11-05T10:00:00.000000000000",
            "2026-11-05T04:30:00-05:30",
        ] {
            assert_eq!(seconds(text), Some(1_793_872_800), "{text}");
        }
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2000-02-29"), Some(951_782_400));
        assert_eq!(Instant::parse("1970-01-01T00:00:00.5Z"), Some(Instant(500_000_000)));
        assert_eq!(Instant::parse("1969-12-31T23:59:59.25Z"), Some(Instant(-750_000_000)));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-05T",
            "2026-11-05T25:00",
            "2026-11-05T10:00:00+1",
            "2026-11-05T10:00:00Zx",
            "yesterday",
            "2026-11-05T10:00:00.Z",
            "2026-11-05T10:00:00+01:",
            "２０２６-11-05",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_prints_and_parses_back() {
        for day in -150_000..150_000 {
            let text = Instant::format_millis(day * 86_400_000 + 1);
            assert_eq!(
                Instant::parse(&text),
                Some(Instant(i128::from(day * 86_400_000 + 1) * 1_000_000)),
                "{text}"
            );
        }
    }
}
