//! Durations and sizes as people write them: `500ms`, `1h30m`, `512MiB`, `2GB`.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

const DURATION_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses `500ms`, `30s`, `5m`, `1h30m`, `7d`, `0s`.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write for example 500ms, 30s, 5m, 1h30m or 7d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, factor) = DURATION_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(wrong)?;
        rest = &rest[letters..];
        millis = number.checked_mul(*factor).and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
    }
    Ok(Duration::from_millis(millis))
}

/// The shortest form that [`parse_duration`] reads back: `1h30m`, `500ms`, `0s`.
pub fn format_duration(span: Duration) -> String {
    let mut millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = millis / factor;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis %= factor;
        }
    }
    text
}

/// An amount of memory or disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Parses `512MiB`, `2GB`, `1024B`.
    ///
    /// # Errors
    /// A sentence that says what a size looks like.
    pub fn parse(text: &str) -> Result<Bytes, String> {
        let wrong = || format!("`{text}` is no size; write for example 512MiB, 2GB or 1024B");
        let trimmed = text.trim();
        let digits = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let (_, factor) = SIZE_UNITS.iter().find(|(unit, _)| *unit == &trimmed[digits..]).ok_or_else(wrong)?;
        let number = &trimmed[..digits];
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(*factor).map(Bytes).ok_or_else(wrong);
        }
        let fraction: f64 = number.parse().map_err(|_| wrong())?;
        Ok(Bytes((fraction * *factor as f64) as u64))
    }
}

impl fmt::Display for Bytes {
    /// In the largest binary unit that divides it, else in one with a decimal: `512MiB`, `1.5GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                return if self.0.is_multiple_of(factor) {
                    write!(f, "{}{unit}", self.0 / factor)
                } else {
                    write!(f, "{:.1}{unit}", self.0 as f64 / factor as f64)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_what_they_write() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)] {
            let span = parse_duration(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(span.as_millis(), millis, "{text}");
            assert_eq!(format_duration(span), text);
        }
        for text in ["", "5", "m5", "5 minutes", "-3s", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal_as_written() {
        assert_eq!(Bytes::parse("512MiB"), Ok(Bytes(512 << 20)));
        assert_eq!(Bytes::parse("2GB"), Ok(Bytes(2_000_000_000)));
        assert_eq!(Bytes::parse("1.5GiB").map(|size| size.to_string()), Ok("1.5GiB".to_owned()));
        assert!(Bytes::parse("5").is_err());
        assert!(Bytes::parse("5 apples").is_err());
    }
}
