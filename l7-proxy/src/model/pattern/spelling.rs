//! From PCRE's spelling of regular expressions to that of the engines here.
//!
//! Both know the same grammar but for what few expressions use: quoted text, some classes, and what is
//! special inside brackets. An expression that means the same in both is not touched.

/// An expression as the engines spell it.
pub(super) struct Spelled {
    pub(super) text: String,
    /// Whether it is over characters of UTF-8 (`(*UTF8)`); it is over bytes otherwise.
    pub(super) unit: Unit,
    /// Whether the engine of linear time would take it for something else.
    pub(super) linear: Linear,
}

/// What an expression is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Characters,
}

/// Whether the engine of linear time reads an expression as it is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Linear {
    Fits,
    Misleads,
}

/// Spells an expression as the engines do.
///
/// # Errors
/// With what PCRE says of a range that it does not take, though the engines do.
pub(super) fn spell(source: &str) -> Result<Spelled, String> {
    let mut rest = source;
    let mut unit = Unit::Bytes;
    for start in ["(*UTF8)", "(*UTF)", "(*UCP)"] {
        if let Some(after) = rest.strip_prefix(start) {
            (rest, unit) = (after, Unit::Characters);
        }
    }
    let mut speller = Speller {
        out: String::with_capacity(rest.len() + 8),
        rest,
        unit,
        before: Before::Nothing,
        bad: None,
    };
    let linear = speller.run();
    match speller.bad {
        Some(at) => Err(format!("invalid range in character class at \"{at}\"")),
        None => Ok(Spelled { text: speller.out, unit, linear }),
    }
}

struct Speller<'a> {
    out: String,
    rest: &'a str,
    unit: Unit,
    before: Before,
    /// What follows the first range that is none.
    bad: Option<&'a str>,
}

/// What stands before the present place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that could be repeated.
    Nothing,
    /// Something that can be repeated.
    Atom,
    /// How often it is.
    Quantifier,
}

