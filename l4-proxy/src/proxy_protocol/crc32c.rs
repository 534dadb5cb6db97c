//! CRC-32C (Castagnoli), bit by bit: headers are short and seldom carry one.

pub(super) fn of(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_is_that_of_rfc_3720() {
        // RFC 3720, section B.4.
        assert_eq!(super::of(&[0; 32]), 0x8A91_36AA);
        assert_eq!(super::of(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(super::of(b"123456789"), 0xE306_9283);
    }
}
