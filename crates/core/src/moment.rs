//! Whether an output shows when it was made: looks for the seconds and days of a span of time, in the forms in which programs
//! write them. Doesn't know who wrote the output, and finds no time that was hashed, packed or rounded to a year.

use aho_corasick::AhoCorasick;

use crate::quantity::civil;

const DAY_S: i64 = 24 * 60 * 60;
/// How far a place's clock may be from UTC, in seconds.
const ZONE_S: i64 = 14 * 60 * 60;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Of a number of seconds since 1970 the last digits are left out: those before change once in this many seconds.
const DIGITS_S: i64 = 100;

/// Looks for a span of time in bytes.
pub struct Moment(Option<AhoCorasick>);

impl Moment {
    /// From and to, in seconds since 1970.
    pub fn new(from_s: i64, to_s: i64) -> Self {
        let mut patterns = Vec::new();
        for day in (from_s - ZONE_S).div_euclid(DAY_S)..=(to_s + ZONE_S).div_euclid(DAY_S) {
            let (year, month, day) = civil(day);
            let name =
                usize::try_from(month - 1).ok().and_then(|i| MONTHS.get(i)).copied().unwrap_or_default();
            for separator in ["-", "/", "."] {
                patterns.push(format!("{year}{separator}{month:02}{separator}{day:02}"));
            }
            patterns.push(format!("{year}{month:02}{day:02}"));
            // `__DATE__`, `date`, `ctime`; and the form of mail.
            patterns.extend([format!("{name} {day:2} "), format!("{day:02} {name} {year}")]);
        }
        patterns.extend((from_s / DIGITS_S..=to_s / DIGITS_S).map(|digits| digits.to_string()));
        Self(AhoCorasick::new(patterns).ok())
    }

    /// Whether the bytes show it; also where that can't be known.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.is_match(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (days, expected) in
            [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11_016, (2000, 2, 29)), (20_787, (2026, 11, 30))]
        {
            assert_eq!(civil(days), expected, "{days}");
        }
    }

    #[test]
    fn a_moment_is_found_in_every_form() {
        let from_s = 20_787 * DAY_S + 46_800;
        let moment = Moment::new(from_s, from_s + 9);
        for (text, expected) in [
            ("BUILT=2026-11-30T13:00:00Z", true),
            ("2026/11/30", true),
            ("20261130", true),
            ("Nov 30 2026", true),
            ("Mon Nov 30 13:00:01 2026", true),
            ("Mon, 30 Nov 2026 13:00:01 +0000", true),
            // The day after, where the sun rises first.
            ("2026-12-01", true),
            (&from_s.to_string(), true),
            (&format!("{}123", from_s + 3), true),
            ("2026-11-27 and 2025-11-30 and 1796042 in version 20.26", false),
            ("Nov 3 and Nov 301", false),
            ("", false),
        ] {
            assert_eq!(moment.is_in(text.as_bytes()), expected, "{text}");
        }
        assert!(Moment::new(5 * DAY_S, 5 * DAY_S).is_in(b"Jan  6 1970"));
    }
}
