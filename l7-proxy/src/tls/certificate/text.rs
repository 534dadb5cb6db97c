//! Certificates as text: hexadecimal, and PEM.

/// Returns bytes in hexadecimal; `letter` tells the case.
pub(in crate::tls) fn hex(bytes: &[u8], letter: char) -> Vec<u8> {
    let digits: &[u8; 16] =
        if letter.is_ascii_uppercase() { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// Returns the SHA-1 of a certificate, which is how nginx tells certificates apart in logs.
pub(in crate::tls) fn sha1(der: &[u8]) -> [u8; 20] {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    let mut out = [0; 20];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Returns a certificate in PEM.
pub(in crate::tls) fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
                out.push(if place <= group.len() { char::from(digit) } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
