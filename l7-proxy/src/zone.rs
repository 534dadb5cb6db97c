//! The time zone of this machine: what its clocks on the wall are ahead of UTC at a moment.
//!
//! Read once, as the C library does it for nginx: what `TZ` names, else `/etc/localtime`; where neither can be
//! read it is UTC. A file of the time zone database (RFC 9636) lists the changes that are known, and ends with a
//! rule for all later ones, which `TZ` may give by itself (POSIX, `CET-1CEST,M3.5.0,M10.5.0/3`).

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

/// Returns how many seconds the clocks here are ahead of UTC at a moment, in seconds since 1970.
pub(crate) fn offset(moment: i64) -> i64 {
    static HERE: LazyLock<Zone> = LazyLock::new(Zone::here);
    HERE.offset(moment)
}

/// A time zone.
#[derive(Debug, PartialEq, Eq)]
struct Zone {
    /// What holds before the first change.
    first: i64,
    /// When the offset changed, and to what.
    changes: Vec<(i64, i64)>,
    /// What holds after the last change; `None` leaves it as it is.
    rule: Option<Rule>,
}

/// What holds every year.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    standard: i64,
    summer: Option<Summer>,
}

/// A part of the year with another offset.
#[derive(Debug, PartialEq, Eq)]
struct Summer {
    offset: i64,
    begins: Turn,
    ends: Turn,
}

/// A moment of every year, in the offset that holds until then.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    day: Day,
    /// Seconds since that day began.
    time: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Day {
    /// From 1 on; the 29th of February is never counted.
    Plain(i64),
    /// From 0 on; it is counted.
    OfYear(i64),
    /// The first (1) to last (5) such day of the week, from Sunday (0) on, in a month.
    OfWeek { month: i64, week: i64, weekday: i64 },
}

impl Zone {
    fn fixed(offset: i64) -> Zone {
        Zone { first: offset, changes: Vec::new(), rule: None }
    }

    fn here() -> Zone {
        let named = std::env::var("TZ").ok();
        let found = match named.as_deref() {
            None => Zone::read("/etc/localtime".as_ref()),
            Some("") => None,
            Some(name) => {
                let name = name.strip_prefix(':').unwrap_or(name);
                // An absolute one is what remains.
                let path = Path::new("/usr/share/zoneinfo").join(name);
                Zone::read(&path).or_else(|| Rule::parse(name).map(Zone::of_rule))
            }
        };
        found.unwrap_or(Zone::fixed(0))
    }

    fn of_rule(rule: Rule) -> Zone {
        Zone { rule: Some(rule), ..Zone::fixed(0) }
    }

    fn read(path: &Path) -> Option<Zone> {
        Zone::parse(&fs::read(path).ok()?)
    }

    /// Reads a file of the database; `None` if it is none.
    fn parse(file: &[u8]) -> Option<Zone> {
        let (first, rest) = Block::parse(file, 4)?;
        if first.version == 0 {
            return first.zone(None);
        }
        let (second, rest) = Block::parse(rest, 8)?;
        let footer = rest.strip_prefix(b"\n")?.split(|&byte| byte == b'\n').next()?;
        let footer = std::str::from_utf8(footer).ok()?;
        second.zone(if footer.is_empty() { None } else { Some(Rule::parse(footer)?) })
    }

    fn offset(&self, moment: i64) -> i64 {
        let after = self.changes.partition_point(|&(at, _)| at <= moment);
        match &self.rule {
            Some(rule) if after == self.changes.len() => rule.offset(moment),
            _ => after.checked_sub(1).map_or(self.first, |last| self.changes[last].1),
        }
    }
}

/// One of the two blocks of a file, which say the same with times of 32 and of 64 bits.
struct Block<'a> {
    version: u8,
    times: &'a [u8],
    /// How long a time is.
    width: usize,
    /// Of each change the number of its kind.
    kinds: &'a [u8],
    /// Of each kind six bytes: an offset, and what else is known of it.
    offsets: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block; returns what is behind it, too.
    fn parse(bytes: &'a [u8], width: usize) -> Option<(Block<'a>, &'a [u8])> {
        const HEAD: usize = 44;
        let head = bytes.get(..HEAD).filter(|head| head.starts_with(b"TZif"))?;
        let count = |place: usize| -> Option<usize> {
            let bytes = head.get(20 + 4 * place..24 + 4 * place)?;
            usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
        };
        let [utc, standard, leaps, times, kinds, letters] =
            [count(0)?, count(1)?, count(2)?, count(3)?, count(4)?, count(5)?];
        let mut rest = &bytes[HEAD..];
        let mut take = |size: Option<usize>| -> Option<&'a [u8]> {
            let (taken, left) = rest.split_at_checked(size?)?;
            rest = left;
            Some(taken)
        };
        let block = Block {
            version: head[4],
            times: take(times.checked_mul(width))?,
            width,
            kinds: take(Some(times))?,
            offsets: take(kinds.checked_mul(6))?,
        };
        take(Some(letters))?;
        take(leaps.checked_mul(width + 4))?;
        take(Some(standard))?;
        take(Some(utc))?;
        Some((block, rest))
    }

    fn zone(&self, rule: Option<Rule>) -> Option<Zone> {
        let offset = |kind: usize| -> Option<i64> {
            let bytes = self.offsets.get(kind * 6..kind * 6 + 4)?;
            Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)))
        };
        let time = |bytes: &[u8]| -> Option<i64> {
            match self.width {
                8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
                _ => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
            }
        };
        let changes = self.times.chunks(self.width).zip(self.kinds);
        let changes = changes.map(|(at, &kind)| Some((time(at)?, offset(usize::from(kind))?)));
        Some(Zone { first: offset(0)?, changes: changes.collect::<Option<_>>()?, rule })
    }
}

