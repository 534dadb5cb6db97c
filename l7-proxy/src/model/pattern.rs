//! Regular expressions, as a configuration writes them for PCRE.
//!
//! What can be matched in linear time is, whatever the subject. Look-around and back-references
//! cannot, and go to an engine that tries and goes back, for a bounded number of steps: a client
//! chooses the subject.

mod spelling;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use fancy_regex::BytesMode;
use tracing::error;

use self::spelling::{Linear, Spelled, Unit, spell};

/// A regular expression as written and as compiled; matched against bytes.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    /// In time that grows with the subject's length.
    Linear(regex::bytes::Regex),
    /// With steps back, of which there is a limit.
    Backtracking(Arc<fancy_regex::Regex>),
}

/// Why a regular expression cannot be used.
#[derive(Debug, Clone)]
pub struct PatternError {
    /// What is wrong, in one line.
    pub reason: String,
}

/// Whether a subject matches was not found out within the limit of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GaveUp;

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
    /// If it is malformed, uses what the engines lack (recursion, callouts), or compiles to more
    /// than 10 MB.
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
        let spelled = spell(source).map_err(|reason| PatternError { reason })?;
        let pattern = |engine| Self { source: source.to_owned(), engine };
        let linear = match spelled.linear {
            Linear::Fits => linear(&spelled, case).map(Engine::Linear),
            Linear::Misleads => Err(None),
        };
        match linear {
            Ok(engine) => Ok(pattern(engine)),
            Err(reason) => match (backtracking(&spelled, case), reason) {
                (Ok(engine), _) => Ok(pattern(Engine::Backtracking(Arc::new(engine)))),
                // The one that knows more says more of what only it knows.
                (Err(_), Some(reason)) if !reason.contains(BEYOND_LINEAR) => Err(PatternError { reason }),
                (Err(reason), _) => Err(PatternError { reason }),
            },
        }
    }

    /// Returns the expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns whether a text matches; if that cannot be found out, it does not, and that is logged.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.find(subject, |_| {}).unwrap_or(false)
    }

    /// Returns the names of its groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (linear, backtracking) = match &self.engine {
            Engine::Linear(regex) => (Some(regex.capture_names()), None),
            Engine::Backtracking(regex) => (None, Some(regex.capture_names())),
        };
        linear.into_iter().flatten().chain(backtracking.into_iter().flatten()).flatten()
    }

    /// Returns whether a text matches; if so, its groups are handed over in their order, the whole match
    /// first, which is the only one where an expression has no group.
    ///
    /// # Errors
    /// It took too many steps to find out; that is logged.
    pub(crate) fn find(&self, subject: &[u8], mut take: impl FnMut(Group<'_>)) -> Result<bool, GaveUp> {
        match &self.engine {
            // Most expressions have no group, and then finding a match is all that is needed.
            Engine::Linear(regex) if regex.captures_len() == 1 => {
                let matched = regex.is_match(subject);
                if matched {
                    take(Group { number: 0, name: None, range: None });
                }
                Ok(matched)
            }
            Engine::Linear(regex) => {
                let Some(found) = regex.captures(subject) else { return Ok(false) };
                for (number, (name, group)) in regex.capture_names().zip(found.iter()).enumerate() {
                    take(Group { number, name, range: group.map(|group| group.range()) });
                }
                Ok(true)
            }
            Engine::Backtracking(regex) => match regex.captures(subject) {
                Ok(None) => Ok(false),
                Ok(Some(found)) => {
                    for (number, name) in regex.capture_names().enumerate() {
                        take(Group { number, name, range: found.get(number).map(|group| group.range()) });
                    }
                    Ok(true)
                }
                Err(reason) => {
                    let subject = subject.escape_ascii();
                    error!("matching \"{}\" failed ({reason}) on \"{subject}\"", self.source);
                    Err(GaveUp)
                }
            },
        }
    }
}

/// One group of an expression that matched.
pub(crate) struct Group<'a> {
    pub(crate) number: usize,
    pub(crate) name: Option<&'a str>,
    /// Where in the subject it is; nowhere if it had no part in the match.
    pub(crate) range: Option<Range<usize>>,
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

fn linear(spelled: &Spelled, case: Case) -> Result<regex::bytes::Regex, Option<String>> {
    let mut builder = regex::bytes::RegexBuilder::new(&spelled.text);
    builder.case_insensitive(case == Case::Ignored).size_limit(SIZE_MAX);
    // Without unicode a `.` is one byte, as in a PCRE that was not told otherwise.
    builder.unicode(spelled.unit == Unit::Characters).build().map_err(|error| {
        // The crate draws the pattern over several lines; the last line says what is wrong.
        let text = error.to_string();
        Some(text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned())
    })
}

fn backtracking(spelled: &Spelled, case: Case) -> Result<fancy_regex::Regex, String> {
    let mut builder = fancy_regex::RegexBuilder::new(&spelled.text);
    builder.case_insensitive(case == Case::Ignored).delegate_size_limit(SIZE_MAX).backtrack_limit(STEPS_MAX);
    let mode = match spelled.unit {
        Unit::Bytes => BytesMode::Ascii,
        Unit::Characters => BytesMode::UnicodeBytes,
    };
    builder.bytes_mode(mode).build().map_err(|error| error.to_string())
}

/// What the linear engine says of all that only the other has.
const BEYOND_LINEAR: &str = "not supported";

/// How large an expression may become.
const SIZE_MAX: usize = 10 << 20;

