//! Regular expressions, as a configuration writes them for PCRE.

use std::borrow::Cow;
use std::fmt;

/// A regular expression as written and as compiled; matched against bytes.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: regex::bytes::Regex,
}

/// Why a regular expression cannot be used.
#[derive(Debug, Clone)]
pub struct PatternError {
    /// What is wrong, in one line.
    pub reason: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles a regular expression that tells upper from lower case.
    ///
    /// # Errors
    /// If it is malformed, or uses what the engine lacks (look-around, back-references), or
    /// compiles to more than 10 MB.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        Self::build(source, Case::Told)
    }

    /// Compiles a regular expression for which `A` and `a` are the same.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn new_ignoring_case(source: &str) -> Result<Self, PatternError> {
        Self::build(source, Case::Ignored)
    }

    fn build(source: &str, case: Case) -> Result<Self, PatternError> {
        let translated = translate(source);
        let mut builder = regex::bytes::RegexBuilder::new(&translated);
        builder.case_insensitive(case == Case::Ignored);
        // Without unicode a `.` is one byte, as in a PCRE that was not told otherwise.
        let regex = builder.unicode(false).size_limit(10 << 20).build().map_err(|error| {
            // The crate draws the pattern over several lines; the last line says what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            PatternError { reason: reason.trim().trim_start_matches("error: ").to_owned() }
        })?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Returns the expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the compiled expression.
    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.regex
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

/// Whether capitals and small letters are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Told,
    Ignored,
}

/// Classes of Unicode as far as bytes have them: those of ASCII, as for a PCRE that was not told that
/// its subject is UTF-8. Each with what is not in it.
const CLASSES: [(&str, &str, &str); 7] = [
    ("L", "[A-Za-z]", "[^A-Za-z]"),
    ("Lu", "[A-Z]", "[^A-Z]"),
    ("Ll", "[a-z]", "[^a-z]"),
    ("N", "[0-9]", "[^0-9]"),
    ("Nd", "[0-9]", "[^0-9]"),
    ("P", "[!-#%-*,-/:;?@\\[-\\]_{}]", "[^!-#%-*,-/:;?@\\[-\\]_{}]"),
    ("Z", "[ ]", "[^ ]"),
];

/// Returns an expression in the engine's spelling: it knows no `\Q…\E`, and no class of Unicode
/// (`\p{N}`) among bytes.
fn translate(source: &str) -> Cow<'_, str> {
    if !["\\Q", "\\p", "\\P"].iter().any(|escape| source.contains(escape)) {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    while let Some(backslash) = rest.find('\\') {
        let (before, escape) = rest.split_at(backslash);
        out.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(text));
            rest = after;
        } else if escape.starts_with("\\p") || escape.starts_with("\\P") {
            let length = match escape.as_bytes().get(2) {
                Some(b'{') => escape.find('}').map_or(escape.len(), |end| end + 1),
                _ => escape.chars().take(3).map(char::len_utf8).sum(),
            };
            let name = escape[2..length].trim_start_matches('{').trim_end_matches('}');
            match CLASSES.iter().find(|(known, ..)| *known == name) {
                Some((_, class, _)) if escape.starts_with("\\p") => out.push_str(class),
                Some((_, _, complement)) => out.push_str(complement),
                // The engine's error names it.
                None => out.push_str(&escape[..length]),
            }
            rest = &escape[length..];
        } else {
            let length: usize = escape.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[track_caller]
    fn check(source: &str, text: &str, expected: bool) {
        let pattern = Pattern::new(source).unwrap();
        assert_eq!(pattern.regex().is_match(text.as_bytes()), expected, "{source} {text}");
    }

    #[test]
    fn quoted_text_stands_for_itself() {
        check(r"^\Qa.b*\E$", "a.b*", true);
        check(r"^\Qa.b*\E$", "axbb", false);
        check(r"^a\.\Qb+", "a.b+", true);
        check(r"^\\Q", r"\Q", true);
    }

    #[test]
    fn class_of_unicode_is_known_among_bytes() {
        check(r"^a\p{N}+$", "a42", true);
        check(r"^a\PN$", "a4", false);
    }
}
