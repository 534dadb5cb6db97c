//! `$secure_link` and `$secure_link_expires`: whether a link was made by who knows the secret.

use std::time::{Duration, SystemTime};

use md5::{Digest as _, Md5};

use super::Exchange;
use crate::credentials::base64;
use crate::model::SecureLink;

/// Returns what `$secure_link` shows: `1`, or `0` for a link whose time is over, or with a secret word the
/// link itself; `None` for one that is not proved.
pub(super) fn state(exchange: &Exchange<'_>) -> Option<Vec<u8>> {
    match exchange.settings.secure_link.as_deref()? {
        SecureLink::Word(secret) => by_word(exchange.request_uri.as_bytes(), secret),
        SecureLink::Digest { carried: Some(_), of: Some(of) } => {
            let carried = Carried::read(exchange)?;
            let mut text = Vec::new();
            let digest = Md5::digest(of.bytes(exchange, &mut text));
            if carried.digest()? != digest[..] {
                return None;
            }
            let over = carried.expires.is_some_and(|expires| expires < seconds(exchange.moment.now()));
            Some(if over { b"0" } else { b"1" }.to_vec())
        }
        SecureLink::Digest { .. } => None,
    }
}

/// Returns until when the link holds, as it says itself.
pub(super) fn expires(exchange: &Exchange<'_>) -> Option<Vec<u8>> {
    let carried = Carried::read(exchange)?;
    let (_, expires) = carried.text.split_at(memchr::memchr(b',', &carried.text)? + 1);
    Some(expires.to_vec())
}

/// What a request carries to prove its link.
struct Carried {
    text: Vec<u8>,
    expires: Option<u64>,
}

impl Carried {
    /// `None` if there is nothing, or the time cannot be read.
    fn read(exchange: &Exchange<'_>) -> Option<Carried> {
        let SecureLink::Digest { carried: Some(carried), .. } = exchange.settings.secure_link.as_deref()?
        else {
            return None;
        };
        let mut text = Vec::new();
        carried.write(exchange, &mut text);
        let expires = match memchr::memchr(b',', &text) {
            None => None,
            Some(comma) => {
                let digits = std::str::from_utf8(&text[comma + 1..]).ok()?;
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let time = digits.parse::<i64>().ok().filter(|&time| plain && time > 0)?;
                Some(time.unsigned_abs())
            }
        };
        Some(Carried { text, expires })
    }

    fn digest(&self) -> Option<Vec<u8>> {
        let end = memchr::memchr(b',', &self.text).unwrap_or(self.text.len());
        let plain: Vec<u8> = self.text[..end]
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                // Those of the other alphabet are none of this.
                b'+' | b'/' => b' ',
                &byte => byte,
            })
            .collect();
        base64::decode(&plain)
    }
}

/// Returns the link of `/prefix/HEX/link`, if it is proved.
fn by_word(uri: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut parts = uri.splitn(4, |&byte| byte == b'/').skip(2);
    let (digest, link) = (parts.next()?, parts.next()?);
    if link.is_empty() || digest.len() != 32 {
        return None;
    }
    let expected = Md5::new().chain_update(link).chain_update(secret).finalize();
    let digits =
        std::str::from_utf8(digest).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let said = u128::from_str_radix(digits, 16).ok()?;
    (said.to_be_bytes() == expected[..]).then(|| link.to_vec())
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
