//! File name patterns of `include`: `*`, `?`, `[…]` within one path segment each, and `{a,b}`.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The names that the braces of a pattern stand for: `{foo/{,cat},bar}` is `foo/`, `foo/cat`,
/// `bar`. Bounded, since braces multiply.
pub(crate) fn without_braces(pattern: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        if names.len() + open.len() >= NAMES_MAX {
            break;
        }
        match braces(&pattern) {
            None => names.push(pattern),
            Some((before, choices, after)) => {
                open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
    }
    names
}

/// What stands before the first pair of braces, its choices, and what stands after it.
fn braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let begin = pattern.find('{')?;
    let (mut depth, mut choice, mut choices) = (0, begin + 1, Vec::new());
    for (at, character) in pattern.char_indices().skip_while(|(at, _)| *at < begin) {
        match character {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&pattern[choice..at]);
                choice = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&pattern[choice..at]);
                return Some((&pattern[..begin], choices, &pattern[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether a name holds a character that makes it a pattern.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The paths that match, sorted.
pub(crate) fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        match (component, name.to_str()) {
            (Component::Normal(_), Some(name)) if is_pattern(name) => {
                found = found.iter().flat_map(|folder| entries(folder, name)).collect();
            }
            _ => {
                for path in &mut found {
                    path.push(name);
                }
                found.retain(|path| path.as_os_str().is_empty() || path.exists());
            }
        }
    }
    found
}

fn entries(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // A hidden file is matched by a pattern that begins with a dot only.
    let visible = |name: &String| !name.starts_with('.') || pattern.starts_with('.');
    let fits = |name: &String| visible(name) && fits(pattern.as_bytes(), name.as_bytes());
    let mut found: Vec<_> = names.filter(fits).map(|name| folder.join(name)).collect();
    found.sort_unstable();
    found
}

/// Goes back to the last star only, so that no pattern takes more than its length times the name's.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < name.len() {
        match one(&pattern[at..], name[read]) {
            Some(length) => (at, read) = (at + length, read + 1),
            None if pattern.get(at) == Some(&b'*') => {
                star = Some((at, read));
                at += 1;
            }
            None => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    (at, read) = (place + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How much of the pattern stands for this byte, if its beginning does.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'*' => None,
        b'?' => Some(1),
        b'[' => match class(&pattern[1..], byte) {
            Some((true, length)) => Some(length + 1),
            Some((false, _)) => None,
            // Without its closing bracket it is a character like others.
            None => (byte == b'[').then_some(1),
        },
        first => (first == byte).then_some(1),
    }
}

/// Reads what follows a `[`: whether it contains the byte, and how long it is.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = usize::from(matches!(pattern.first(), Some(b'!' | b'^')));
    // A bracket that comes first belongs to the class.
    let end = pattern.iter().skip(negated + 1).position(|&byte| byte == b']')? + negated + 1;
    let mut class = &pattern[negated..end];
    let mut contains = false;
    while let Some((&first, after)) = class.split_first() {
        let (last, rest) = match after {
            [b'-', last, rest @ ..] => (*last, rest),
            _ => (first, after),
        };
        contains |= (first..=last).contains(&byte);
        class = rest;
    }
    Some((contains != (negated == 1), end + 1))
}

/// More files than anybody names with one pattern.
const NAMES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a.conf", true),
            ("a*b*c", "axxbyyc", true),
            ("?.conf", "a.conf", true),
            ("[ab].conf", "b.conf", true),
            ("[!ab].conf", "c.conf", true),
            ("[a-c]x", "bx", true),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("*.conf", "a.conf~", false),
            ("?.conf", ".conf", false),
            ("[!ab].conf", "a.conf", false),
            ("a*b", "acd", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn braces_stand_for_each_of_their_choices() {
        assert_eq!(without_braces("{foo/{,cat,dog},bar}"), ["foo/", "foo/cat", "foo/dog", "bar"]);
        assert_eq!(without_braces("a{b"), ["a{b"]);
        assert_eq!(without_braces("x"), ["x"]);
        assert!(without_braces(&"{a,b}".repeat(40)).len() <= NAMES_MAX);
    }
}
