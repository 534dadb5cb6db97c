//! What is known of a TLS connection once its handshake is done, for the variables that show it.

use rustls::pki_types::CertificateDer;
use rustls::{
    CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection, SignatureScheme,
    SupportedCipherSuite,
};

use super::certificate::{self, Certificate};

/// A finished handshake with a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The version of TLS, as OpenSSL names it.
    pub protocol: &'static str,
    /// The cipher suite, as OpenSSL names it.
    pub cipher: String,
    /// The suites that the client offered, as OpenSSL names them, joined by colons.
    pub ciphers: String,
    /// The groups that the client offered for the key exchange, likewise.
    pub curves: String,
    /// The ways of signing that the client offered, likewise.
    pub signatures: String,
    /// How the server has signed, as OpenSSL names it; empty where a session went on.
    pub signature: String,
    /// The name of the group that the key exchange went over; empty where a session went on.
    pub curve: String,
    /// The name that the client asked for; empty if it asked for none.
    pub server_name: String,
    /// The protocol that was agreed on inside; empty if none was.
    pub alpn: Vec<u8>,
    /// Whether an earlier session went on.
    pub resumed: bool,
    /// What tells the session from others: that by which it goes on, or by which it went on. Empty
    /// in TLS 1.2, of whose sessions rustls tells nothing.
    pub session: Vec<u8>,
    /// The client's certificate, if it sent one.
    pub client: Option<CertificateDer<'static>>,
    /// Whether the client's certificate is good.
    pub verified: Verified,
}

/// What tells a session from others. It rides in the ticket, for rustls tells of no other.
pub(super) type SessionId = [u8; 32];

/// Whether a client's certificate is good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verified {
    /// There is none.
    #[default]
    None,
    /// It is.
    Success,
    /// Nobody who is trusted has signed it, for this reason.
    Unknown(String),
    /// It is not, for another reason.
    Failed(String),
}

/// Something that a variable shows of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVariable {
    /// `$ssl_protocol`
    Protocol,
    /// `$ssl_cipher`
    Cipher,
    /// `$ssl_ciphers`
    Ciphers,
    /// `$ssl_curve`
    Curve,
    /// `$ssl_curves`
    Curves,
    /// `$ssl_sigalgs`
    Signatures,
    /// `$ssl_sigalg`
    Signature,
    /// `$ssl_server_name`
    ServerName,
    /// `$ssl_alpn_protocol`
    Alpn,
    /// `$ssl_session_reused`: `r` or `.`
    SessionReused,
    /// `$ssl_session_id`: of TLS 1.3.
    SessionId,
    /// `$ssl_early_data`: empty, early data is never taken.
    EarlyData,
    /// `$ssl_client_verify`
    ClientVerify,
    /// `$ssl_client_raw_cert`
    ClientRawCertificate,
    /// `$ssl_client_cert`: the same with a tab before each line but the first.
    ClientCertificate,
    /// `$ssl_client_escaped_cert`
    ClientEscapedCertificate,
    /// `$ssl_client_s_dn`
    ClientSubject,
    /// `$ssl_client_i_dn`
    ClientIssuer,
    /// `$ssl_client_s_dn_legacy`
    ClientSubjectLegacy,
    /// `$ssl_client_i_dn_legacy`
    ClientIssuerLegacy,
    /// `$ssl_client_serial`
    ClientSerial,
    /// `$ssl_client_fingerprint`: SHA-1 of the certificate.
    ClientFingerprint,
    /// `$ssl_client_v_start`
    ClientNotBefore,
    /// `$ssl_client_v_end`
    ClientNotAfter,
    /// `$ssl_client_v_remain`: days until the certificate expires.
    ClientRemaining,
}

