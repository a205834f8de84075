//! Durations and sizes as people type and read them. Knows nothing about which setting or option they belong to.
//!
//! ```text
//! duration = number | part+    part: number unit; unit: s m h d w, largest first; a bare number is hours
//! size     = number unit       unit: B, KB MB GB TB PB (powers of 1000), K KiB M MiB … (powers of 1024)
//! ```
//! A number may have a decimal fraction. White space around it and before the unit is allowed, units ignore case.

use std::time::Duration;

/// A text that is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("{0:?} is not a duration (write 30m, 24h, 1h30m, 7d or a bare number of hours)")]
    Duration(String),
    /// Not a size.
    #[error("{0:?} is not a size (write a number with its unit: 50GiB, 10GB, 500MiB)")]
    Size(String),
}

const SECONDS: &[(&str, f64)] =
    &[("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0), ("", 3600.0)];

const BYTES: &[(&str, f64)] = &[
    ("b", 1.0),
    ("k", 1024.0),
    ("kib", 1024.0),
    ("kb", 1e3),
    ("m", 1_048_576.0),
    ("mib", 1_048_576.0),
    ("mb", 1e6),
    ("g", 1_073_741_824.0),
    ("gib", 1_073_741_824.0),
    ("gb", 1e9),
    ("t", 1_099_511_627_776.0),
    ("tib", 1_099_511_627_776.0),
    ("tb", 1e12),
    ("p", 1_125_899_906_842_624.0),
    ("pib", 1_125_899_906_842_624.0),
    ("pb", 1e15),
];

/// The longest duration that is understood, a hundred years: sums with the current time stay far from overflow.
const SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;
/// The largest size that is understood: an exact integer in a double.
const BYTES_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads a duration such as `7d`, `24h`, `1h30m`, or a bare number of hours.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    seconds(text).map(Duration::from_secs_f64).ok_or_else(|| QuantityError::Duration(text.to_owned()))
}

/// A bare number, or parts with units, the largest unit first and each once.
fn seconds(text: &str) -> Option<f64> {
    let (mut rest, mut sum, mut last) = (text.trim(), 0.0, f64::INFINITY);
    if !rest.contains(|c: char| c.is_ascii_alphabetic()) {
        return scaled(rest, SECONDS, SECONDS_MAX);
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let end = rest[unit_at..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| unit_at + at);
        let unit = scaled(&format!("1{}", &rest[unit_at..end].trim_end()), SECONDS, SECONDS_MAX)?;
        if unit >= last {
            return None;
        }
        sum += scaled(rest[..end].trim_end(), SECONDS, SECONDS_MAX)?;
        (last, rest) = (unit, &rest[end..]);
    }
    (sum <= SECONDS_MAX).then_some(sum)
}

/// Reads a size such as `50GiB` or `10GB`, in bytes. A bare number is refused: nobody means bytes by it.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    // Not negative and below 2^53, so the conversion is exact.
    scaled(text, BYTES, BYTES_MAX)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| QuantityError::Size(text.to_owned()))
}

fn scaled(text: &str, units: &[(&str, f64)], max: f64) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let value = number.parse::<f64>().ok()? * factor;
    (value <= max).then_some(value)
}

/// A size for people, in powers of 1024 with three significant digits: `0 B`, `1.5 KiB`, `12.3 GiB`.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A duration for people, in its two largest units: `0.4s`, `12.3s`, `4m 05s`, `3h 20m`, `2d 4h`.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let s = duration.as_secs();
    match s {
        0 if ms < 100 => format!("{ms}ms"),
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ if s % 86_400 < 3600 => format!("{}d", s / 86_400),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A moment for people, in UTC: `2026-11-30 08:29 UTC`.
pub fn format_moment(ms_since_1970: u64) -> String {
    let minutes = ms_since_1970 / 60_000;
    let (year, month, day) = civil(i64::try_from(minutes / 1440).unwrap_or_default());
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60 % 24, minutes % 60)
}

/// Year, month and day of a number of days since 1970. Years are counted from March, so that a leap day is the last of
/// its year.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, in_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("24h", 86_400),
            ("30m", 1800),
            ("90s", 90),
            ("2w", 1_209_600),
            ("12", 43_200),
            ("1.5h", 5400),
            (" 3 D ", 259_200),
            ("1h30m", 5400),
            ("2d 4h", 187_200),
            ("4m 05s", 245),
            ("1w2d3h4m5s", 788_645),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "d",
            "7 days",
            "-1h",
            "1e3h",
            ".5h",
            "5.h",
            "1..2h",
            "7dd",
            "∞",
            "99999999w",
            "nan",
            "30m1h",
            "1h1h",
            "1h30",
            "5 3m",
            "1h-3m",
            "1h,3m",
            "5200w 999d",
        ] {
            assert_eq!(parse_duration(bad), Err(QuantityError::Duration(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("50GiB", 50 << 30),
            ("10GB", 10_000_000_000),
            ("10G", 10 << 30),
            ("1.5 KiB", 1536),
            ("0B", 0),
            ("7kb", 7000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "50", "GiB", "-1GB", "1e9B", "50GiBs", "99999PiB", "5 gigs"] {
            assert_eq!(parse_size(bad), Err(QuantityError::Size(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn rendering_has_three_significant_digits_and_two_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1536, "1.50 KiB"),
            (10 << 20, "10.0 MiB"),
            (50 << 30, "50.0 GiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
        for (ms, text) in [
            (0, "0ms"),
            (400, "0.4s"),
            (12_340, "12.3s"),
            (245_000, "4m 05s"),
            (12_000_000, "3h 20m"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn moments() {
        for (s, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(format_moment(s * 1000 + 999), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error_that_names_it(text in ".{0,20}") {
            if let Err(error) = parse_size(&text) {
                let named = error.to_string().contains(&format!("{text:?}"));
                proptest::prop_assert!(named);
            }
            let _ = parse_duration(&text);
        }
    }
}