impl Rule {
    /// Reads a rule as POSIX writes it: `CET-1CEST,M3.5.0,M10.5.0/3`. Offsets count westwards there.
    fn parse(text: &str) -> Option<Rule> {
        let mut rest = text;
        name(&mut rest)?;
        let standard = -clock(&mut rest)?;
        if rest.is_empty() {
            return Some(Rule { standard, summer: None });
        }
        name(&mut rest)?;
        let offset = match rest.starts_with(',') || rest.is_empty() {
            true => standard + 3600,
            false => -clock(&mut rest)?,
        };
        // Who says nothing of when means the United States, by tradition.
        let when = if rest.is_empty() { ",M3.2.0,M11.1.0" } else { rest };
        let (begins, ends) = when.strip_prefix(',')?.split_once(',')?;
        let summer = Summer { offset, begins: Turn::parse(begins)?, ends: Turn::parse(ends)? };
        Some(Rule { standard, summer: Some(summer) })
    }

    fn offset(&self, moment: i64) -> i64 {
        let Some(summer) = &self.summer else { return self.standard };
        // A clock beyond that is wrong in any case.
        let moment = moment.clamp(-CLOCK_MAX, CLOCK_MAX);
        let year = year_of(moment + self.standard);
        let begins = summer.begins.at(year) - self.standard;
        let ends = summer.ends.at(year) - summer.offset;
        // In the south it is summer when the year begins.
        let is_summer = match begins < ends {
            true => (begins..ends).contains(&moment),
            false => !(ends..begins).contains(&moment),
        };
        if is_summer { summer.offset } else { self.standard }
    }
}

impl Turn {
    fn parse(text: &str) -> Option<Turn> {
        let (day, mut time) = text.split_once('/').unwrap_or((text, "2"));
        let number =
            |text: &str, range: Range<i64>| text.parse().ok().filter(|number| range.contains(number));
        let day = if let Some(day) = day.strip_prefix('J') {
            Day::Plain(number(day, 1..366)?)
        } else if let Some(day) = day.strip_prefix('M') {
            let mut parts = day.split('.');
            let mut part = |range| number(parts.next()?, range);
            Day::OfWeek { month: part(1..13)?, week: part(1..6)?, weekday: part(0..7)? }
        } else {
            Day::OfYear(number(day, 0..366)?)
        };
        let time = clock(&mut time).filter(|_| time.is_empty())?;
        Some(Turn { day, time })
    }

    /// The moment in a year, as the clocks show it.
    fn at(&self, year: i64) -> i64 {
        let day = match self.day {
            Day::OfYear(day) => days(year, 1) + day,
            Day::Plain(day) => {
                let leaps = days(year, 3) - days(year, 1) == 60 && day > 59;
                days(year, 1) + day - 1 + i64::from(leaps)
            }
            Day::OfWeek { month, week, weekday } => {
                let first = days(year, month);
                // The first of January 1970 was a Thursday.
                let to_first = (weekday - (first + 4)).rem_euclid(7);
                let next = if month == 12 { days(year + 1, 1) } else { days(year, month + 1) };
                let day = first + to_first + 7 * (week - 1);
                if day < next { day } else { day - 7 }
            }
        };
        day * DAY + self.time
    }
}

/// Takes the name of an offset off, which is letters, or anything in angle brackets.
fn name(rest: &mut &str) -> Option<()> {
    let end = match rest.strip_prefix('<') {
        Some(inner) => inner.find('>')? + 2,
        None => rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()),
    };
    *rest = &rest[end..];
    (end >= 3).then_some(())
}

