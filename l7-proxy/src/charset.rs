//! Texts from one character set into another (`charset_map`).
//!
//! A map is between a set of one byte per character and another such set, or UTF-8, and is good for both ways.
//! What the other set has not becomes `?`, or out of UTF-8 a reference of HTML (`&#8364;`); so nginx does it.
//! Characters of ASCII are themselves unless a row says otherwise.

use std::sync::Arc;

/// The character sets that a configuration names, and the maps between them.
#[derive(Debug, Clone, Default)]
pub struct Charsets {
    names: Vec<Box<str>>,
    maps: Vec<Map>,
}

#[derive(Debug, Clone)]
struct Map {
    from: CharsetId,
    to: CharsetId,
    recoding: Arc<Recoding>,
}

/// The place of a character set among those of its [`Charsets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CharsetId(usize);

impl Charsets {
    /// Takes a name down; names have no case.
    pub fn know(&mut self, name: &str) -> CharsetId {
        self.find(name.as_bytes()).unwrap_or_else(|| {
            self.names.push(name.into());
            CharsetId(self.names.len() - 1)
        })
    }

    /// Returns the character set of this name, if the configuration has it.
    pub fn find(&self, name: &[u8]) -> Option<CharsetId> {
        self.names.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name)).map(CharsetId)
    }

    /// Returns the name as it was written first.
    pub fn name(&self, id: CharsetId) -> &str {
        self.names.get(id.0).map_or("", |name| name)
    }

    /// Defines the map between two sets, for both ways.
    pub fn define(&mut self, from: CharsetId, to: CharsetId, rows: Rows) {
        let (there, back) = rows.into_recodings();
        self.maps.push(Map { from, to, recoding: Arc::new(there) });
        self.maps.push(Map { from: to, to: from, recoding: Arc::new(back) });
    }

    /// Returns how texts of one set become texts of another, if there is a map.
    pub fn between(&self, from: CharsetId, to: CharsetId) -> Option<&Arc<Recoding>> {
        self.maps.iter().find(|map| map.from == from && map.to == to).map(|map| &map.recoding)
    }
}

/// Whether a name is that of UTF-8.
pub fn is_utf8(name: &str) -> bool {
    name.eq_ignore_ascii_case("utf-8")
}

/// The rows of a map.
#[derive(Debug)]
pub enum Rows {
    /// To another set of one byte per character.
    Bytes {
        /// What each byte becomes.
        there: Box<[u8; 256]>,
        /// And the other way.
        back: Box<[u8; 256]>,
    },
    /// To UTF-8.
    Utf8 {
        /// What each byte becomes.
        there: Vec<Sequence>,
        /// And the other way, in pages of 256 characters.
        back: Pages,
    },
}

/// A character of UTF-8, of three bytes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    bytes: [u8; 3],
    length: u8,
}

/// Bytes for characters, in pages of 256; 0 is none.
pub type Pages = Vec<Option<Box<[u8; 256]>>>;

impl Rows {
    /// Returns those of a map without rows to a set of one byte per character.
    pub fn of_bytes() -> Rows {
        let mut table = [b'?'; 256];
        for byte in 0..128 {
            table[usize::from(byte)] = byte;
        }
        Rows::Bytes { there: Box::new(table), back: Box::new(table) }
    }

    /// Returns those of a map without rows to UTF-8.
    pub fn of_utf8() -> Rows {
        let one = |byte: u8| Sequence { bytes: [byte, 0, 0], length: 1 };
        let there = (0..=255).map(|byte| one(if byte < 128 { byte } else { b'?' })).collect();
        let mut back: Pages = vec![None; 256];
        let mut first = [0; 256];
        for byte in 0..128 {
            first[usize::from(byte)] = byte;
        }
        back[0] = Some(Box::new(first));
        Rows::Utf8 { there, back }
    }

    /// Adds a row; `None` if the second column is none of a map like this.
    pub fn add(&mut self, from: u8, to: &[u8]) -> Option<()> {
        match self {
            Rows::Bytes { there, back } => {
                let &[to] = to else { return None };
                there[usize::from(from)] = to;
                back[usize::from(to)] = from;
            }
            Rows::Utf8 { there, back } => {
                let mut bytes = [0; 3];
                bytes.get_mut(..to.len())?.copy_from_slice(to);
                let Decoded::Character(character, _) = decode(to) else { return None };
                let character = u16::try_from(character).ok()?;
                let length = u8::try_from(to.len()).ok()?;
                *there.get_mut(usize::from(from))? = Sequence { bytes, length };
                let page = back.get_mut(usize::from(character >> 8))?;
                page.get_or_insert_with(|| Box::new([0; 256]))[usize::from(character & 0xff)] = from;
            }
        }
        Some(())
    }

