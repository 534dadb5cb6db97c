//! Numbers, sizes, times and switches as nginx writes them.

use std::time::Duration;

use super::rules::Fault;
use super::tree::Directive;

/// Reads argument 0 of a switch.
pub(super) fn flag(directive: &Directive) -> Result<bool, Fault> {
    match directive.arg(0) {
        word if word.eq_ignore_ascii_case("on") => Ok(true),
        word if word.eq_ignore_ascii_case("off") => Ok(false),
        word => {
            let name = &directive.name;
            Err(Fault::new(format!(
                "invalid value \"{word}\" in \"{name}\" directive, it must be \"on\" or \"off\""
            )))
        }
    }
}

/// Returns argument 0 in lower case: the words that nginx chooses among have no case.
pub(super) fn choice(directive: &Directive) -> String {
    directive.arg(0).to_ascii_lowercase()
}

/// Reads a whole number as argument 0; one that is larger than what it is counted with is the largest.
pub(super) fn number<N: TryFrom<u64>>(directive: &Directive) -> Result<N, Fault> {
    let invalid = || Fault::directive("invalid number");
    let number: u64 = parse_number(directive.arg(0)).ok_or_else(invalid)?;
    N::try_from(number).or_else(|_| N::try_from(u32::MAX.into())).map_err(|_| invalid())
}

