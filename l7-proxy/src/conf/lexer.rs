//! nginx's tokens: words, quoted or not, up to a `;`, `{` or `}`.
//!
//! A word in quotes ends at the same quote, any other at a blank, `;` or `{`; `${` does not start a
//! block. A backslash keeps the next character from meaning anything, and disappears only before a
//! quote, a backslash, or the `t`, `r`, `n` of a control character: `\.jsp$` stays what it is.

/// What stands next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// Words and what ended them; the line is that of the end, as nginx counts.
    Words { words: Vec<String>, end: End, line: usize },
    /// A `}`.
    BlockEnd { line: usize },
    /// Nothing more.
    FileEnd { line: usize },
}

/// What ended the words of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// `;`
    Semicolon,
    /// `{`
    Brace,
}

/// A fault of a file's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) message: String,
    pub(super) line: usize,
}

/// Splits the text of a file into statements.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

/// nginx's buffer, which a word and what ends it must fit into. One that does not likely lacks a quote.
const BUFFER: usize = 4096;

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        // Editors of other systems put a mark in front of UTF-8.
        Self { text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), at: 0, line: 1 }
    }

    /// Returns the next statement.
    pub(super) fn next(&mut self) -> Result<Statement, Malformed> {
        let mut words: Vec<String> = Vec::new();
        loop {
            self.skip_blanks();
            let Some(byte) = self.peek() else {
                return if words.is_empty() {
                    Ok(Statement::FileEnd { line: self.line })
                } else {
                    Err(self.end_of_file())
                };
            };
            match byte {
                b';' | b'{' if words.is_empty() => return Err(self.unexpected(byte)),
                b'}' if !words.is_empty() => return Err(self.unexpected(byte)),
                b'}' => {
                    self.at += 1;
                    return Ok(Statement::BlockEnd { line: self.line });
                }
                b';' | b'{' => {
                    self.at += 1;
                    let end = if byte == b';' { End::Semicolon } else { End::Brace };
                    return Ok(Statement::Words { words, end, line: self.line });
                }
                quote @ (b'"' | b'\'') => words.push(self.quoted(quote)?),
                _ => words.push(self.bare()?),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => self.line += 1,
                b'#' => {
                    let rest = &self.text[self.at..];
                    // The line's end is counted on the next round.
                    self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                    continue;
                }
                byte if is_blank(byte) => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Reads a word in quotes; after the closing one must come something that ends a word.
    fn quoted(&mut self, quote: u8) -> Result<String, Malformed> {
        let first_line = self.line;
        self.at += 1;
        let start = self.at;
        loop {
            let Some(byte) = self.take() else { return Err(self.end_of_file()) };
            if byte == b'\\' {
                self.take();
            } else if byte == quote {
                break;
            }
            if self.at - start >= BUFFER {
                let quote = char::from(quote);
                let message =
                    format!("too long parameter, probably missing terminating \"{quote}\" character");
                return Err(Malformed { message, line: first_line });
            }
        }
        if self.at - start == BUFFER {
            return Err(self.too_long(start));
        }
        let word = self.word(start, self.at - 1)?;
        match self.peek() {
            None | Some(b';' | b'{' | b')') => Ok(word),
            Some(byte) if is_blank(byte) => Ok(word),
            Some(byte) => Err(self.unexpected(byte)),
        }
    }

    /// Reads a word without quotes.
    fn bare(&mut self) -> Result<String, Malformed> {
        let start = self.at;
        let mut before = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => {
                    self.take();
                    self.take();
                }
                b'{' if before == b'$' => self.at += 1,
                b';' | b'{' => break,
                byte if is_blank(byte) => break,
                _ => self.at += 1,
            }
            before = byte;
            if self.at - start >= BUFFER {
                return Err(self.too_long(start));
            }
        }
        if self.at >= self.text.len() {
            return Err(self.end_of_file());
        }
        self.word(start, self.at)
    }

    /// Takes one byte and counts lines.
    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    /// Returns a piece of the text with its escapes undone.
    fn word(&self, start: usize, end: usize) -> Result<String, Malformed> {
        let raw = &self.text[start..end];
        let mut word = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                word.push(byte);
                continue;
            }
            match bytes.next() {
                Some(quoted @ (b'"' | b'\'' | b'\\')) => word.push(quoted),
                Some(b't') => word.push(b'\t'),
                Some(b'r') => word.push(b'\r'),
                Some(b'n') => word.push(b'\n'),
                Some(other) => word.extend([b'\\', other]),
                None => word.push(b'\\'),
            }
        }
        String::from_utf8(word).map_err(|error| {
            let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Malformed { message: format!("parameter \"{shown}\" is not UTF-8"), line: self.line }
        })
    }

    fn too_long(&self, start: usize) -> Malformed {
        let shown = String::from_utf8_lossy(&self.text[start..start + 10]).into_owned();
        Malformed { message: format!("too long parameter \"{shown}...\" started"), line: self.line }
    }

    fn unexpected(&self, byte: u8) -> Malformed {
        let shown = byte.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
        Malformed { message: format!("unexpected \"{shown}\""), line: self.line }
    }

    fn end_of_file(&self) -> Malformed {
        Malformed { message: END_OF_FILE.to_owned(), line: self.line }
    }
}

