//! Private keys from PEM, also where a password seals them.
//!
//! Two forms are in use: that of PKCS #8, which OpenSSL has written since 1.0, and the older one in
//! which the text itself says how it is sealed (RFC 1421, `Proc-Type`), which `openssl genrsa` wrote
//! until 3.0 and `-traditional` still asks for.

use aes::cipher::{Block, BlockCipherDecrypt, BlockModeDecrypt, KeyIvInit};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use crate::credentials::base64;
use crate::model::Passwords;

/// Returns the first key in a text.
///
/// # Errors
/// There is none, or it is sealed and no password opens it.
pub(super) fn read(pem: &[u8], passwords: &Passwords) -> Result<PrivateKeyDer<'static>, String> {
    let Some(sealed) = Sealed::find(pem) else {
        return PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string());
    };
    if passwords.is_empty() {
        return Err("it is encrypted, and there is no password for it".to_owned());
    }
    let opened = passwords.iter().find_map(|password| sealed.open(password));
    opened.ok_or_else(|| "bad decrypt: no password opens it".to_owned())
}

/// A sealed key.
struct Sealed<'a> {
    /// What the text calls it: `RSA PRIVATE KEY` and the like.
    label: &'a str,
    /// How it is sealed, with the initial vector; `None` says it in the contents.
    cipher: Option<(&'a str, Vec<u8>)>,
    contents: Vec<u8>,
}

impl<'a> Sealed<'a> {
    /// Finds the first private key of a text if it is sealed.
    fn find(pem: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok()?;
        let mut rest = text;
        let (label, body) = loop {
            let (label, after) = rest.split_once("-----BEGIN ")?.1.split_once("-----")?;
            if label.ends_with("PRIVATE KEY") {
                break (label, after.split_once("-----END ")?.0);
            }
            rest = after;
        };
        let (fields, contents) = match body.split_once("\n\n").or_else(|| body.split_once("\r\n\r\n")) {
            Some((fields, contents)) if fields.contains(':') => (fields, contents),
            _ => ("", body),
        };
        let field = |name: &str| {
            fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let cipher = match (label, field("Proc-Type")) {
            ("ENCRYPTED PRIVATE KEY", _) => None,
            (_, Some(kind)) if kind.ends_with("ENCRYPTED") => {
                let (name, vector) = field("DEK-Info")?.split_once(',')?;
                Some((name, bytes(vector.trim())?))
            }
            _ => return None,
        };
        let contents: Vec<u8> = contents.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        Some(Self { label, cipher, contents: base64::decode(&contents)? })
    }

    /// Returns the key if this is its password.
    fn open(&self, password: &[u8]) -> Option<PrivateKeyDer<'static>> {
        let Some((cipher, vector)) = &self.cipher else {
            let sealed = EncryptedPrivateKeyInfoRef::try_from(&*self.contents).ok()?;
            let opened = sealed.decrypt(password).ok()?;
            return Some(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into());
        };
        let opened = match *cipher {
            "AES-128-CBC" => decrypt::<aes::Aes128>(&key(password, vector, 16), vector, &self.contents),
            "AES-192-CBC" => decrypt::<aes::Aes192>(&key(password, vector, 24), vector, &self.contents),
            "AES-256-CBC" => decrypt::<aes::Aes256>(&key(password, vector, 32), vector, &self.contents),
            "DES-EDE3-CBC" => decrypt::<des::TdesEde3>(&key(password, vector, 24), vector, &self.contents),
            _ => None,
        }?;
        // A wrong password leaves good padding one time in 256.
        if opened.first() != Some(&SEQUENCE) {
            return None;
        }
        match self.label {
            "RSA PRIVATE KEY" => Some(PrivatePkcs1KeyDer::from(opened).into()),
            "EC PRIVATE KEY" => Some(PrivateSec1KeyDer::from(opened).into()),
            _ => None,
        }
    }
}

const SEQUENCE: u8 = 0x30;

/// Makes a key from a password as OpenSSL's `EVP_BytesToKey` does, with MD5, one round, and the first
/// eight bytes of the vector as salt.
fn key(password: &[u8], vector: &[u8], length: usize) -> Vec<u8> {
    let salt = vector.get(..8).unwrap_or(vector);
    let mut out: Vec<u8> = Vec::with_capacity(length + 16);
    let mut last: Vec<u8> = Vec::new();
    while out.len() < length {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        out.extend_from_slice(&last);
    }
    out.truncate(length);
    out
}

/// Takes the chained blocks apart and the padding off; `None` if they cannot have been made so.
fn decrypt<C>(key: &[u8], vector: &[u8], sealed: &[u8]) -> Option<Vec<u8>>
where
    C: BlockCipherDecrypt + aes::cipher::BlockCipherEncrypt + aes::cipher::KeyInit,
{
    let mut blocks = cbc::Decryptor::<C>::new_from_slices(key, vector).ok()?;
    let mut opened = sealed.to_vec();
    let (chunks, rest) = Block::<C>::slice_as_chunks_mut(&mut opened);
    if !rest.is_empty() {
        return None;
    }
    blocks.decrypt_blocks(chunks);
    let padding = usize::from(*opened.last()?);
    let length = opened.len().checked_sub(padding)?;
    let is_padding = (1..=C::block_size()).contains(&padding)
        && opened.get(length..)?.iter().all(|&byte| usize::from(byte) == padding);
    opened.truncate(length);
    is_padding.then_some(opened)
}

/// Reads hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(digits.get(place..place + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn text(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/chain").join(name)).unwrap()
    }

    fn public(key: &PrivateKeyDer<'_>) -> Vec<u8> {
        let key = rustls::crypto::ring::sign::any_supported_type(key).unwrap();
        key.public_key().unwrap().to_vec()
    }

    #[test]
    fn sealed_key_is_opened_by_its_password_whatever_form_it_has() {
        let open = public(&read(&text("open.key"), &Passwords::default()).unwrap());
        let passwords = Passwords::from_lines(b"wrong\r\nsecret\r\nother");
        for name in [
            "old-aes128.key",
            "old-aes256.key",
            "old-des3.key",
            "pkcs8-aes-128-cbc.key",
            "pkcs8-aes-256-cbc.key",
            "pkcs8-des-ede3-cbc.key",
            "pkcs8-sha1.key",
            "pkcs8-scrypt.key",
        ] {
            assert_eq!(public(&read(&text(name), &passwords).unwrap()), open, "{name}");
            let refused = read(&text(name), &Passwords::from_lines(b"wrong\n")).unwrap_err();
            assert!(refused.contains("bad decrypt"), "{name}: {refused}");
            let refused = read(&text(name), &Passwords::default()).unwrap_err();
            assert!(refused.contains("encrypted"), "{name}: {refused}");
        }
    }

    #[test]
    fn cut_key_is_refused() {
        let passwords = Passwords::from_lines(b"secret");
        for name in ["old-aes128.key", "pkcs8-scrypt.key"] {
            let whole = text(name);
            for end in (0..whole.len() - 30).step_by(7) {
                assert!(read(&whole[..end], &passwords).is_err(), "{name} {end}");
            }
        }
    }

    #[test]
    fn empty_line_is_a_password_and_the_end_of_the_file_is_none() {
        let lines = |text: &str| Passwords::from_lines(text.as_bytes()).to_vec();
        assert_eq!(lines("a\n"), [b"a".to_vec()]);
        assert_eq!(lines("a\n\nb"), [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
        assert!(lines("").is_empty());
    }
}
