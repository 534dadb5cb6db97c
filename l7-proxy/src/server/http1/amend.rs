//! Lines of requests that one change makes well-formed.
//!
//! Browsers write `%22` where people with a command line write `"`, and servers take both for the same. What
//! our own reader of targets does not know is put as a browser would put it, so that there is one spelling from
//! here on; so are names in an older encoding than UTF-8. A later minor version says nothing that an earlier one
//! does not (RFC 9110, section 2.5).

/// Returns `bytes`, which begin with the line of a request, with that line made well-formed; `None` if nothing
/// of this kind is wrong with it.
#[cold]
pub(super) fn amend(bytes: &[u8]) -> Option<Vec<u8>> {
    // The line may not have come whole yet.
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next());
    let version = version.map(|version| match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => b"HTTP/1.1",
        _ => version,
    });
    let mut amended = Vec::with_capacity(bytes.len() + 64);
    amended.extend_from_slice(method);
    amended.push(b' ');
    if target.first() == Some(&b'/') {
        let query = memchr::memchr(b'?', target).unwrap_or(target.len());
        let older = std::str::from_utf8(target).is_err();
        let is_foreign = |byte: u8, foreign: &[u8]| foreign.contains(&byte) || older && !byte.is_ascii();
        target[..query].iter().for_each(|&byte| put(&mut amended, byte, is_foreign(byte, b"<>`")));
        target[query..].iter().for_each(|&byte| put(&mut amended, byte, is_foreign(byte, b"\"<>")));
    } else {
        amended.extend_from_slice(target);
    }
    if let Some(version) = version {
        amended.push(b' ');
        amended.extend_from_slice(version);
    }
    (amended != line).then(|| {
        amended.extend_from_slice(rest);
        amended
    })
}

/// Puts a byte of a target, encoded if it is foreign there.
fn put(target: &mut Vec<u8>, byte: u8, is_foreign: bool) {
    if is_foreign {
        target.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
    } else {
        target.push(byte);
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).unwrap());
        for rest in ["", "\r\n", "\nX: <y>\r\n\r\n"] {
            let expected = expected.map(|expected| format!("{expected}{rest}"));
            assert_eq!(text(amend(format!("{line}{rest}").as_bytes())), expected);
        }
    }

    #[test]
    fn target_is_put_as_a_browser_would() {
        check("GET /a<b>`c?d=\"e\" HTTP/1.1", Some("GET /a%3Cb%3E%60c?d=%22e%22 HTTP/1.1"));
        check("GET /a>", Some("GET /a%3E"));
        check("GET /\"?`{|}^", None);
        check("GET /a HTTP/1.1", None);
        // Nobody's name.
        check("GET http://a<b/ HTTP/1.1", None);
    }

    #[test]
    fn target_that_is_no_utf8_is_put_byte_by_byte() {
        let amended = amend(b"GET /\xe4b?\xff\xc3\xa4 HTTP/1.1\r\n\xe4");
        assert_eq!(amended.unwrap(), b"GET /%E4b?%FF%C3%A4 HTTP/1.1\r\n\xe4");
        check("GET /\u{e4} HTTP/1.1", None);
    }

    #[test]
    fn later_minor_version_is_the_one_that_we_know() {
        check("GET / HTTP/1.2", Some("GET / HTTP/1.1"));
        check("GET / HTTP/1.9", Some("GET / HTTP/1.1"));
        for version in ["HTTP/1.1", "HTTP/1.0", "HTTP/1.", "HTTP/1.10", "HTTP/2.2", "http/1.2", "HTTP/1.2 "] {
            check(&format!("GET / {version}"), None);
        }
    }
}