/// How often an expression may go back; PCRE's own limit is ten times that. It bounds steps, not time: with a
/// subject of 8 kB 15 to 90 ms of a processor were measured until expressions gave up, and 7 s for
/// `(?:(?=.*x).)*y`, in which each step looks through all that follows.
const STEPS_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, matches: &[&str], others: &[&str]) {
        let pattern = Pattern::new(source).unwrap();
        for text in matches {
            assert!(pattern.is_match(text.as_bytes()), "{source} {text}");
        }
        for text in others {
            assert!(!pattern.is_match(text.as_bytes()), "{source} {text}");
        }
    }

    #[test]
    fn quoted_text_stands_for_itself() {
        check(r"^\Qa.b*\E$", &["a.b*"], &["axbb"]);
        check(r"^a\.\Qb+", &["a.b+"], &[]);
        check(r"^\\Q", &[r"\Q"], &[]);
    }

    #[test]
    fn class_of_unicode_is_known_among_bytes() {
        check(r"^a\p{N}+$", &["a42"], &[]);
        check(r"^a\PN$", &[], &["a4"]);
        check(r"^[\p{L}_]+$", &["a_B"], &["4"]);
    }

    #[test]
    fn look_around_and_references_are_known() {
        check(r"/\.(?!well-known).*", &["/.git/config", "/a/.ht"], &["/.well-known/x", "/a"]);
        check(r"(?<!\.min)\.js$", &["/a.js"], &["/a.min.js"]);
        check(r"^(?=.*x)a", &["abx"], &["ab"]);
        check(r"^(.)\1$", &["aa"], &["ab"]);
        check(r"^(?>a+)b", &["aab"], &["aac"]);
        check(r"^a++a", &[], &["aaa"]);
        check(r"^[ab]{2,}+c", &["abc"], &["ac"]);
    }

    #[test]
    fn brackets_hold_what_they_hold_in_pcre() {
        check(r"^[\w.-]+$", &["a-b.c"], &["a+b"]);
        check(r"^[a-z-_]+$", &["a-_"], &["A"]);
        check(r"^[\w-]$", &["a", "-"], &["+"]);
        check(r"^[-\w]$", &["a", "-"], &["+"]);
        check(r"^[^[]$", &["a"], &["["]);
        check(r"^[&&a~~]$", &["&", "~", "a"], &["b"]);
        check(r"^[]a]$", &["]", "a"], &["b"]);
        check(r"^[[:alpha:]-]+$", &["a-Z"], &["1"]);
        check(r"^[a\]b]$", &["]"], &["\\"]);
        check(r"^[+--]$", &["+", ",", "-"], &["*", "."]);
        check(r"^[\H]$", &["a", "g"], &[" ", "\t"]);
        check(r"^[\v-]\v\V$", &["\r\x0bx", "-\nx"], &["v\nx", "\rnx", "\r\n\n"]);
        check(r"^[\Vx](?!y)$", &["a"], &["\n"]);
    }

    #[test]
    fn range_that_pcre_does_not_take_is_refused() {
        for (source, at) in [
            (r"[\w-.]", "-.]"),
            (r"a[\w-a]b", "-a]b"),
            (r"[\d-\w]", r"-\w]"),
            (r"[a-\d]", r"-\d]"),
            (r"[[:alpha:]-z]", "-z]"),
            (r"[a-[:digit:]]", "-[:digit:]]"),
            (r"[\h-x]", "-x]"),
            (r"[\pL-a]", "-a]"),
            (r"(*UTF8)[\p{L}-a]", "-a]"),
        ] {
            let reason = Pattern::new(source).unwrap_err().reason;
            assert_eq!(reason, format!("invalid range in character class at \"{at}\""), "{source}");
        }
    }

    #[test]
    fn braces_that_count_nothing_stand_for_themselves() {
        check(r"^{a}$", &["{a}"], &[]);
        check(r"^a{2}$", &["aa"], &["a{2}"]);
        check(r"^\x{61}\<\>\/\_$", &["a<>/_"], &[]);
    }

    #[test]
    fn bytes_are_matched_unless_characters_are_asked_for() {
        let matches = |source: &str| Pattern::new(source).unwrap().is_match("ä".as_bytes());
        assert!(matches("^..$") && !matches("^.$") && matches("(*UTF8)^.$"));
        assert!(matches("^..(?!x)$") && matches("(*UTF8)^.(?!x)$"));
        assert!(Pattern::new("^(?!x).$").unwrap().is_match(b"\xff"));
    }

    #[test]
    fn expression_that_goes_back_and_back_is_given_up() {
        let pattern = Pattern::new(r"^(?:(a|aa)+(?!b))+\1$").unwrap();
        let text = "a".repeat(200) + "c";
        assert_eq!(pattern.find(text.as_bytes(), |_| {}), Err(GaveUp));
    }

    #[test]
    fn names_of_groups_are_known_to_both_engines() {
        for source in ["(?<a>x)(?P<b>y)", "(?<a>x)(?P<b>y)(?!z)"] {
            let pattern = Pattern::new(source).unwrap();
            assert_eq!(pattern.names().collect::<Vec<_>>(), ["a", "b"]);
            let mut found = Vec::new();
            pattern.find(b"_xy", |group| found.push((group.name.map(str::to_owned), group.range))).unwrap();
            let name = |name: &str| Some(name.to_owned());
            assert_eq!(found, [(None, Some(1..3)), (name("a"), Some(1..2)), (name("b"), Some(2..3))]);
        }
    }

    #[test]
    fn malformed_expression_is_refused() {
        for source in ["(", "[a", "a**b(?!", "*", "(?<n>a)(?<n>b)(?!c)(", r"\9"] {
            assert!(Pattern::new(source).is_err(), "{source}");
        }
    }
}
