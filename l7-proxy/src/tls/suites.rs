//! Cipher suites: which are spoken, and in which order, by the lists that OpenSSL reads.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::kx_group;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

use crate::model::Curve;

use super::TlsError;
use super::handshake::cipher;

/// Returns ring, reduced to the suites of these lists, in their order: `ciphers` for TLS 1.2
/// (`ssl_ciphers`), `suites` for TLS 1.3; and to these curves, if there are any.
///
/// # Errors
/// A list leaves none, or names a suite of TLS 1.3 that there is not.
pub(super) fn provider(
    ciphers: Option<&str>,
    suites: Option<&str>,
    curves: &[Curve],
) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    let (new, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|suite| suite.tls13().is_some());
    let new = suites.map_or(Ok(new.clone()), |list| named(list, &new))?;
    let old = ciphers.map_or(Ok(old.clone()), |list| select(list, &old))?;
    provider.cipher_suites = [new, old].concat();
    if !curves.is_empty() {
        provider.kx_groups = curves.iter().map(group).collect();
    }
    Ok(Arc::new(provider))
}

fn group(curve: &Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519 => kx_group::X25519,
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
    }
}

/// Suites of TLS 1.3 that OpenSSL has and we have not.
const UNSPOKEN: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// Returns the suites of TLS 1.3 that a list names.
fn named(list: &str, all: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let mut found = Vec::new();
    for word in list.split(':').filter(|word| !word.is_empty()) {
        match all.iter().find(|suite| cipher(**suite) == word) {
            Some(suite) if !found.contains(suite) => found.push(*suite),
            Some(_) => {}
            None if UNSPOKEN.contains(&word) => {}
            None => return Err(TlsError::Setup(format!("no cipher suite of TLS 1.3 is called \"{word}\""))),
        }
    }
    Ok(found)
}

/// Returns the suites of TLS 1.2 that OpenSSL's list comes to: a word adds what it means to the end, `-`
/// takes it away, `!` for good, and `+` moves it to the end.
fn select(list: &str, all: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let mut left: Vec<SupportedCipherSuite> = all.to_vec();
    let mut found: Vec<SupportedCipherSuite> = Vec::new();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty() && !word.starts_with('@')) {
        let (sign, word) = match word.as_bytes()[0] {
            sign @ (b'!' | b'-' | b'+') => (sign, &word[1..]),
            _ => (b' ', word),
        };
        let means = |suite: &SupportedCipherSuite| means(word, &cipher(*suite));
        match sign {
            b'!' => {
                left.retain(|suite| !means(suite));
                found.retain(|suite| !means(suite));
            }
            b'-' => found.retain(|suite| !means(suite)),
            // In their order among themselves.
            b'+' => found.sort_by_key(means),
            _ => {
                let new: Vec<_> =
                    left.iter().filter(|suite| means(suite) && !found.contains(suite)).copied().collect();
                found.extend(new);
            }
        }
    }
    match found.is_empty() {
        true => Err(TlsError::Setup(format!("none of the ciphers \"{list}\" is supported by l7-proxy"))),
        false => Ok(found),
    }
}

/// Whether a word of the list means the suite of that name: it is the name, or a class that the suite
/// is in, or several such joined by `+`.
fn means(word: &str, name: &str) -> bool {
    word == name || word.split('+').all(|class| is_in(class, name))
}

/// All of ours exchange keys over elliptic curves, authenticate what they encrypt, and are strong.
fn is_in(class: &str, name: &str) -> bool {
    match class {
        "ALL" | "DEFAULT" | "HIGH" | "EECDH" | "ECDHE" | "kEECDH" | "kECDHE" | "TLSv1.2"
        | "PROFILE=SYSTEM" => true,
        "AES" | "AESGCM" => name.contains("-AES"),
        "AES128" | "AES256" => name.contains(class),
        "CHACHA20" => name.contains("CHACHA20"),
        "aRSA" => name.contains("-RSA-"),
        "aECDSA" | "ECDSA" => name.contains("-ECDSA-"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(ciphers: Option<&str>, suites: Option<&str>) -> Result<Vec<String>, String> {
        let provider = provider(ciphers, suites, &[]).map_err(|error| error.to_string())?;
        Ok(provider.cipher_suites.iter().map(|suite| cipher(*suite)).collect())
    }

    /// Those of TLS 1.2.
    fn old(list: &str) -> Vec<String> {
        let all = spoken(Some(list), None).unwrap();
        all.into_iter().filter(|name| !name.starts_with("TLS_")).collect()
    }

    #[test]
    fn list_of_ciphers_names_suites_in_its_order_or_classes() {
        assert_eq!(
            old("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-DES-CBC3-SHA"),
            ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(old("HIGH:!aNULL:!MD5").len(), 6);
        assert_eq!(old("ECDHE+AESGCM").len(), 4);
        assert!(spoken(Some("RC4-MD5"), None).is_err());
    }

    #[test]
    fn what_is_taken_off_a_list_is_not_spoken() {
        assert_eq!(old("HIGH:!CHACHA20:!aECDSA:-AES256"), ["ECDHE-RSA-AES128-GCM-SHA256"]);
        // For good, or only until it is named again.
        assert!(spoken(Some("HIGH:!ALL:CHACHA20"), None).is_err());
        assert_eq!(old("HIGH:-ALL:CHACHA20+aRSA"), ["ECDHE-RSA-CHACHA20-POLY1305"]);
        let moved = old("aRSA:+AES256");
        assert_eq!(moved.last().map(String::as_str), Some("ECDHE-RSA-AES256-GCM-SHA384"));
    }

    #[test]
    fn suites_of_tls13_have_a_list_of_their_own() {
        let list = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256";
        let new = spoken(Some("CHACHA20"), Some(list)).unwrap();
        assert_eq!(new[..2], ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]);
        assert_eq!(new.len(), 4);
        assert!(spoken(None, Some("TLS_NONSENSE")).unwrap_err().contains("TLS_NONSENSE"));
    }
}