impl TlsVariable {
    /// Returns the variable of that name, without its `ssl_`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "protocol" => Self::Protocol,
            "cipher" => Self::Cipher,
            "ciphers" => Self::Ciphers,
            "curve" => Self::Curve,
            "curves" => Self::Curves,
            "sigalgs" => Self::Signatures,
            "sigalg" => Self::Signature,
            "server_name" => Self::ServerName,
            "alpn_protocol" => Self::Alpn,
            "session_reused" => Self::SessionReused,
            "session_id" => Self::SessionId,
            "early_data" => Self::EarlyData,
            "client_verify" => Self::ClientVerify,
            "client_raw_cert" => Self::ClientRawCertificate,
            "client_cert" => Self::ClientCertificate,
            "client_escaped_cert" => Self::ClientEscapedCertificate,
            "client_s_dn" => Self::ClientSubject,
            "client_i_dn" => Self::ClientIssuer,
            "client_s_dn_legacy" => Self::ClientSubjectLegacy,
            "client_i_dn_legacy" => Self::ClientIssuerLegacy,
            "client_serial" => Self::ClientSerial,
            "client_fingerprint" => Self::ClientFingerprint,
            "client_v_start" => Self::ClientNotBefore,
            "client_v_end" => Self::ClientNotAfter,
            "client_v_remain" => Self::ClientRemaining,
            _ => return None,
        })
    }

    /// Returns the variable's value; `None` if there is nothing to show.
    pub fn value(self, handshake: Option<&Handshake>) -> Option<Vec<u8>> {
        let handshake = handshake?;
        let text = |text: &str| Some(text.as_bytes().to_vec()).filter(|text| !text.is_empty());
        let client = || handshake.client.as_deref();
        let parsed = || client().and_then(Certificate::parse);
        match self {
            Self::Protocol => text(handshake.protocol),
            Self::Cipher => text(&handshake.cipher),
            Self::Ciphers => text(&handshake.ciphers),
            Self::Curve => text(&handshake.curve),
            Self::Curves => text(&handshake.curves),
            Self::Signatures => text(&handshake.signatures),
            Self::Signature => text(&handshake.signature),
            Self::ServerName => text(&handshake.server_name),
            Self::Alpn => Some(handshake.alpn.clone()).filter(|alpn| !alpn.is_empty()),
            Self::SessionReused => text(if handshake.resumed { "r" } else { "." }),
            Self::SessionId => Some(certificate::hex(&handshake.session, 'a')).filter(|hex| !hex.is_empty()),
            Self::EarlyData => None,
            Self::ClientVerify => match &handshake.verified {
                Verified::None => text("NONE"),
                Verified::Success => text("SUCCESS"),
                Verified::Unknown(reason) | Verified::Failed(reason) => text(&format!("FAILED:{reason}")),
            },
            Self::ClientRawCertificate => client().map(|der| certificate::pem(der).into_bytes()),
            Self::ClientCertificate => {
                client().map(|der| certificate::pem(der).trim_end().replace('\n', "\n\t").into_bytes())
            }
            Self::ClientEscapedCertificate => client().map(|der| escape(&certificate::pem(der))),
            Self::ClientSubject => parsed().map(|found| found.subject().rfc2253().into_bytes()),
            Self::ClientIssuer => parsed().map(|found| found.issuer().rfc2253().into_bytes()),
            Self::ClientSubjectLegacy => parsed().map(|found| found.subject().one_line().into_bytes()),
            Self::ClientIssuerLegacy => parsed().map(|found| found.issuer().one_line().into_bytes()),
            Self::ClientSerial => parsed().map(|found| certificate::hex(found.serial(), 'A')),
            Self::ClientFingerprint => client().map(|der| certificate::hex(&certificate::sha1(der), 'a')),
            Self::ClientNotBefore => parsed().map(|found| found.not_before().to_string().into_bytes()),
            Self::ClientNotAfter => parsed().map(|found| found.not_after().to_string().into_bytes()),
            Self::ClientRemaining => {
                parsed().map(|found| found.not_after().days_left().to_string().into_bytes())
            }
        }
    }
}

/// Writes everything but letters, digits and `-._~` as `%XX`.
fn escape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&certificate::hex(&[byte], 'A'));
        }
    }
    out
}

