//! How values are written: numbers, times and addresses as nginx writes them, and what could break a
//! line of a log.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::Escape;
use crate::unix;

/// Writes a number in decimal.
pub(crate) fn number(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut left = value;
    loop {
        start -= 1;
        // The remainder of ten fits.
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Writes seconds with three decimals.
pub(super) fn milliseconds(time: Duration, out: &mut Vec<u8>) {
    number(time.as_secs(), out);
    out.push(b'.');
    let millis = time.subsec_millis();
    for place in [100, 10, 1] {
        out.push(b'0' + (millis / place % 10) as u8);
    }
}

/// Writes a status.
pub(super) fn status(code: u16, out: &mut Vec<u8>) {
    for place in [100, 10, 1] {
        out.push(b'0' + (code / place % 10) as u8);
    }
}

/// Writes the address without its port; an IPv4 address in IPv6 clothes as IPv4.
pub(super) fn address(addr: SocketAddr, out: &mut Vec<u8>) {
    if unix::is_unix(addr.ip()) {
        // Writing to a Vec cannot fail.
        _ = write!(out, "{}", unix::shown(addr));
        return;
    }
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let mut text = [0; "255.255.255.255.".len()];
            let mut end = 0;
            for octet in ip.octets() {
                let (octet, len) = &OCTETS[usize::from(octet)];
                text[end..end + octet.len()].copy_from_slice(octet);
                end += usize::from(*len);
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => _ = write!(out, "{ip}"),
    }
}

/// Writes a time as [`milliseconds`]; `-` where there is none.
pub(super) fn time_or_dash(time: Option<Duration>, out: &mut Vec<u8>) {
    match time {
        Some(time) => milliseconds(time, out),
        None => out.push(b'-'),
    }
}

/// Appends a variable's value to a log line; `None` is one that has none.
pub(crate) fn escape_log(value: Option<&[u8]>, escape: Escape, out: &mut Vec<u8>) {
    match (value, escape) {
        (None, Escape::Default) => out.push(b'-'),
        (None, _) => {}
        (Some(raw), Escape::Default) => escape_default(raw, out),
        (Some(raw), Escape::Json) => escape_json(raw, out),
        (Some(raw), Escape::None) => out.extend_from_slice(raw),
    }
}

/// Writes `"`, `\` and what is not printable ASCII as `\xHH`.
fn escape_default(raw: &[u8], out: &mut Vec<u8>) {
    for &byte in raw {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => _ = write!(out, "\\x{byte:02X}"),
            _ => out.push(byte),
        }
    }
}

/// Writes text as inside a JSON string; bytes that are no UTF-8 become U+FFFD, or no reader would
/// take the line.
fn escape_json(raw: &[u8], out: &mut Vec<u8>) {
    let text: Cow<'_, str> = String::from_utf8_lossy(raw);
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            char if char < ' ' => _ = write!(out, "\\u{:04X}", u32::from(char)),
            char => _ = write!(out, "{char}"),
        }
    }
}

/// Each octet in digits and with a dot behind them, and how many bytes that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut all = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < all.len() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let len = if octet >= 100 { 3 } else { 1 + (octet >= 10) as usize };
        let mut place = 0;
        while place < len {
            all[octet].0[place] = b'0' + digits[3 - len + place] as u8;
            place += 1;
        }
        all[octet].1 = len as u8 + 1;
        octet += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_written_without_their_port() {
        for ip in
            ["0.0.0.0", "1.20.100.5", "127.0.0.1", "255.255.255.255", "10.99.109.200", "::1", "2001:db8::1"]
        {
            let mut out = b"x".to_vec();
            address((ip.parse::<std::net::IpAddr>().unwrap(), 80).into(), &mut out);
            assert_eq!(std::str::from_utf8(&out[1..]).unwrap(), ip);
        }
    }
}
