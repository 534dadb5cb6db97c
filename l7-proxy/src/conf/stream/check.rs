//! `health_check` of `stream {}`, and the `match {}` that it goes by.

use std::collections::HashMap;
use std::sync::Arc;

use super::Draft;
use crate::conf::check::{keep_time, parts, pattern};
use crate::conf::rules::Fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::model::{Cadence, Expectation, StreamCheck, Talk, Transport};

/// Reads the `match {}` blocks, which checks name.
pub(super) fn read_all(block: &[Directive]) -> Result<HashMap<String, Arc<Talk>>, Error> {
    let mut talks = HashMap::new();
    for directive in block.iter().filter(|directive| directive.name == "match") {
        let name = directive.arg(0).to_owned();
        let mut talk = Talk { name: name.clone(), ..Talk::default() };
        for line in &directive.block {
            add(&mut talk, line).map_err(|fault| fault.at(line))?;
        }
        if talks.insert(name.clone(), Arc::new(talk)).is_some() {
            return Err(Error::at(&directive.place, format!("duplicate match \"{name}\"")));
        }
    }
    Ok(talks)
}

fn add(talk: &mut Talk, line: &Directive) -> Result<(), Fault> {
    let words: Vec<&str> = line.args.iter().map(|word| &**word).collect();
    match (&*line.name, &*words) {
        ("send", [_]) if !talk.send.is_empty() => Err(Fault::directive("is duplicate")),
        ("expect", [_, ..]) if talk.expect.is_some() => Err(Fault::directive("is duplicate")),
        ("send", [text]) => {
            talk.send = bytes(text);
            Ok(())
        }
        ("expect", [text]) => {
            talk.expect = Some(Expectation::Begins(bytes(text)));
            Ok(())
        }
        ("expect", ["~", text]) => {
            talk.expect = Some(Expectation::Matches(pattern(text)?));
            Ok(())
        }
        ("expect", ["~*", text]) => {
            talk.expect = Some(Expectation::Matches(pattern(&format!("(?i){text}"))?));
            Ok(())
        }
        ("send" | "expect", _) => Err(Fault::directive("has invalid parameters")),
        (name, _) => Err(Fault::new(format!("unknown directive \"{name}\""))),
    }
}

/// Reads a text in which `\xHH` stands for a byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| rest.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (first, after.first(), digit(2), digit(3)) {
            (b'\\', Some(b'x'), Some(high), Some(low)) => {
                // Two digits are a byte.
                bytes.extend(u8::try_from(high << 4 | low));
                rest = &rest[4..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Reads a `health_check`.
pub(super) fn health_check(scope: &mut Scope, draft: &mut Draft, directive: &Directive) -> Result<(), Fault> {
    let mut check =
        StreamCheck { cadence: Cadence::default(), transport: Transport::Tcp, talk: Arc::default() };
    for word in &directive.args {
        match parts(word) {
            ("match", Some(name)) => {
                let found = scope.stream.matches.get(name).cloned();
                check.talk = found.ok_or_else(|| Fault::new(format!("match \"{name}\" not found")))?;
            }
            ("udp", None) => check.transport = Transport::Udp,
            _ => keep_time(&mut check.cadence, word, directive)?,
        }
    }
    draft.health_check = Some(check);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn byte_may_be_written_by_its_number() {
        for (text, expected) in [
            ("a\\x00\\xFFb", &b"a\0\xffb"[..]),
            ("\\x4", b"\\x4"),
            ("\\xg0", b"\\xg0"),
            ("\\\\x41", b"\\A"),
            ("", b""),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
