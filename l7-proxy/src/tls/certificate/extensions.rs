//! What a certificate of version 3 says beyond its fields (RFC 5280, 4.2).

use l4_proxy::tls::der::{BOOLEAN, INTEGER, OCTET_STRING, OID, SEQUENCE, each, expect, optional};

/// The extensions that decide about a certificate; those of an older certificate are all absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::tls) struct Extensions<'a> {
    /// Whether it may sign others.
    pub(in crate::tls) authority: Option<bool>,
    /// How many authorities may stand between it and the end of a chain.
    pub(in crate::tls) path_length: Option<usize>,
    /// What its key may be used for: the first eight [bits](usage).
    pub(in crate::tls) usage: Option<u8>,
    /// What it may be shown for, as identifiers.
    purposes: Option<&'a [u8]>,
    /// Other names of whose it is.
    pub(in crate::tls) names: Option<&'a [u8]>,
    /// Tells its key from others of its subject.
    pub(in crate::tls) subject_key: Option<&'a [u8]>,
    /// Tells the key that signed it from others of its issuer.
    pub(in crate::tls) authority_key: Option<&'a [u8]>,
    /// Whether it limits the names of those that it signs.
    pub(in crate::tls) constrains_names: bool,
    /// Whether it says something that must be understood and is not.
    pub(in crate::tls) is_beyond_us: bool,
}

/// What a key may be used for.
pub(in crate::tls) mod usage {
    pub(in crate::tls) const DIGITAL_SIGNATURE: u8 = 0x80;
    pub(in crate::tls) const KEY_ENCIPHERMENT: u8 = 0x20;
    pub(in crate::tls) const KEY_AGREEMENT: u8 = 0x08;
    pub(in crate::tls) const CERTIFICATES: u8 = 0x04;
    pub(in crate::tls) const REVOCATION_LISTS: u8 = 0x02;
}

impl<'a> Extensions<'a> {
    pub(super) fn parse(extensions: Option<&'a [u8]>) -> Option<Self> {
        let mut found = Self::default();
        let mut seen = Vec::new();
        for extension in each(extensions.unwrap_or_default()) {
            let (kind, rest) = expect(extension.filter(|(tag, _)| *tag == SEQUENCE)?.1, OID)?;
            let (critical, rest) = optional(rest, BOOLEAN);
            let (value, _) = expect(rest, OCTET_STRING)?;
            // Each is compared with all before it, and a client may send as many as it likes.
            if seen.len() == EXTENSIONS_MAX || seen.contains(&kind) {
                return None;
            }
            seen.push(kind);
            let is_known = match kind {
                [0x55, 0x1d, number] => found.take(*number, value)?,
                _ => false,
            };
            let is_critical = critical.is_some_and(|critical| critical != [0]);
            found.is_beyond_us |= is_critical && !is_known;
        }
        Some(found)
    }

    /// Takes in an extension of X.509 itself; returns whether it is known.
    fn take(&mut self, number: u8, value: &'a [u8]) -> Option<bool> {
        match number {
            14 => self.subject_key = Some(expect(value, OCTET_STRING)?.0),
            15 => {
                let (bits, _) = expect(value, l4_proxy::tls::der::BIT_STRING)?;
                self.usage = Some(bits.get(1).copied().unwrap_or(0));
            }
            17 => self.names = Some(expect(value, SEQUENCE)?.0),
            19 => {
                let (authority, rest) = optional(expect(value, SEQUENCE)?.0, BOOLEAN);
                self.authority = Some(authority.is_some_and(|authority| authority != [0]));
                if let (Some(length), _) = optional(rest, INTEGER) {
                    let length = length.iter().try_fold(0_usize, |sum, &digit| {
                        sum.checked_mul(256)?.checked_add(usize::from(digit))
                    });
                    self.path_length = Some(length?);
                }
            }
            30 => self.constrains_names = true,
            35 => self.authority_key = optional(expect(value, SEQUENCE)?.0, KEY_ID).0,
            37 => self.purposes = Some(expect(value, SEQUENCE)?.0),
            // Where to ask for revocation lists, and policies, which nobody here asks for.
            31 | 32 | 33 | 36 | 54 => {}
            _ => return Some(false),
        }
        Some(true)
    }

    /// Whether it may be shown for this purpose, an identifier.
    pub(in crate::tls) fn allows(&self, purpose: &[u8]) -> bool {
        self.purposes.is_none_or(|listed| {
            each(listed).flatten().any(|(tag, found)| tag == OID && (found == purpose || found == ANY))
        })
    }
}

/// The key's own identifier, in that of an authority's key.
const KEY_ID: u8 = 0x80;

/// For whatever purpose: 2.5.29.37.0.
const ANY: &[u8] = &[0x55, 0x1d, 37, 0];

/// Certificates have about ten; one with more than this cannot be read.
const EXTENSIONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_with_countless_extensions_is_not_read() {
        let extensions = |count: usize| -> Vec<u8> {
            let one = |number: usize| [SEQUENCE, 6, OID, 2, 0x29, number as u8, OCTET_STRING, 0];
            (0..count).flat_map(one).collect()
        };
        assert_eq!(Extensions::parse(Some(&extensions(EXTENSIONS_MAX))), Some(Extensions::default()));
        assert_eq!(Extensions::parse(Some(&extensions(EXTENSIONS_MAX + 1))), None);
    }
}
