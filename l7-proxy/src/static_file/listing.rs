//! `autoindex`: what is in a directory, in nginx's four forms; and `random_index`, one of its files.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};

use crate::date;
use crate::jsp;
use crate::model::{ListingForm, Sizes};
use crate::variable::{Exchange, Value, Variable};

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    name: Vec<u8>,
    kind: Kind,
    size: u64,
    modified: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Directory,
    File,
    Other,
}

/// Returns what is in a directory: directories first, then by name. What begins with a dot is hidden, as
/// is what nobody is to see of a web application.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn read(directory: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in fs::read_dir(Path::new(OsStr::from_bytes(directory)))? {
        let found = found?;
        let name = found.file_name().into_vec();
        if name.starts_with(b".") || jsp::is_private(&[b"/", &*name, b"/"].concat()) {
            continue;
        }
        // What a link leads to, and the link itself where that is nothing. What cannot be looked at is
        // left out.
        let Ok(facts) = fs::metadata(found.path()).or_else(|_| found.metadata()) else { continue };
        let kind = match facts.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        let modified = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        entries.push(Entry { name, kind, size: facts.len(), modified });
    }
    entries.sort_by(|one, other| {
        let rank = |entry: &Entry| entry.kind != Kind::Directory;
        rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name))
    });
    Ok(entries)
}

/// Returns the name of one of the files in a directory; `None` if there is none.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn any_file(directory: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut files = read(directory)?;
    files.retain(|entry| entry.kind == Kind::File);
    let mut bytes = [0; 8];
    // Without randomness it is the first.
    _ = SystemRandom::new().fill(&mut bytes);
    let count = files.len().max(1) as u64;
    let place = usize::try_from(u64::from_le_bytes(bytes) % count).unwrap_or(0);
    Ok(files.into_iter().nth(place).map(|entry| entry.name))
}

/// Returns the page of a directory, and its type; `None` if it is to call what is no function.
pub(super) fn page(exchange: &Exchange<'_>, entries: &[Entry]) -> Option<(&'static str, Vec<u8>)> {
    let settings = exchange.settings;
    let rules = settings.files.listing;
    let mut scratch = Vec::new();
    Some(match rules.form {
        ListingForm::Html => {
            let charset = settings.charset.name.as_ref().map(|name| name.bytes(exchange, &mut scratch));
            let utf8 = charset.is_some_and(|charset| charset.eq_ignore_ascii_case(b"utf-8"));
            let characters = if utf8 { Characters::Utf8 } else { Characters::Bytes };
            // As in nginx it is summer in the whole list if it is now.
            let ahead = if rules.local_time { date::ahead(SystemTime::now()) } else { 0 };
            ("text/html", html(exchange.target.path(), entries, rules.sizes, ahead, characters))
        }
        ListingForm::Xml => ("text/xml; charset=utf-8", xml(entries)),
        ListingForm::Json => ("application/json", json(entries)),
        ListingForm::Jsonp => {
            Value::variable(Variable::Arg("callback".into())).write(exchange, &mut scratch);
            if scratch.is_empty() {
                return Some(("application/json", json(entries)));
            }
            if !is_function(&scratch) {
                return None;
            }
            let call = [b"/* callback */\r\n", &*scratch, b"(", &*json(entries), b");"].concat();
            ("application/javascript", call)
        }
    })
}

/// Whether a name can be nothing but that of a function.
fn is_function(name: &[u8]) -> bool {
    name.len() <= 128 && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

/// In what characters names are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Characters {
    Bytes,
    Utf8,
}

