//! Finds the `Call-ID` of a SIP message, as IPVS's persistence engine `sip` does.
//!
//! The field is found by name or by its short form `i`, in any case, with blanks and folded lines around
//! its colon (RFC 3261, section 7.3). Its value is a word, or two with an `@` between them, and the end of
//! its line has to follow: a message that was cut there belongs nowhere.
//!
//! IPVS looks in the body too, gives up at the first such field that it cannot read, and takes a NUL for the
//! end of the message. Here the search ends with the head, the next field counts, and a NUL is no word.

/// The `Call-ID` of a message, if it has one that can be told from others.
///
/// ```text
/// INVITE sip:bob@example.com SIP/2.0
/// Via: SIP/2.0/UDP pc33.example.com
/// Call-ID: a84b4c76e66710@pc33.example.com      <- a84b4c76e66710@pc33.example.com
/// ```
pub(super) fn call_id(message: &[u8]) -> Option<&[u8]> {
    // The first line is no field.
    let mut rest = after_line(message)?;
    while !rest.is_empty() && !is_end_of_line(rest[0]) {
        if let Some(id) = value(rest).and_then(identifier) {
            return Some(id);
        }
        rest = after_line(rest)?;
    }
    None
}

/// What follows the first end of a line: CR, LF, or both.
fn after_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| is_end_of_line(*byte))?;
    let end = if bytes[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
    Some(&bytes[end..])
}

/// What follows the colon of the field, if this line is one.
fn value(line: &[u8]) -> Option<&[u8]> {
    let named = |name: &[u8]| line.get(..name.len())?.eq_ignore_ascii_case(name).then(|| &line[name.len()..]);
    let short = || named(b"i").filter(|rest| !rest.first().is_some_and(u8::is_ascii_alphabetic));
    let rest = named(b"call-id").or_else(short)?;
    Some(after_blanks(after_blanks(rest).strip_prefix(b":")?))
}

/// What follows blanks, and the end of a line that goes on in the next.
fn after_blanks(bytes: &[u8]) -> &[u8] {
    let rest = without_blanks(bytes);
    match after_line(rest).filter(|_| rest.first().is_some_and(|byte| is_end_of_line(*byte))) {
        Some(next @ [b' ' | b'\t', ..]) => without_blanks(next),
        _ => rest,
    }
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

/// `word` or `word@word`, before the end of a line.
fn identifier(value: &[u8]) -> Option<&[u8]> {
    let word = |bytes: &[u8]| bytes.iter().take_while(|byte| is_of_word(**byte)).count();
    let mut length = word(value);
    if length > 0 && value.get(length) == Some(&b'@') {
        let host = word(&value[length + 1..]);
        length = if host > 0 { length + 1 + host } else { 0 };
    }
    let ends = value.get(length).is_some_and(|byte| is_end_of_line(*byte));
    (ends && (1..=LENGTH_MAX).contains(&length)).then(|| &value[..length])
}

/// `word` of RFC 3261, section 25.1.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&byte)
}

fn is_end_of_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// As in IPVS; none that is longer tells calls apart any better.
const LENGTH_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: Option<&str>) {
        let found = call_id(message.as_bytes()).map(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!(found.as_deref(), expected, "{message:?}");
    }

    /// The message of RFC 3261, section 4, with this in the place of its `Call-ID`.
    fn invite(field: &str) -> String {
        format!(
            "INVITE sip:bob@biloxi.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n\
             Max-Forwards: 70\r\nTo: Bob <sip:bob@biloxi.com>\r\n{field}\r\nCSeq: 314159 INVITE\r\n\r\n"
        )
    }

    #[test]
    fn field_is_known_however_it_is_written() {
        for field in [
            "Call-ID: a84b4c76e66710@pc33.atlanta.com",
            "call-id:a84b4c76e66710@pc33.atlanta.com",
            "CALL-ID \t: \t a84b4c76e66710@pc33.atlanta.com",
            "i: a84b4c76e66710@pc33.atlanta.com",
            "I:a84b4c76e66710@pc33.atlanta.com",
            "Call-ID:\r\n a84b4c76e66710@pc33.atlanta.com",
            "i\r\n\t: a84b4c76e66710@pc33.atlanta.com",
        ] {
            check(&invite(field), Some("a84b4c76e66710@pc33.atlanta.com"));
            check(&invite(field).replace("\r\n", "\n"), Some("a84b4c76e66710@pc33.atlanta.com"));
            check(&invite(field).replace("\r\n", "\r"), Some("a84b4c76e66710@pc33.atlanta.com"));
        }
    }

    #[test]
    fn identifier_need_have_no_host_and_may_have_odd_signs() {
        check(&invite("Call-ID: 1"), Some("1"));
        check(&invite("Call-ID: -.!%*_+`'~()<>:\\\"/[]?{}"), Some("-.!%*_+`'~()<>:\\\"/[]?{}"));
        check(&invite(&format!("Call-ID: {}", "x".repeat(255))), Some(&"x".repeat(255)));
    }

    #[test]
    fn what_cannot_be_told_from_other_calls_is_none() {
        for field in [
            "Call-ID:",
            "Call-ID: a@",
            "Call-ID: @b",
            "Call-ID: a@b@c",
            "Call-ID: a b",
            "Call-ID: a;b",
            "Call-IDs: a",
            "id: a",
            "X-Call-ID: a",
            "Call-ID a",
        ] {
            check(&invite(field), None);
        }
        check(&invite(&format!("Call-ID: {}", "x".repeat(256))), None);
        check("", None);
        check("Call-ID: first-line@is.no.field\r\n", None);
        check("OPTIONS sip:a SIP/2.0\r\nCall-ID: cut@he", None);
        check("OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\nCall-ID: in@the.body\r\n", None);
    }

    #[test]
    fn folded_line_is_not_taken_for_a_field() {
        check(
            "OPTIONS sip:a SIP/2.0\r\nSubject: see\r\n Call-ID: no@no\r\ni: yes@yes\r\n\r\n",
            Some("yes@yes"),
        );
    }

    #[test]
    fn first_field_that_can_be_read_counts() {
        check("OPTIONS sip:a SIP/2.0\r\nCall-ID: a;b\r\ni: c\r\nCall-ID: d\r\n\r\n", Some("c"));
    }
}
