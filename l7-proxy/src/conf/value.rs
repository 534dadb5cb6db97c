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

/// Reads a whole number as argument 0.
pub(super) fn number<N: TryFrom<u64>>(directive: &Directive) -> Result<N, Fault> {
    parse_number(directive.arg(0)).ok_or_else(|| Fault::directive("invalid number"))
}

/// Reads a size as argument 0.
pub(super) fn size(directive: &Directive) -> Result<u64, Fault> {
    parse_size(directive.arg(0)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Reads a time as argument `place`.
pub(super) fn time(directive: &Directive, place: usize) -> Result<Duration, Fault> {
    parse_time(directive.arg(place)).ok_or_else(|| Fault::directive("invalid value"))
}

/// Returns the number that a word of digits stands for, if it is in range.
pub(super) fn parse_number<N: TryFrom<u64>>(word: &str) -> Option<N> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    N::try_from(word.parse().ok()?).ok()
}

/// Returns the bytes that `64`, `64k`, `64m` or `64g` stand for.
pub(crate) fn parse_size(word: &str) -> Option<u64> {
    let (digits, unit) = match word.as_bytes().last()? {
        b'k' | b'K' => (&word[..word.len() - 1], 1 << 10),
        b'm' | b'M' => (&word[..word.len() - 1], 1 << 20),
        b'g' | b'G' => (&word[..word.len() - 1], 1 << 30),
        _ => (word, 1),
    };
    parse_number::<u64>(digits)?.checked_mul(unit).filter(|&size| i64::try_from(size).is_ok())
}

/// Returns the time that `90`, `90s`, `1m30s` or `1h 30m` stands for; units go from large to
/// small, and a number without one is seconds.
pub(super) fn parse_time(word: &str) -> Option<Duration> {
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
    let mut left = word;
    let mut units = &UNITS[..];
    let mut sum = 0_u64;
    if word.is_empty() {
        return None;
    }
    while !left.is_empty() {
        let digits = left.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = left.split_at(digits);
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, rest) = rest.split_at(letters);
        // Without a unit it is the seconds, and there can be nothing after it.
        let name = if name.is_empty() && rest.is_empty() { "s" } else { name };
        let place = units.iter().position(|(unit, _)| *unit == name)?;
        sum = sum.checked_add(parse_number::<u64>(number)?.checked_mul(units[place].1)?)?;
        units = &units[place + 1..];
        left = rest.trim_start_matches(' ');
    }
    // As in nginx a time in milliseconds must fit into 63 bits.
    i64::try_from(sum).ok()?;
    Some(Duration::from_millis(sum))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_size, parse_time};

    #[test]
    fn sizes_have_the_units_of_nginx() {
        for (word, expected) in
            [("0", 0), ("1024", 1024), ("8k", 8192), ("8K", 8192), ("1m", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(parse_size(word), Some(expected), "{word}");
        }
        for word in
            ["", "k", "-1", "+1", "1.5m", "1kb", "1 k", "9223372036854775807k", "99999999999999999999"]
        {
            assert_eq!(parse_size(word), None, "{word}");
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
            ("1M", 2_592_000_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(parse_time(word), Some(Duration::from_millis(expected)), "{word}");
        }
        for word in ["", "s", "-1", "1x", "30m1h", "1m1m", "1.5s", "1ms1s", "1 s", "99999999999y", "30 1m"] {
            assert_eq!(parse_time(word), None, "{word}");
        }
    }
}