    fn into_recodings(self) -> (Recoding, Recoding) {
        match self {
            Rows::Bytes { there, back } => (Recoding::Bytes(there), Recoding::Bytes(back)),
            Rows::Utf8 { there, back } => (Recoding::ToUtf8(there), Recoding::FromUtf8(back)),
        }
    }
}

/// How texts of one set become texts of another.
#[derive(Debug, PartialEq, Eq)]
pub enum Recoding {
    /// Byte by byte.
    Bytes(Box<[u8; 256]>),
    /// Each byte becomes a character of UTF-8.
    ToUtf8(Vec<Sequence>),
    /// Each character of UTF-8 becomes a byte.
    FromUtf8(Pages),
}

impl Recoding {
    /// Whether a text has the same size afterwards.
    pub fn keeps_size(&self) -> bool {
        matches!(self, Recoding::Bytes(_))
    }
}

/// One text on its way into another character set, piece by piece.
#[derive(Debug)]
pub struct Recoder {
    recoding: Arc<Recoding>,
    /// The beginning of a character that is not whole yet.
    held: Vec<u8>,
}

impl Recoder {
    /// Returns one at the beginning of a text.
    pub fn new(recoding: Arc<Recoding>) -> Recoder {
        Recoder { recoding, held: Vec::new() }
    }

    /// Whether the text has the same size afterwards.
    pub fn keeps_size(&self) -> bool {
        self.recoding.keeps_size()
    }

    /// Returns what a piece becomes. A character that the text ends in the middle of is lost.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        match &*self.recoding {
            Recoding::Bytes(table) => piece.iter().map(|&byte| table[usize::from(byte)]).collect(),
            Recoding::ToUtf8(table) => {
                let mut out = Vec::with_capacity(piece.len() * 2);
                for &byte in piece {
                    if let Some(Sequence { bytes, length }) = table.get(usize::from(byte)) {
                        out.extend_from_slice(bytes.get(..usize::from(*length)).unwrap_or_default());
                    }
                }
                out
            }
            Recoding::FromUtf8(pages) => {
                let mut text = std::mem::take(&mut self.held);
                text.extend_from_slice(piece);
                let mut out = Vec::with_capacity(text.len());
                let rest = from_utf8(pages, &text, &mut out);
                self.held = text[rest..].to_vec();
                out
            }
        }
    }
}

/// Writes what a text of UTF-8 becomes; returns where the character begins that it ends in the middle of.
fn from_utf8(pages: &Pages, text: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte < 0x80 {
            out.push(byte);
            at += 1;
            continue;
        }
        match decode(&text[at..]) {
            Decoded::Character(character, length) => {
                at += length;
                let page = usize::try_from(character >> 8).ok().and_then(|page| pages.get(page)?.as_deref());
                match page.map(|page| page[(character & 0xff) as usize]) {
                    Some(byte) if byte != 0 => out.push(byte),
                    _ if character > 0x10_ffff => out.push(b'?'),
                    _ => out.extend_from_slice(format!("&#{character};").as_bytes()),
                }
            }
            Decoded::Invalid(length) => {
                at += length;
                out.push(b'?');
            }
            Decoded::Incomplete => break,
        }
    }
    at
}

/// What stands at the beginning of a text of UTF-8.
enum Decoded {
    /// A character of so many bytes.
    Character(u32, usize),
    /// So many bytes that are none.
    Invalid(usize),
    /// The beginning of one.
    Incomplete,
}

/// Reads a character as nginx does: what is out of place in it goes with it.
fn decode(text: &[u8]) -> Decoded {
    let Some(&first) = text.first() else { return Decoded::Incomplete };
    let (bits, length, least) = match first {
        0xf0..=0xf7 => (first & 0x07, 4, 0x1_0000),
        0xe0..=0xef => (first & 0x0f, 3, 0x800),
        0xc2..=0xdf => (first & 0x1f, 2, 0x80),
        _ => return Decoded::Invalid(1),
    };
    if text.len() < length {
        return Decoded::Incomplete;
    }
    let mut character = u32::from(bits);
    for (place, &byte) in text[..length].iter().enumerate().skip(1) {
        if byte < 0x80 {
            return Decoded::Invalid(place + 1);
        }
        character = character << 6 | u32::from(byte & 0x3f);
    }
    if character < least { Decoded::Invalid(length) } else { Decoded::Character(character, length) }
}

