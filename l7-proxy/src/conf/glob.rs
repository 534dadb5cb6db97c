//! File name patterns of `include`: `*`, `?` and `[…]` within one path segment each.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Returns whether a name holds a character that makes it a pattern.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Returns the paths that match, sorted; none is no fault, as in nginx.
pub(super) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        match (component, name.to_str()) {
            (Component::Normal(_), Some(name)) if is_pattern(name) => {
                found = found.iter().flat_map(|folder| matching(folder, name)).collect();
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

/// Returns the entries of a folder whose names match, sorted.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut found: Vec<_> = names
        .filter(|name| {
            let name = name.as_encoded_bytes();
            // A hidden file is matched by a pattern that begins with a dot only.
            (!name.starts_with(b".") || pattern.starts_with('.')) && matches(pattern.as_bytes(), name)
        })
        .map(|name| folder.join(name))
        .collect();
    found.sort_unstable();
    found
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        b'[' => {
            let Some((&byte, left)) = name.split_first() else { return false };
            match class(rest, byte) {
                Some((contains, rest)) => contains && matches(rest, left),
                // Without its closing bracket it is a character like others.
                None => byte == b'[' && matches(rest, left),
            }
        }
        first => match name.split_first() {
            Some((&byte, left)) => (first == b'?' || first == byte) && matches(rest, left),
            None => false,
        },
    }
}

/// Reads what follows a `[`: whether it contains `byte`, and the rest of the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (pattern, negated) = match pattern {
        [b'!' | b'^', rest @ ..] => (rest, true),
        _ => (pattern, false),
    };
    // A bracket that comes first belongs to the class.
    let end = pattern.iter().skip(1).position(|&byte| byte == b']')? + 1;
    let (mut class, rest) = (&pattern[..end], &pattern[end + 1..]);
    let mut contains = false;
    while let Some((&first, after)) = class.split_first() {
        let last = match after {
            [b'-', last, ..] => *last,
            _ => first,
        };
        contains |= (first..=last).contains(&byte);
        class = if matches!(after, [b'-', _, ..]) { &after[2..] } else { after };
    }
    Some((contains != negated, rest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns_match_as_in_a_shell() {
        let check = |pattern: &str, name: &str| super::matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in [
            ("*", "a.conf"),
            ("*.conf", "a.conf"),
            ("a*b*c", "axxbyyc"),
            ("?.conf", "a.conf"),
            ("[ab].conf", "b.conf"),
            ("[!ab].conf", "c.conf"),
            ("[a-c]x", "bx"),
            ("[]]x", "]x"),
            ("[x", "[x"),
            ("a-[0-9][0-9]", "a-42"),
        ] {
            assert!(check(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.conf", "a.conf~"),
            ("?.conf", ".conf"),
            ("[!ab].conf", "a.conf"),
            ("[a-c]x", "dx"),
            ("a*b", "acd"),
            ("", "a"),
            ("[a]", ""),
        ] {
            assert!(!check(pattern, name), "{pattern} {name}");
        }
    }
}
