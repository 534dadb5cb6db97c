//! What is wrong with the head that a server sent: nginx's words, and what there was in their place.
//!
//! What is shown comes from the network. It is cut short, and what a terminal could obey is escaped.

use std::fmt;

/// Why the head of an answer is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// In nginx's words, where it has some.
    pub(crate) what: &'static str,
    /// What there was.
    shown: Option<Box<str>>,
}

impl Malformed {
    /// An error that shows this text.
    pub(super) fn showing(what: &'static str, text: &[u8]) -> Malformed {
        Malformed { what, shown: Some(escaped(text).into()) }
    }

    /// A line beside another one of which there can be only one.
    pub(crate) fn twice(name: impl fmt::Display, value: &[u8], before: &[u8]) -> Malformed {
        let lines = format!("{name}: {}\", previous value: \"{name}: {}", escaped(value), escaped(before));
        Malformed { what: "upstream sent duplicate header line", shown: Some(lines.into()) }
    }

    /// A head with a line that is no field: shows that one up to the byte that makes it none.
    pub(super) fn field(head: &[u8]) -> Malformed {
        let what = "upstream sent invalid header";
        let lines = head.split_inclusive(|&byte| byte == b'\n').skip(1);
        let shown = lines.take_while(|line| !matches!(*line, b"\n" | b"\r\n")).find_map(|line| {
            let at = offence(line)?;
            Some(format!("{}\\x{:02x}...", escaped(&line[..at]), line[at]).into())
        });
        Malformed { what, shown }
    }
}

impl From<&'static str> for Malformed {
    fn from(what: &'static str) -> Malformed {
        Malformed { what, shown: None }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(shown) => write!(f, "{}: \"{shown}\"", self.what),
            None => f.write_str(self.what),
        }
    }
}

/// Where a line, with its end, stops being a field; `None` if it is one.
fn offence(line: &[u8]) -> Option<usize> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line.iter().position(|byte| !is_token(byte))?;
    if name == 0 || line[name] != b':' {
        return Some(name);
    }
    let text = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
    text.iter().position(|&byte| byte.is_ascii_control() && byte != b'\t')
}

/// Returns the beginning of a text as it may stand in a log.
fn escaped(text: &[u8]) -> String {
    let most = &text[..text.len().min(SHOWN_MAX)];
    String::from_utf8_lossy(most).chars().fold(String::with_capacity(most.len()), |mut out, letter| {
        match letter {
            letter if letter.is_control() => out.extend(format!("\\x{:02x}", u32::from(letter)).chars()),
            letter => out.push(letter),
        }
        out
    })
}

/// As much of a line is shown.
const SHOWN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_is_no_field_is_shown_up_to_what_makes_it_none() {
        for (lines, expected) in [
            ("X: a\r\n b\r\n\r\n", "\"\\x20...\""),
            ("X : a\r\n\r\n", "\"X\\x20...\""),
            (": a\r\n\r\n", "\"\\x3a...\""),
            ("A: b\nX\r\n\r\n", "\"X\\x0d...\""),
            ("X: a\0b\r\n\r\n", "\"X: a\\x00...\""),
            ("X: a\rb\r\n\r\n", "\"X: a\\x0d...\""),
            ("X: \u{1b}[31m\r\n\r\n", "\"X: \\x1b...\""),
        ] {
            let told = Malformed::field(format!("HTTP/1.1 200 OK\r\n{lines}").as_bytes()).to_string();
            assert_eq!(told, format!("upstream sent invalid header: {expected}"), "{lines:?}");
        }
        // A field may have a tab and bytes above ASCII; what follows the head is none of it.
        let told = Malformed::field("HTTP/1.1 200 OK\r\nX: a\tä\r\n\r\n : ".as_bytes()).to_string();
        assert_eq!(told, "upstream sent invalid header");
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        let told = Malformed::showing("what", &[b"\x1b[2J".as_slice(), &[b'x'; 9000]].concat()).to_string();
        assert!(told.starts_with("what: \"\\x1b[2Jxx") && told.len() < 300, "{told}");
        assert_eq!(
            Malformed::twice("Age", b"1", b"2").to_string(),
            "upstream sent duplicate header line: \"Age: 1\", previous value: \"Age: 2\""
        );
    }
}