/// Splits the type of an answer into what stands before its character set, and that, if it has one.
pub(crate) fn split(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut semicolons = memchr::memchr_iter(b';', value);
    let found = semicolons.find(|&semicolon| {
        let parameter = value[semicolon + 1..].trim_ascii_start();
        parameter.get(..CHARSET.len()).is_some_and(|start| start.eq_ignore_ascii_case(CHARSET))
    });
    match found {
        Some(semicolon) => {
            let name = value[semicolon + 1..].trim_ascii_start().get(CHARSET.len()..).unwrap_or_default();
            let name = name.strip_prefix(b"\"").map_or(name, |rest| rest.strip_suffix(b"\"").unwrap_or(rest));
            (value[..semicolon].trim_ascii_end(), Some(name))
        }
        None => (value, None),
    }
}

const CHARSET: &[u8] = b"charset=";

#[cfg(test)]
mod tests {
    use super::*;

    fn koi8() -> Charsets {
        let mut charsets = Charsets::default();
        let (koi8, utf8, windows) =
            (charsets.know("koi8-r"), charsets.know("utf-8"), charsets.know("windows-1251"));
        let mut rows = Rows::of_utf8();
        rows.add(0xc1, "а".as_bytes()).unwrap();
        rows.add(0xc2, "б".as_bytes()).unwrap();
        rows.add(0x80, "€".as_bytes()).unwrap();
        charsets.define(koi8, utf8, rows);
        let mut rows = Rows::of_bytes();
        rows.add(0xc1, &[0xe0]).unwrap();
        charsets.define(koi8, windows, rows);
        charsets
    }

    #[track_caller]
    fn check(from: &str, to: &str, text: &[u8], expected: &[u8]) {
        let charsets = koi8();
        let [from, to] = [from, to].map(|name| charsets.find(name.as_bytes()).unwrap());
        let recoding = charsets.between(from, to).unwrap();
        // Wherever it is cut.
        for cut in 0..=text.len() {
            let mut recoder = Recoder::new(Arc::clone(recoding));
            let found = [recoder.push(&text[..cut]), recoder.push(&text[cut..])].concat();
            assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string(), "cut at {cut}");
        }
    }

    #[test]
    fn maps_are_good_for_both_ways() {
        check("koi8-r", "UTF-8", b"a\xc1\xc2\x80z", "aаб€z".as_bytes());
        check("utf-8", "koi8-r", "aаб€z".as_bytes(), b"a\xc1\xc2\x80z");
        check("koi8-r", "windows-1251", b"a\xc1", b"a\xe0");
        check("windows-1251", "koi8-r", b"a\xe0", b"a\xc1");
        let charsets = koi8();
        let [windows, utf8] = ["windows-1251", "utf-8"].map(|name| charsets.find(name.as_bytes()).unwrap());
        assert_eq!(charsets.between(windows, utf8), None);
    }

    #[test]
    fn what_the_other_set_has_not_is_told() {
        check("koi8-r", "utf-8", b"\xff", b"?");
        check("koi8-r", "windows-1251", b"\xff", b"?");
        check("utf-8", "koi8-r", "ц😀".as_bytes(), b"&#1094;&#128512;");
    }

    #[test]
    fn what_is_no_utf8_is_a_question_mark() {
        for (text, expected) in [
            (&b"\xffa"[..], &b"?a"[..]),
            (b"\x80a", b"?a"),
            // What is out of place goes along.
            (b"\xd0ab", b"?b"),
            (b"\xe2\x82ab", b"?b"),
            // Too long for what they are.
            (b"\xe0\x80\xafa", b"?a"),
            (b"\xc0\xafa", b"??a"),
            (b"\xf7\xbf\xbf\xbfa", b"?a"),
            // It is not whole.
            (b"a\xd0", b"a"),
            (b"a\xf0\x9f\x98", b"a"),
        ] {
            check("utf-8", "koi8-r", text, expected);
        }
    }

    #[test]
    fn character_set_is_told_from_other_parameters() {
        for (value, expected) in [
            ("text/html", ("text/html", None)),
            ("text/html;charset=utf-8", ("text/html", Some("utf-8"))),
            ("text/html; a=b; Charset=\"x\"", ("text/html; a=b", Some("x"))),
            ("multipart/mixed; boundary=charset=", ("multipart/mixed; boundary=charset=", None)),
        ] {
            let (before, own) = split(value.as_bytes());
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            assert_eq!((text(before), own.map(text)), expected, "{value}");
        }
    }
}