/// Takes `[+-]hh[:mm[:ss]]` off; returns seconds.
fn clock(rest: &mut &str) -> Option<i64> {
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-:".contains(c))).unwrap_or(rest.len());
    let (text, left) = rest.split_at(end);
    *rest = left;
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0;
    let mut unit = 3600;
    for part in text.split(':') {
        let part: i64 = part.parse().ok().filter(|part| (0..=167).contains(part))?;
        seconds += part * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}

/// Days from the first of January 1970 to the first of a month.
fn days(year: i64, month: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 - 719_468
}

fn year_of(moment: i64) -> i64 {
    let day = moment.div_euclid(DAY);
    // At most one too early or too late.
    let near = 1970 + day.div_euclid(365);
    let mut year = near - near.saturating_sub(1970) / 1460;
    while days(year + 1, 1) <= day {
        year += 1;
    }
    while days(year, 1) > day {
        year -= 1;
    }
    year
}

const DAY: i64 = 86_400;

/// The year 9999, about, in seconds since 1970.
const CLOCK_MAX: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &str, moment: i64, hours: i64) {
        let zone = Zone::of_rule(Rule::parse(rule).unwrap());
        assert_eq!(zone.offset(moment), hours * 3600, "{rule} {moment}");
    }

    #[test]
    fn summer_begins_and_ends_where_the_rule_says() {
        // 2026: on 29 March and 25 October at 01:00 UTC.
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        check(berlin, 1_774_745_999, 1);
        check(berlin, 1_774_746_000, 2);
        check(berlin, 1_792_889_999, 2);
        check(berlin, 1_792_890_000, 1);
        // In Sydney summer is over the turn of the year.
        let sydney = "AEST-10AEDT,M10.1.0,M4.1.0/3";
        check(sydney, 1_767_225_600, 11);
        check(sydney, 1_780_000_000, 10);
        check("<-03>3", 0, -3);
        check("EST5EDT", 1_783_000_000, -4);
        check("AAA0BBB,J60,J61", 1_772_330_400 - 3600, 0);
        check("AAA0BBB,J60,J61", 1_772_332_200, 1);
        check("AAA-1", i64::MAX, 1);
        check(sydney, i64::MAX, 11);
        check(sydney, i64::MIN, 11);
    }

    #[test]
    fn what_is_no_rule_is_none() {
        for text in ["", "C", "CET", "CET-1CEST,M3", "CET-1CEST,M13.1.0,M10.5.0", "CET-1CEST,x,y", "CET-1/2"]
        {
            assert_eq!(Rule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn year_is_that_of_the_day() {
        for year in 1900..2500 {
            let begins = days(year, 1) * DAY;
            assert_eq!((year_of(begins - 1), year_of(begins)), (year - 1, year));
        }
    }

    #[test]
    fn file_holds_up_to_its_last_change_and_its_rule_afterwards() {
        let block = |version: u8, width: usize| {
            let mut bytes = b"TZif".to_vec();
            bytes.push(version);
            bytes.extend_from_slice(&[0; 15]);
            [0_u32, 0, 0, 2, 2, 4].iter().for_each(|count| bytes.extend_from_slice(&count.to_be_bytes()));
            [1000_i64, 2000].iter().for_each(|at| bytes.extend_from_slice(&at.to_be_bytes()[8 - width..]));
            bytes.extend_from_slice(&[1, 0]);
            for offset in [600_i32, -1200] {
                bytes.extend_from_slice(&offset.to_be_bytes());
                bytes.extend_from_slice(&[0, 0]);
            }
            bytes.extend_from_slice(b"ABC\0");
            bytes
        };
        let whole = [&block(b'2', 4)[..], &block(b'2', 8), b"\nABC-2\n"].concat();
        let zone = Zone::parse(&whole).unwrap();
        let found = [999, 1000, 1999, 2000].map(|moment| zone.offset(moment));
        assert_eq!(found, [600, -1200, -1200, 7200]);
        assert_eq!(Zone::parse(&block(0, 4)).unwrap().offset(5000), 600);
        for end in 0..whole.len() - 1 {
            assert_eq!(Zone::parse(&whole[..end]).filter(|_| end < whole.len() - 6), None, "{end}");
        }
    }

    /// Compares with the C library, by way of date(1).
    #[test]
    fn zones_of_this_machine_are_as_the_system_sees_them() {
        for name in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "Africa/Casablanca",
        ] {
            let Some(zone) = Zone::read(&Path::new("/usr/share/zoneinfo").join(name)) else {
                // Without a database there is nothing to compare with.
                return;
            };
            for moment in [-2_000_000_000, 0, 500_000_000, 1_774_746_000, 1_783_000_000, 4_000_000_000_i64] {
                let mut date = std::process::Command::new("date");
                let said =
                    date.env("TZ", name).args(["-d", &format!("@{moment}"), "+%z%S"]).output().unwrap();
                let said = String::from_utf8(said.stdout).unwrap();
                let sign = if said.starts_with('-') { -1 } else { 1 };
                let minutes: i64 =
                    said[1..3].parse::<i64>().unwrap() * 60 + said[3..5].parse::<i64>().unwrap();
                assert_eq!(zone.offset(moment) / 60, sign * minutes, "{name} {moment}");
            }
        }
    }
}