/// What is said of a file that ends within a directive.
pub(super) const END_OF_FILE: &str = "unexpected end of file, expecting \";\" or \"}\"";

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::{End, Lexer, Statement};

    /// Shows each statement in brackets, the words split by bars.
    fn lex(text: &str) -> String {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut shown = String::new();
        loop {
            match lexer.next() {
                Ok(Statement::Words { words, end, line }) => {
                    let end = if end == End::Semicolon { ';' } else { '{' };
                    shown += &format!("{line}[{}]{end} ", words.join("|"));
                }
                Ok(Statement::BlockEnd { line }) => shown += &format!("{line}}} "),
                Ok(Statement::FileEnd { .. }) => return shown.trim_end().to_owned(),
                Err(error) => return format!("{shown}{}: {}", error.line, error.message),
            }
        }
    }

    #[test]
    fn words_end_where_nginx_ends_them() {
        for (text, expected) in [
            ("a b;", "1[a|b];"),
            ("a\n b\n;c{d;}", "3[a|b]; 3[c]{ 3[d]; 3}"),
            ("a \"b c\" 'd;e{';", "1[a|b c|d;e{];"),
            ("a \"b\"{}", "1[a|b]{ 1}"),
            ("# x; {\na; # y\n", "2[a];"),
            ("a b#c;", "1[a|b#c];"),
            ("a b\"c\";", "1[a|b\"c\"];"),
            ("a $b${c}d;", "1[a|$b${c}d];"),
            ("a ${b};", "1[a|${b}];"),
            ("location ~ \\.jsp$ { }", "1[location|~|\\.jsp$]{ 1}"),
            ("location ~ ^/\\d\\{3\\} {", "1[location|~|^/\\d\\{3\\}]{"),
            ("a b}c;", "1[a|b}c];"),
            (r#"a "\"\\\t\.\$" b\ c \';"#, "1[a|\"\\\t\\.\\$|b\\ c|'];"),
            ("a '';", "1[a|];"),
            ("a\r\n;\r\n", "2[a];"),
            ("\u{feff}a;", "1[a];"),
            ("a \"x\ny\";", "2[a|x\ny];"),
            ("", ""),
        ] {
            assert_eq!(lex(text), expected, "{text:?}");
        }
    }

    #[test]
    fn broken_text_is_named_with_its_line() {
        for (text, expected) in [
            (";", "1: unexpected \";\""),
            ("\n{", "2: unexpected \"{\""),
            ("a }", "1: unexpected \"}\""),
            ("a \"b\"c;", "1: unexpected \"c\""),
            ("a", "1: unexpected end of file, expecting \";\" or \"}\""),
            ("a;\nb c", "1[a]; 2: unexpected end of file, expecting \";\" or \"}\""),
            ("a 'b;\n", "2: unexpected end of file, expecting \";\" or \"}\""),
            ("a \\", "1: unexpected end of file, expecting \";\" or \"}\""),
        ] {
            assert_eq!(lex(text), expected, "{text:?}");
        }
        let long = "x".repeat(5000);
        let missing = "\n: too long parameter, probably missing terminating \"'\" character";
        assert_eq!(lex(&format!("\na '\n{long}")), format!("2{}", &missing[1..]));
        assert_eq!(lex(&format!("a {long}")), "1: too long parameter \"xxxxxxxxxx...\" started");
    }
}