impl Handshake {
    /// Reads what a connection has agreed on.
    pub(crate) fn of(
        connection: &ServerConnection,
        session: &SessionId,
        verified: impl FnOnce(&[CertificateDer<'_>]) -> Verified,
    ) -> Self {
        let client = connection.peer_certificates().filter(|chain| !chain.is_empty());
        Self {
            protocol: connection.protocol_version().map_or("", protocol),
            cipher: connection.negotiated_cipher_suite().map(cipher).unwrap_or_default(),
            ciphers: String::new(),
            curves: String::new(),
            signatures: String::new(),
            signature: String::new(),
            curve: connection
                .negotiated_key_exchange_group()
                .map_or_else(String::new, |group| curve(&group.name())),
            server_name: connection.server_name().unwrap_or_default().to_owned(),
            alpn: connection.alpn_protocol().unwrap_or_default().to_vec(),
            session: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => {
                    connection.received_resumption_data().unwrap_or(session).to_vec()
                }
                _ => Vec::new(),
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            verified: client.map_or(Verified::None, verified),
            client: client.map(|chain| chain[0].clone().into_owned()),
        }
    }
}

/// Returns OpenSSL's name of a group of key exchange; a number where it has none.
pub(super) fn curve(group: &NamedGroup) -> String {
    match group {
        NamedGroup::secp256r1 => "prime256v1".to_owned(),
        NamedGroup::secp384r1 => "secp384r1".to_owned(),
        NamedGroup::secp521r1 => "secp521r1".to_owned(),
        NamedGroup::X25519 => "X25519".to_owned(),
        NamedGroup::X448 => "X448".to_owned(),
        other => {
            let name = other.as_str().map(str::to_ascii_lowercase);
            name.unwrap_or_else(|| format!("0x{:04x}", u16::from(*other)))
        }
    }
}

/// Returns the registered name of a way of signing, as OpenSSL writes it; a number where it has none.
pub(super) fn signature(scheme: &SignatureScheme) -> String {
    let Some(name) = scheme.as_str() else { return format!("0x{:04x}", u16::from(*scheme)) };
    let name = name.to_ascii_lowercase().replace("rsa_pss_", "rsa_pss_rsae_");
    name.replace("_nistp256_", "_secp256r1_")
        .replace("_nistp384_", "_secp384r1_")
        .replace("_nistp521_", "_secp521r1_")
}

/// Joins the names of what a client offers.
pub(super) fn joined<T>(offered: &[T], name: impl Fn(&T) -> String) -> String {
    offered.iter().map(name).collect::<Vec<_>>().join(":")
}

/// Returns OpenSSL's names of suites that a client offers: those that are known here by name, the
/// others by number.
pub(super) fn offered(suites: &[CipherSuite]) -> String {
    joined(suites, |suite| {
        let ours = rustls::crypto::ring::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == *suite);
        ours.map_or_else(|| format!("0x{:04x}", u16::from(*suite)), |known| cipher(*known))
    })
}

fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "unknown",
    }
}

/// Returns OpenSSL's name of a suite: the registered one for TLS 1.3, its own older one for 1.2.
pub(super) fn cipher(suite: SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().map_or_else(String::new, str::to_owned);
    if let Some(rest) = name.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    let short = name.strip_prefix("TLS_").unwrap_or(&name).replace("_WITH_AES_128_", "_AES128_");
    let short = short
        .replace("_WITH_AES_256_", "_AES256_")
        .replace("_WITH_CHACHA20_POLY1305_SHA256", "_CHACHA20_POLY1305");
    short.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_of_openssl() {
        let names: Vec<String> =
            rustls::crypto::ring::ALL_CIPHER_SUITES.iter().map(|suite| cipher(*suite)).collect();
        for expected in [
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ] {
            assert!(names.iter().any(|name| name == expected), "{expected} in {names:?}");
        }
    }

    #[test]
    fn plain_connection_shows_nothing() {
        assert_eq!(TlsVariable::Protocol.value(None), None);
        assert_eq!(TlsVariable::ClientVerify.value(None), None);
    }

    #[test]
    fn client_without_certificate_is_none() {
        let handshake = Handshake { protocol: "TLSv1.3", ..Handshake::default() };
        assert_eq!(TlsVariable::ClientVerify.value(Some(&handshake)).as_deref(), Some(&b"NONE"[..]));
        assert_eq!(TlsVariable::SessionReused.value(Some(&handshake)).as_deref(), Some(&b"."[..]));
        assert_eq!(TlsVariable::ClientSubject.value(Some(&handshake)), None);
    }
}