/// Reads a size as argument 0.
pub(super) fn size(directive: &Directive) -> Result<u64, Fault> {
    parse_size(directive.arg(0)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Reads the size of something that may be larger than memory as argument 0.
pub(super) fn offset(directive: &Directive) -> Result<u64, Fault> {
    parse_offset(directive.arg(0)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Reads a time that nginx counts in milliseconds as argument `place`.
pub(super) fn time(directive: &Directive, place: usize) -> Result<Duration, Fault> {
    parse_time(directive.arg(place)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Reads a time that nginx counts in seconds as argument `place`.
pub(super) fn seconds(directive: &Directive, place: usize) -> Result<Duration, Fault> {
    parse_seconds(directive.arg(place)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Returns the number that a word of digits stands for, if it is in range.
pub(super) fn parse_number<N: TryFrom<u64>>(word: &str) -> Option<N> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // nginx's numbers have a sign.
    N::try_from(word.parse().ok().filter(|&number: &u64| i64::try_from(number).is_ok())?).ok()
}

/// Returns the bytes that `64`, `64k` or `64m` stand for.
pub(crate) fn parse_size(word: &str) -> Option<u64> {
    match word.as_bytes().last()? {
        b'g' | b'G' => None,
        _ => parse_offset(word),
    }
}

/// Returns the bytes that `64`, `64k`, `64m` or `64g` stand for.
pub(super) fn parse_offset(word: &str) -> Option<u64> {
    let (digits, unit) = match word.as_bytes().last()? {
        b'k' | b'K' => (&word[..word.len() - 1], 1 << 10),
        b'm' | b'M' => (&word[..word.len() - 1], 1 << 20),
        b'g' | b'G' => (&word[..word.len() - 1], 1 << 30),
        _ => (word, 1),
    };
    parse_number::<u64>(digits)?.checked_mul(unit).filter(|&size| i64::try_from(size).is_ok())
}

/// Returns the time that `90`, `90s`, `1m30s`, `1h 30m` or `500ms` stands for; a number without a unit is
/// seconds. Months and years are too long for it.
pub(super) fn parse_time(word: &str) -> Option<Duration> {
    parse_units(word, &UNITS[2..], 1000).map(Duration::from_millis)
}

/// Returns the time that `90`, `1y` or `1M2w` stands for; milliseconds are too short for it.
pub(super) fn parse_seconds(word: &str) -> Option<Duration> {
    let seconds = parse_units(word, &UNITS[..7], 1)?;
    // Beyond what milliseconds can tell there is no difference.
    Some(Duration::from_millis(seconds.saturating_mul(1000).min(i64::MAX as u64)))
}

/// The units of times and their milliseconds, in the order in which they may follow each other.
const UNITS: [(&str, u64); 8] = [
    ("y", 365 * 86_400_000),
    ("M", 30 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Adds up a time in `per_second` parts of a second.
fn parse_units(word: &str, mut units: &[(&str, u64)], per_second: u64) -> Option<u64> {
    // What comes to its end here is checked once: nginx takes `1h` followed by blanks.
    let mut left = Some(word).filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut sum = 0_u64;
    while !left.is_empty() {
        let digits = left.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = left.split_at(digits);
        let number: u64 = parse_number(number)?;
        let (parts, rest) = match units.iter().rposition(|(unit, _)| rest.starts_with(unit)) {
            // A minute is no millisecond.
            Some(place) if units[place].0 != "m" || !rest.starts_with("ms") => {
                let (unit, millis) = units[place];
                units = &units[place + 1..];
                (millis * per_second / 1000, &rest[unit.len()..])
            }
            // Seconds need no unit, at the end or before a blank.
            None if rest.is_empty() => (per_second, rest),
            None if rest.starts_with(' ') && units.iter().any(|(unit, _)| *unit == "s") => {
                units = &[];
                (per_second, rest)
            }
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(parts)?)?;
        left = rest.trim_start_matches(' ');
    }
    // As in nginx it must fit into 63 bits.
    i64::try_from(sum).ok()?;
    Some(sum)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_offset, parse_seconds, parse_size, parse_time};

    #[test]
    fn sizes_have_the_units_of_nginx() {
        for (word, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("8k", 8192),
            ("8K", 8192),
            ("1m", 1 << 20),
            ("9007199254740991k", (1 << 63) - 1024),
        ] {
            assert_eq!(parse_size(word), Some(expected), "{word}");
            assert_eq!(parse_offset(word), Some(expected), "{word}");
        }
        assert_eq!((parse_size("2G"), parse_offset("2G")), (None, Some(2 << 30)));
        for word in ["", "k", "-1", "+1", "1.5m", "1kb", "1 k", "9007199254740992k", "99999999999999999999"] {
            assert_eq!(parse_size(word), None, "{word}");
            assert_eq!(parse_offset(word), None, "{word}");
        }
    }

    #[test]
    fn times_have_the_units_of_nginx() {
        for (word, expected) in [
            ("0", 0),
            ("60", 60_000),
            ("60s", 60_000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("1m30", 90_000),
            ("1s500ms", 1500),
            ("2w", 1_209_600_000),
            ("1s1", 2000),
            ("1s ", 1000),
            ("1 1", 2000),
            ("106751991167d", 9_223_372_036_828_800_000),
        ] {
            assert_eq!(parse_time(word), Some(Duration::from_millis(expected)), "{word}");
        }
        for word in [
            "",
            "s",
            "-1",
            "1x",
            "30m1h",
            "1m1m",
            "1.5s",
            "1ms1s",
            "1 s",
            "30 1m",
            " 1s",
            "1M",
            "1y",
            "1S",
            "106751991168d",
            "9223372036854776",
        ] {
            assert_eq!(parse_time(word), None, "{word}");
        }
    }

    #[test]
    fn times_in_seconds_may_be_years_and_no_milliseconds() {
        for (word, expected) in [
            ("0", 0),
            ("1M", 2_592_000),
            ("1y2M 3w", 365 * 86_400 + 2 * 2_592_000 + 3 * 604_800),
            ("9223372036854775", 9_223_372_036_854_775),
        ] {
            assert_eq!(parse_seconds(word), Some(Duration::from_secs(expected)), "{word}");
        }
        for word in ["", "1ms", "1s1ms", "1M1y", "9223372036854775808", "9999999999999y"] {
            assert_eq!(parse_seconds(word), None, "{word}");
        }
    }
}