impl<'a> Speller<'a> {
    fn run(&mut self) -> Linear {
        let mut linear = Linear::Fits;
        while let Some(next) = self.rest.chars().next() {
            match next {
                '\\' => {
                    self.escape(Inside::Pattern);
                    self.before = Before::Atom;
                }
                '[' => {
                    self.class();
                    self.before = Before::Atom;
                }
                '{' if quantifier(self.rest).is_none() => {
                    self.skip(1);
                    self.out.push_str("\\{");
                    self.before = Before::Atom;
                }
                '{' => {
                    self.copy(quantifier(self.rest).unwrap_or(1));
                    self.before = Before::Quantifier;
                }
                '+' if self.before == Before::Quantifier => {
                    // "a++" gives nothing back, where the engine of linear time would read "(a+)+".
                    linear = Linear::Misleads;
                    self.copy(1);
                    self.before = Before::Nothing;
                }
                '*' | '+' | '?' => {
                    self.copy(1);
                    self.before = match self.before {
                        Before::Atom => Before::Quantifier,
                        _ => Before::Nothing,
                    };
                }
                '(' | '|' | '^' => {
                    self.copy(1);
                    self.before = Before::Nothing;
                }
                other => {
                    self.copy(other.len_utf8());
                    self.before = Before::Atom;
                }
            }
        }
        linear
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    fn copy(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.out.push_str(taken);
        self.rest = rest;
    }

    /// Spells what begins with a backslash; returns what it stands for.
    fn escape(&mut self, inside: Inside) -> Stands {
        let Some(letter) = self.rest[1..].chars().next() else {
            self.copy(1);
            return Stands::ForOne;
        };
        let instead = match (letter, inside) {
            ('Q', _) => {
                let (text, after) = self.rest[2..].split_once("\\E").unwrap_or((&self.rest[2..], ""));
                self.out.push_str(&regex::escape(text));
                self.rest = after;
                return Stands::ForOne;
            }
            ('E', _) => "",
            ('p' | 'P', _) if self.unit == Unit::Bytes => {
                self.property();
                return Stands::ForMany;
            }
            ('h', Inside::Pattern) => "[ \\t]",
            ('h', Inside::Class) => " \\t",
            // In brackets it is a class in a class, which the engines know.
            ('H', _) => "[^ \\t]",
            ('v', Inside::Pattern) => "[\\n-\\r]",
            ('v', Inside::Class) => "\\n-\\r",
            ('V', _) => "[^\\n-\\r]",
            ('R', Inside::Pattern) => "(?:\\r\\n|[\\n-\\r])",
            ('N', Inside::Pattern) if !self.rest[2..].starts_with('{') => "[^\\n]",
            ('Z', Inside::Pattern) => "(?:\\n?\\z)",
            ('e', _) => "\\x1B",
            ('b', Inside::Class) => "\\x08",
            ('<', _) => "<",
            ('>', _) => ">",
            ('x' | 'o' | 'g' | 'k' | 'p' | 'P' | 'N', _) if self.rest[2..].starts_with('{') => {
                self.copy(self.rest.find('}').map_or(self.rest.len(), |end| end + 1));
                return if matches!(letter, 'p' | 'P') { Stands::ForMany } else { Stands::ForOne };
            }
            _ => {
                self.copy(1 + letter.len_utf8());
                return match letter {
                    'w' | 'W' | 'd' | 'D' | 's' | 'S' => Stands::ForMany,
                    _ => Stands::ForOne,
                };
            }
        };
        self.skip(1 + letter.len_utf8());
        self.out.push_str(instead);
        if matches!(letter, 'h' | 'H' | 'v' | 'V') { Stands::ForMany } else { Stands::ForOne }
    }

    /// Spells a class of Unicode, of which bytes have what is in ASCII.
    fn property(&mut self) {
        let length = match self.rest.as_bytes().get(2) {
            Some(b'{') => self.rest.find('}').map_or(self.rest.len(), |end| end + 1),
            _ => self.rest.chars().take(3).map(char::len_utf8).sum(),
        };
        let name = self.rest[2..length].trim_start_matches('{').trim_end_matches('}');
        match CLASSES.iter().find(|(known, ..)| *known == name) {
            // In brackets it is a class in a class, which the engines know.
            Some((_, class, complement)) => {
                self.out.push_str(if self.rest.starts_with("\\p") { class } else { complement });
                self.skip(length);
            }
            // The engine's error names it.
            None => self.copy(length),
        }
    }

    /// Spells what is in brackets, where PCRE knows fewer special characters.
    fn class(&mut self) {
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        if self.rest.starts_with(']') {
            self.skip(1);
            self.out.push_str("\\]");
        }
        // Whether a range may begin with what came last.
        let mut last = Stands::Apart;
        while let Some(next) = self.rest.chars().next() {
            match next {
                ']' => return self.copy(1),
                '[' => match posix(self.rest) {
                    Some(length) => {
                        self.copy(length);
                        last = Stands::ForMany;
                    }
                    None => {
                        self.literal();
                        last = Stands::ForOne;
                    }
                },
                '&' | '~' => {
                    self.literal();
                    last = Stands::ForOne;
                }
                '-' if self.is_bad_range(last) => {
                    self.bad.get_or_insert(self.rest);
                    self.copy(1);
                    last = Stands::Apart;
                }
                '-' if last == Stands::ForOne && begins_with_one(&self.rest[1..]) => {
                    self.copy(1);
                    // What ends the range begins none.
                    match self.rest.chars().next() {
                        Some('\\') => drop(self.escape(Inside::Class)),
                        Some('[' | '&' | '~' | '-') => self.literal(),
                        Some(other) => self.copy(other.len_utf8()),
                        None => {}
                    }
                    last = Stands::Apart;
                }
                '-' => {
                    self.literal();
                    last = Stands::ForOne;
                }
                '\\' => last = self.escape(Inside::Class),
                other => {
                    self.copy(other.len_utf8());
                    last = Stands::ForOne;
                }
            }
        }
    }

    /// Whether a range begins or ends with several characters here.
    fn is_bad_range(&self, last: Stands) -> bool {
        let after = &self.rest[1..];
        match last {
            Stands::ForMany => !after.is_empty() && !after.starts_with(']'),
            Stands::ForOne => !after.is_empty() && !after.starts_with(']') && !begins_with_one(after),
            Stands::Apart => false,
        }
    }

    /// Spells one character so that it stands for itself.
    fn literal(&mut self) {
        self.out.push('\\');
        self.copy(1);
    }
}

/// Where something stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Pattern,
    Class,
}

/// What a part of a class stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// One character, with which a range may begin or end.
    ForOne,
    /// Several.
    ForMany,
    /// A range, or nothing: a hyphen behind it stands for itself.
    Apart,
}

/// Whether the rest of a class begins with one character, which a range can end with.
fn begins_with_one(rest: &str) -> bool {
    let mut characters = rest.chars();
    match characters.next() {
        None | Some(']') => false,
        Some('[') => posix(rest).is_none(),
        Some('\\') => {
            let many = ['w', 'W', 'd', 'D', 's', 'S', 'h', 'H', 'v', 'V', 'p', 'P'];
            !characters.next().is_some_and(|letter| many.contains(&letter))
        }
        Some(_) => true,
    }
}

/// The length of a class with a name (`[:alpha:]`) at the beginning of this text.
fn posix(text: &str) -> Option<usize> {
    let name = text.strip_prefix("[:")?;
    let end = name.find(":]")?;
    name[..end].bytes().all(|byte| byte == b'^' || byte.is_ascii_alphabetic()).then_some(end + 4)
}

/// The length of a count in braces at the beginning of this text, where it is one.
fn quantifier(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
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
