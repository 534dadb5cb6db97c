//! The forms in which a file may hold a password.

use md5::{Digest, Md5};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use sha_crypt::{PasswordVerifier, ShaCrypt};

use super::{base64, des};

/// A password as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{PLAIN}secret`.
    Plain(Box<[u8]>),
    /// `{SHA}` and `{SSHA}`: a digest, and what was appended to the password before.
    Sha1 { digest: [u8; 20], salt: Box<[u8]> },
    /// `$1$` of crypt(3), and `$apr1$` of Apache.
    Md5 { magic: &'static str, salt: Box<[u8]>, digest: Box<[u8]> },
    /// `$5$` and `$6$` of crypt(3).
    Sha2(Box<str>),
    /// `$2a$`, `$2b$`, `$2x$`, `$2y$`.
    Bcrypt(Box<str>),
    /// What crypt(3) made before it had other forms.
    Des { salt: [u8; 2], digest: [u8; 11] },
}

/// What it costs to compare a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Less than a request.
    Small,
    /// Milliseconds, on purpose.
    Large,
}

impl Form {
    /// Reads a password of a file; `None` if its form is none that is known here.
    pub(crate) fn parse(text: &[u8]) -> Option<Form> {
        if let Some(password) = strip_label(text, b"{PLAIN}") {
            return Some(Form::Plain(password.into()));
        }
        if let Some(digest) = strip_label(text, b"{SHA}") {
            let digest = base64::decode(digest)?.try_into().ok()?;
            return Some(Form::Sha1 { digest, salt: Box::default() });
        }
        if let Some(salted) = strip_label(text, b"{SSHA}") {
            let salted = base64::decode(salted)?;
            let (digest, salt) = salted.split_at_checked(20)?;
            return Some(Form::Sha1 { digest: digest.try_into().ok()?, salt: salt.into() });
        }
        for magic in ["$apr1$", "$1$"] {
            let Some(rest) = text.strip_prefix(magic.as_bytes()) else { continue };
            let (salt, digest) = rest.split_at(memchr::memchr(b'$', rest)?);
            let salt = &salt[..salt.len().min(MD5_SALT_MAX)];
            return Some(Form::Md5 { magic, salt: salt.into(), digest: digest[1..].into() });
        }
        if let Some((&salt, digest)) = text.split_first_chunk::<2>()
            && let Ok(digest) = <[u8; 11]>::try_from(digest)
            && text.iter().all(|digit| des::DIGITS.contains(digit))
        {
            return Some(Form::Des { salt, digest });
        }
        let text = std::str::from_utf8(text).ok()?;
        for magic in ["$5$", "$6$"] {
            let Some(rest) = text.strip_prefix(magic) else { continue };
            // The number of rounds is left out where it is the usual one.
            let rounds = if rest.starts_with("rounds=") { "" } else { "rounds=5000$" };
            return Some(Form::Sha2(format!("{magic}{rounds}{rest}").into()));
        }
        let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|magic| text.starts_with(magic));
        bcrypt.then(|| Form::Bcrypt(text.into()))
    }

    /// What it costs to compare.
    pub(crate) fn cost(&self) -> Cost {
        match self {
            Form::Plain(_) | Form::Sha1 { .. } | Form::Md5 { .. } | Form::Des { .. } => Cost::Small,
            Form::Sha2(_) | Form::Bcrypt(_) => Cost::Large,
        }
    }

    /// Returns whether it is this password.
    pub(crate) fn is(&self, password: &[u8]) -> bool {
        match self {
            Form::Plain(known) => same(known, password),
            Form::Sha1 { digest: known, salt } => {
                let salted = [password, salt].concat();
                same(known, digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted).as_ref())
            }
            Form::Md5 { magic, salt, digest } => same(digest, &md5_crypt(password, magic, salt)),
            Form::Sha2(hash) => ShaCrypt::default().verify_password(password, &**hash).is_ok(),
            Form::Des { salt, digest } => des::crypt(password, *salt).is_some_and(|made| same(digest, &made)),
            Form::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

fn strip_label<'t>(text: &'t [u8], label: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(label.len())?;
    start.eq_ignore_ascii_case(label).then_some(rest)
}

