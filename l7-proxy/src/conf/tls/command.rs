//! `ssl_conf_command` and its like: a command of OpenSSL's, of which those are taken that mean
//! something here, and those that ask for what is so anyhow.

use crate::model::{TlsCommand, TlsVersion, TlsVersions};

use super::super::Scope;
use super::super::rules::Fault;
use super::super::tree::Directive;
use super::curves;

/// Reads a command and its value, which may be several.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Vec<TlsCommand>, Fault> {
    let (name, value) = (directive.arg(0), directive.arg(1));
    let refused =
        || Fault::new(format!("SSL_CONF_cmd(\"{name}\", \"{value}\") is not supported by l7-proxy"));
    // OpenSSL does not look at the case of the name.
    Ok(match &*name.to_ascii_lowercase() {
        "ciphersuites" => vec![TlsCommand::Suites(value.to_owned())],
        "cipherstring" => vec![TlsCommand::Ciphers(value.to_owned())],
        "curves" | "groups" => vec![TlsCommand::Curves(curves(scope, directive, value)?)],
        "minprotocol" => match version(value).ok_or_else(refused)? {
            Version::Older => Vec::new(),
            Version::Spoken(version) => vec![TlsCommand::Oldest(version)],
        },
        "maxprotocol" => match version(value).ok_or_else(refused)? {
            // Nothing would be left.
            Version::Older => return Err(refused()),
            Version::Spoken(version) => vec![TlsCommand::Newest(version)],
        },
        "protocol" => vec![TlsCommand::Versions(protocols(value).ok_or_else(refused)?)],
        "options" => {
            let options = value.split(',').map(str::trim).map(|word| option(word).ok_or_else(refused));
            options.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        }
        _ => return Err(refused()),
    })
}

enum Version {
    /// One that is not spoken here in any case.
    Older,
    Spoken(TlsVersion),
}

fn version(word: &str) -> Option<Version> {
    match word {
        "SSLv3" | "TLSv1" | "TLSv1.1" | "None" => Some(Version::Older),
        "TLSv1.2" => Some(Version::Spoken(TlsVersion::Tls12)),
        "TLSv1.3" => Some(Version::Spoken(TlsVersion::Tls13)),
        _ => None,
    }
}

/// Reads a list of versions, each of which is added or, behind a hyphen, taken away.
fn protocols(words: &str) -> Option<TlsVersions> {
    let mut found = TlsVersions { tls12: false, tls13: false };
    for word in words.split(',').map(str::trim) {
        let (on, word) = sign(word);
        if word == "ALL" {
            (found.tls12, found.tls13) = (on, on);
            continue;
        }
        match version(word)? {
            Version::Older => {}
            Version::Spoken(TlsVersion::Tls12) => found.tls12 = on,
            Version::Spoken(TlsVersion::Tls13) => found.tls13 = on,
        }
    }
    Some(found)
}

/// Reads an option; some ask for what is so anyhow, and `None` of those ask for what cannot be.
fn option(word: &str) -> Option<Option<TlsCommand>> {
    let (on, word) = sign(word);
    let is_so = |so: bool| if on == so { Some(None) } else { None };
    match &*word.to_ascii_lowercase() {
        "serverpreference" => Some(Some(TlsCommand::ServerPreference(on))),
        "sessionticket" => Some(Some(TlsCommand::SessionTicket(on))),
        "norenegotiation" | "noresumptiononrenegotiation" | "ecdhsingle" | "dhsingle" | "antireplay" => {
            is_so(true)
        }
        "extendedmastersecret" | "middleboxcompat" => is_so(true),
        "compression" | "unsafelegacyrenegotiation" | "unsafelegacyserverconnect" | "clientrenegotiation" => {
            is_so(false)
        }
        "allownodhekex" | "emptyfragments" | "bugs" | "prioritizechacha" | "ktls" | "encryptthenmac" => {
            is_so(false)
        }
        _ => None,
    }
}

fn sign(word: &str) -> (bool, &str) {
    match word.strip_prefix('-') {
        Some(word) => (false, word),
        None => (true, word.strip_prefix('+').unwrap_or(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_where_they_can_hold() {
        assert_eq!(option("ServerPreference"), Some(Some(TlsCommand::ServerPreference(true))));
        assert_eq!(option("-SessionTicket"), Some(Some(TlsCommand::SessionTicket(false))));
        assert_eq!(option("-Compression"), Some(None));
        assert_eq!(option("Compression"), None);
        assert_eq!(option("KTLS"), None);
        assert_eq!(option("PrioritizeChaCha"), None);
        assert_eq!(option("Nonsense"), None);
    }

    #[test]
    fn list_of_versions_adds_and_takes_away() {
        let found = |words| protocols(words).map(|found| (found.tls12, found.tls13));
        assert_eq!(found("-ALL,TLSv1.3"), Some((false, true)));
        assert_eq!(found("ALL, -TLSv1.3"), Some((true, false)));
        assert_eq!(found("TLSv1.1,TLSv1.2"), Some((true, false)));
        assert_eq!(found("TLSv1.4"), None);
    }
}
