//! `$proxy_protocol_…`: what a header of the PROXY protocol said.

use l4_proxy::proxy_protocol::{Addresses, Header};

/// A part of a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proxied {
    /// `$proxy_protocol_addr`: the client's address.
    Addr,
    /// `$proxy_protocol_port`
    Port,
    /// `$proxy_protocol_server_addr`: the address that the client connected to.
    ServerAddr,
    /// `$proxy_protocol_server_port`
    ServerPort,
    /// `$proxy_protocol_tlv_NAME`: a value of this type.
    Tlv(u8),
    /// `$proxy_protocol_tlv_ssl_NAME`: a value of this type inside that of TLS.
    Ssl(u8),
    /// `$proxy_protocol_tlv_ssl_verify`: 0 if the client's certificate was good.
    SslVerify,
}

/// The type of the value that holds those of TLS.
const SSL: u8 = 0x20;

impl Proxied {
    /// Returns the part that a variable's name stands for, given what follows `proxy_protocol_`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "addr" => Self::Addr,
            "port" => Self::Port,
            "server_addr" => Self::ServerAddr,
            "server_port" => Self::ServerPort,
            name => return Self::tlv(name.strip_prefix("tlv_")?),
        })
    }

    fn tlv(name: &str) -> Option<Self> {
        Some(match name {
            "alpn" => Self::Tlv(0x01),
            "authority" => Self::Tlv(0x02),
            "unique_id" => Self::Tlv(0x05),
            "ssl" => Self::Tlv(SSL),
            "netns" => Self::Tlv(0x30),
            "ssl_verify" => Self::SslVerify,
            "ssl_version" => Self::Ssl(0x21),
            "ssl_cn" => Self::Ssl(0x22),
            "ssl_cipher" => Self::Ssl(0x23),
            "ssl_sig_alg" => Self::Ssl(0x24),
            "ssl_key_alg" => Self::Ssl(0x25),
            name => match name.strip_prefix("ssl_") {
                Some(number) => Self::Ssl(hexadecimal(number)?),
                None => Self::Tlv(hexadecimal(name)?),
            },
        })
    }

    /// Returns the part of a header.
    pub(super) fn of(self, header: &Header) -> Option<Vec<u8>> {
        let (source, destination) = match header.addresses {
            Addresses::Tcp(source, destination) | Addresses::Udp(source, destination) => {
                (Some(source), Some(destination))
            }
            Addresses::Own => (None, None),
        };
        let value = |kind: u8| {
            let found = header.tlvs.iter().find(|tlv| tlv.kind == kind);
            found.map(|tlv| tlv.value.to_vec())
        };
        match self {
            Self::Addr => source.map(|addr| addr.ip().to_string().into_bytes()),
            Self::Port => source.map(|addr| addr.port().to_string().into_bytes()),
            Self::ServerAddr => destination.map(|addr| addr.ip().to_string().into_bytes()),
            Self::ServerPort => destination.map(|addr| addr.port().to_string().into_bytes()),
            Self::Tlv(kind) => value(kind),
            Self::SslVerify => {
                let verified = value(SSL)?.get(1..5)?.try_into().ok()?;
                Some(u32::from_be_bytes(verified).to_string().into_bytes())
            }
            Self::Ssl(kind) => inner(value(SSL)?.get(5..)?, kind),
        }
    }
}

/// Finds a value among those inside another.
fn inner(mut values: &[u8], wanted: u8) -> Option<Vec<u8>> {
    while let [kind, high, low, rest @ ..] = values {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..length)?;
        if *kind == wanted {
            return Some(value.to_vec());
        }
        values = &rest[length..];
    }
    None
}

/// Reads a type written as `0x2a`.
fn hexadecimal(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("0x")?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn parts_are_found_by_name_and_by_number() {
        let source: SocketAddr = "192.0.2.1:1234".parse().unwrap();
        let mut header = Header::tcp(source, "192.0.2.2:80".parse().unwrap());
        assert!(header.tlvs.push(0x02, b"example.org"));
        assert!(header.tlvs.push(SSL, b"\x01\x00\x00\x00\x07\x21\x00\x07TLSv1.3\x22\x00\x02cn"));
        for (name, expected) in [
            ("addr", Some("192.0.2.1")),
            ("server_port", Some("80")),
            ("tlv_authority", Some("example.org")),
            ("tlv_0x02", Some("example.org")),
            ("tlv_0x002", Some("example.org")),
            ("tlv_alpn", None),
            ("tlv_ssl_verify", Some("7")),
            ("tlv_ssl_version", Some("TLSv1.3")),
            ("tlv_ssl_0x22", Some("cn")),
            ("tlv_ssl_cipher", None),
        ] {
            let found = Proxied::named(name).unwrap().of(&header);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name}");
        }
        for name in ["tlv_", "tlv_0x", "tlv_0x100", "tlv_0x+1", "tlv_2", "nothing"] {
            assert_eq!(Proxied::named(name), None, "{name}");
        }
    }
}