/// Compares in a time that does not tell where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && differences == 0
}

/// The digest of crypt(3)'s MD5 form, in its alphabet; `magic` tells Apache's form from the original.
fn md5_crypt(password: &[u8], magic: &str, salt: &[u8]) -> Vec<u8> {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut sum = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let now = left.min(inner.len());
        sum.update(&inner[..now]);
        left -= now;
    }
    let mut bits = password.len();
    while bits > 0 {
        // Of the password it is always the first byte; that is how it was once written, and stays.
        let byte = if bits & 1 == 1 { &[0][..] } else { &password[..1] };
        sum.update(byte);
        bits >>= 1;
    }
    let mut last = sum.finalize();
    for round in 0..MD5_ROUNDS {
        let mut sum = Md5::new();
        let odd = round % 2 == 1;
        sum.update(if odd { password } else { &last });
        if round % 3 != 0 {
            sum.update(salt);
        }
        if round % 7 != 0 {
            sum.update(password);
        }
        sum.update(if odd { &last[..] } else { password });
        last = sum.finalize();
    }
    let mut text = Vec::with_capacity(22);
    for [one, two, three] in MD5_ORDER {
        let bits = u32::from_be_bytes([0, last[one], last[two], last[three]]);
        write_digits(bits, 4, &mut text);
    }
    write_digits(u32::from(last[11]), 2, &mut text);
    text
}

/// Writes six bits at a time, the lowest first.
fn write_digits(mut bits: u32, count: usize, text: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        text.push(DIGITS[(bits & 0x3f) as usize]);
        bits >>= 6;
    }
}

const MD5_ROUNDS: usize = 1000;

const MD5_SALT_MAX: usize = 8;

/// The bytes of a digest in the order in which they are written, three by three.
const MD5_ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

#[cfg(test)]
mod tests {
    use super::*;

    /// What `openssl passwd`, `htpasswd` and `slappasswd` make of the password `open sesame`.
    const WRITTEN: [&str; 9] = [
        "{PLAIN}open sesame",
        "{plain}open sesame",
        "{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=",
        "{SSHA}hN5uxFJUEWCPg56kk42tnVCdJ61zYWx0",
        "$1$abcd$39O0.yr1y3kRxT4Wbf5Zo.",
        "$apr1$saltsalt$HIDXe7D36X22w1CH4M1cQ.",
        "$5$somesalt$6XwqLSgSLhGSGin7fH1LqkWScZmeI37F5I2aPSIE7KA",
        "$6$somesaltsomesalt$HXskaH9d2Jow/OrX3xNFgIeeOso5HDP3a9jiFE4l8G91S/3TqRXwtTY/myBz/CuOJ4lUfH0q19pb5XYf9vZQl0",
        "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW",
    ];

    #[test]
    fn every_form_takes_its_password_and_no_other() {
        for text in WRITTEN {
            let form = Form::parse(text.as_bytes()).expect(text);
            assert!(form.is(b"open sesame"), "{text}");
            for wrong in [&b"open sesam"[..], b"open sesame ", b"", b"Open sesame"] {
                assert!(!form.is(wrong), "{text}");
            }
        }
    }

    #[test]
    fn passwords_of_any_length_are_those_of_openssl() {
        for (password, text) in LENGTHS {
            assert!(Form::parse(text.as_bytes()).unwrap().is(password.as_bytes()), "{password}");
        }
    }

    /// From `openssl passwd -apr1`.
    const LENGTHS: [(&str, &str); 3] = [
        ("a", "$apr1$x1$stmoARC9jbu3Ca6NFsTal/"),
        ("exactly sixteen.", "$apr1$x1$HeCFk.Q2j/jRQxHfw1fG.1"),
        ("more than sixteen bytes, and a second block of it", "$apr1$x1$4/n3iXgQG.Ghbd0ka6C3A1"),
    ];

    #[test]
    fn unknown_form_is_no_password() {
        for text in
            ["", "secret", "{SHA}!", "{SSHA}AAAA", "$1$salt", "$y$j9T$x", "ab01FAX.bQRS", "a$01FAX.bQRSU"]
        {
            assert_eq!(Form::parse(text.as_bytes()), None, "{text}");
        }
    }
}
