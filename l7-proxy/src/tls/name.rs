//! Whether a server's certificate is made out for a name, by OpenSSL's rules.
//!
//! The names are those of the extension; where it has no name of a host, the common name counts,
//! which webpki never looks at and which certificates inside of companies often rely on.

use rustls::pki_types::ServerName;

use super::certificate::Certificate;
use l4_proxy::tls::der::each;

/// Whether the certificate is made out for this server.
pub(super) fn is_of(certificate: &Certificate<'_>, server: &ServerName<'_>) -> bool {
    let Some(names) = certificate.extensions().map(|found| found.names.unwrap_or_default()) else {
        return false;
    };
    if let ServerName::IpAddress(ip) = server {
        let bytes: &[u8] = match ip {
            rustls::pki_types::IpAddr::V4(ip) => ip.as_ref(),
            rustls::pki_types::IpAddr::V6(ip) => ip.as_ref(),
        };
        if each(names).flatten().any(|(tag, name)| tag == IP_ADDRESS && name == bytes) {
            return true;
        }
    }
    let wanted = server.to_str();
    let hosts = || each(names).flatten().filter(|(tag, _)| *tag == DNS_NAME).map(|(_, name)| name);
    match hosts().next() {
        Some(_) => hosts().any(|name| matches(name, wanted.as_bytes())),
        None => certificate.subject().common_names().any(|name| matches(name, wanted.as_bytes())),
    }
}

/// Whether a name, which may begin with a `*` that stands for one label, is meant by another.
fn matches(name: &[u8], wanted: &[u8]) -> bool {
    let wanted = wanted.strip_suffix(b".").unwrap_or(wanted);
    if wanted.is_empty() {
        return false;
    }
    let Some(suffix) = name.strip_prefix(b"*") else { return name.eq_ignore_ascii_case(wanted) };
    // `*.com` would be everybody.
    let is_narrow = suffix.starts_with(b".") && suffix.iter().filter(|&&byte| byte == b'.').count() > 1;
    let Some(first) = wanted.len().checked_sub(suffix.len()).filter(|&length| length > 0) else {
        return false;
    };
    let (label, rest) = wanted.split_at(first);
    let is_host = wanted.iter().any(|byte| !byte.is_ascii_digit() && *byte != b'.');
    is_narrow && is_host && !label.contains(&b'.') && rest.eq_ignore_ascii_case(suffix)
}

const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_one_label() {
        for (name, wanted, expected) in [
            ("a.example", "A.Example", true),
            ("a.example", "a.example.", true),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", "c.b.a.example", false),
            ("*.example", "a.example", false),
            ("*", "example", false),
            ("*a.b.example", "ca.b.example", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("a.example", "a.example\0", false),
            ("", "", false),
        ] {
            assert_eq!(matches(name.as_bytes(), wanted.as_bytes()), expected, "{name} {wanted}");
        }
    }
}