/// Writes a directory for people, with times of clocks that are so many seconds ahead of UTC.
fn html(path: &[u8], entries: &[Entry], sizes: Sizes, ahead: i64, characters: Characters) -> Vec<u8> {
    let mut out = b"<html>\r\n<head><title>Index of ".to_vec();
    escape_html(path, &mut out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape_html(path, &mut out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for entry in entries {
        let directory = entry.kind == Kind::Directory;
        out.extend_from_slice(b"<a href=\"");
        escape_uri(&entry.name, &mut out);
        out.extend_from_slice(if directory { b"/\">" } else { b"\">" });
        let (shown, width) = shorten(&entry.name, characters);
        escape_html(shown, &mut out);
        let slash = directory && width < NAME_MAX;
        let mut width = width;
        if shown.len() < entry.name.len() {
            out.extend_from_slice(b"..&gt;");
            width = NAME_MAX;
        } else if slash {
            out.push(b'/');
            width += 1;
        }
        out.extend_from_slice(b"</a>");
        out.resize(out.len() + NAME_MAX + 1 - width, b' ');
        date::write_listing(entry.modified, ahead, &mut out);
        let size = match sizes {
            _ if directory => "-".to_owned(),
            Sizes::Exact => entry.size.to_string(),
            Sizes::Rounded => rounded(entry.size),
        };
        let width = if sizes == Sizes::Exact { 19 } else { 7 };
        // Writing to a Vec cannot fail.
        _ = write!(out, " {size:>width$}\r\n");
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
    out
}

/// Writes a directory for programs.
fn json(entries: &[Entry]) -> Vec<u8> {
    let mut out = b"[".to_vec();
    for (place, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"\r\n" } else { b",\r\n" });
        out.extend_from_slice(b"{ \"name\":\"");
        escape_json(&entry.name, &mut out);
        let kind = entry.kind.name();
        let modified = date::http(entry.modified);
        // Writing to a Vec cannot fail.
        _ = write!(out, "\", \"type\":\"{kind}\", \"mtime\":\"{modified}\"");
        if entry.kind == Kind::File {
            _ = write!(out, ", \"size\":{}", entry.size);
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
    out
}

fn xml(entries: &[Entry]) -> Vec<u8> {
    let mut out = b"<?xml version=\"1.0\"?>\r\n<list>\r\n".to_vec();
    for entry in entries {
        let kind = entry.kind.name();
        // Writing to a Vec cannot fail.
        _ = write!(out, "<{kind} mtime=\"");
        date::write_utc(entry.modified, &mut out);
        out.push(b'"');
        if entry.kind == Kind::File {
            _ = write!(out, " size=\"{}\"", entry.size);
        }
        out.push(b'>');
        escape_html(&entry.name, &mut out);
        _ = write!(out, "</{kind}>\r\n");
    }
    out.extend_from_slice(b"</list>\r\n");
    out
}

/// The most characters of a name that are shown.
const NAME_MAX: usize = 50;

/// Returns what is shown of a name, and how many characters that is.
fn shorten(name: &[u8], characters: Characters) -> (&[u8], usize) {
    let ends: Vec<usize> = match (characters, std::str::from_utf8(name)) {
        (Characters::Utf8, Ok(text)) => {
            text.char_indices().map(|(start, char)| start + char.len_utf8()).collect()
        }
        _ => (1..=name.len()).collect(),
    };
    match ends.len() {
        count if count > NAME_MAX => (&name[..ends[NAME_MAX - "..>".len() - 1]], NAME_MAX),
        count => (name, count),
    }
}

/// Returns a size in the largest unit that it is some of.
fn rounded(size: u64) -> String {
    let units = [(1 << 30, (1 << 30) - 1, 'G'), (1 << 20, (1 << 20) - 1, 'M'), (1 << 10, 9999, 'K')];
    match units.iter().find(|&&(_, most, _)| size > most) {
        None => size.to_string(),
        Some(&(unit, _, letter)) => {
            let up = u64::from(size % unit > unit / 2 - 1);
            format!("{}{letter}", size / unit + up)
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Other => "other",
        }
    }
}

fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(byte),
        }
    }
}

/// Writes everything as `%XX` but letters, digits and `-._~`.
fn escape_uri(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            // Writing to a Vec cannot fail.
            _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Writes text as inside a JSON string; bytes that are no UTF-8 stay as they are, as the name of the file
/// is what they say.
fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            // Writing to a Vec cannot fail.
            ..=0x1f => _ = write!(out, "\\u{byte:04X}"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_their_unit() {
        for (size, expected) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10K"),
            (20_000, "20K"),
            (1_048_575, "1024K"),
            (1_048_576, "1M"),
            (1_572_863, "1M"),
            (1_572_864, "2M"),
            (1 << 30, "1G"),
            (1_099_511_627_776, "1024G"),
        ] {
            assert_eq!(rounded(size), expected, "{size}");
        }
    }

    #[test]
    fn long_names_are_shortened_by_what_their_characters_are() {
        let name = "é".repeat(30);
        assert_eq!(shorten(name.as_bytes(), Characters::Utf8), (name.as_bytes(), 30));
        assert_eq!(shorten(name.as_bytes(), Characters::Bytes), (&name.as_bytes()[..47], 50));
        assert_eq!(shorten(&[b'x'; 50], Characters::Bytes), (&[b'x'; 50][..], 50));
        let broken = [0xff; 51];
        assert_eq!(shorten(&broken, Characters::Utf8), (&broken[..47], 50));
    }
}
