//! The oldest form of crypt(3): DES, 25 times, on nothing, with the password as its key.
//!
//! Files that `openssl passwd` or `htpasswd -d` have written are full of it. It looks at eight characters, and
//! can be guessed: who has such files should write new ones. The salt changes the cipher itself (it swaps bits
//! of the expansion), so that no crate's DES will do.

/// Returns the digest of a password under a salt, in crypt(3)'s alphabet; `None` if that is no salt.
pub(super) fn crypt(password: &[u8], salt: [u8; 2]) -> Option<[u8; 11]> {
    let mut expansion = EXPANSION;
    for (place, digit) in salt.into_iter().enumerate() {
        let digit = DIGITS.iter().position(|&known| known == digit)?;
        for bit in (0..6).filter(|bit| digit >> bit & 1 == 1) {
            expansion.swap(6 * place + bit, 6 * place + bit + 24);
        }
    }
    // A null ends a password, as in C.
    let password = password.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut key = [0; 8];
    key.iter_mut().zip(password).for_each(|(key, &byte)| *key = byte << 1);
    let keys = schedule(u64::from_be_bytes(key));
    // The last permutation of one pass and the first of the next cancel each other, and all of nothing is nothing.
    let (mut left, mut right) = (0_u32, 0_u32);
    for _ in 0..25 {
        for &key in &keys {
            (left, right) = (right, left ^ mix(right, key, &expansion));
        }
        (left, right) = (right, left);
    }
    let block = permute(u64::from(left) << 32 | u64::from(right), 64, &LAST);
    let bits = u128::from(block) << 2;
    Some(std::array::from_fn(|place| DIGITS[(bits >> (60 - 6 * place) & 0x3f) as usize]))
}

/// The sixteen keys of a pass, of 48 bits.
fn schedule(key: u64) -> [u64; 16] {
    const HALF: u64 = (1 << 28) - 1;
    let chosen = permute(key, 64, &KEY);
    let (mut left, mut right) = (chosen >> 28, chosen & HALF);
    std::array::from_fn(|round| {
        let by = if matches!(round, 0 | 1 | 8 | 15) { 1 } else { 2 };
        let turn = |half: u64| (half << by | half >> (28 - by)) & HALF;
        (left, right) = (turn(left), turn(right));
        permute(left << 28 | right, 56, &ROUND_KEY)
    })
}

fn mix(half: u32, key: u64, expansion: &[u8; 48]) -> u32 {
    let mixed = permute(u64::from(half), 32, expansion) ^ key;
    let mut out = 0;
    for (place, table) in SUBSTITUTIONS.iter().enumerate() {
        let six = (mixed >> (42 - 6 * place) & 0x3f) as usize;
        let (row, column) = (six >> 4 & 2 | six & 1, six >> 1 & 0xf);
        out = out << 4 | u64::from(table[16 * row + column]);
    }
    // Of 32 bits there are no more.
    permute(out, 32, &MIXED) as u32
}

/// Picks bits of a word of so many, which are counted from 1 and from the highest.
fn permute(bits: u64, width: u32, places: &[u8]) -> u64 {
    places.iter().fold(0, |out, &place| out << 1 | bits >> (width - u32::from(place)) & 1)
}

/// The alphabet of crypt(3).
pub(super) const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `FP` of FIPS 46-3.
#[rustfmt::skip]
const LAST: [u8; 64] = [
    40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31, 38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45, 13, 53,
    21, 61, 29, 36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27, 34, 2, 42, 10, 50, 18, 58, 26, 33, 1,
    41, 9, 49, 17, 57, 25,
];

/// `E`.
#[rustfmt::skip]
const EXPANSION: [u8; 48] = [
    32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17, 16, 17, 18, 19, 20, 21, 20,
    21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];

/// `P`.
const MIXED: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6,
    22, 11, 4, 25,
];

/// `PC-1`.
#[rustfmt::skip]
const KEY: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36, 63,
    55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];

/// `PC-2`.
#[rustfmt::skip]
const ROUND_KEY: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37, 47, 55,
    30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

/// `S1` to `S8`.
#[rustfmt::skip]
const SUBSTITUTIONS: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
        4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
        0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
        13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
        10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
        4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
        9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
        1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
        7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];

#[cfg(test)]
mod tests {
    use super::crypt;

    /// From crypt(3) of libxcrypt.
    #[test]
    fn digests_are_those_of_the_system() {
        for (password, text) in WRITTEN {
            let text = text.as_bytes();
            let digest = crypt(password.as_bytes(), [text[0], text[1]]).unwrap();
            assert_eq!(digest[..], text[2..], "{password}");
        }
        assert_eq!(crypt(b"x", *b"a$"), None);
    }

    const WRITTEN: [(&str, &str); 5] = [
        ("pw", "abzlUXK5ed5rs"),
        ("", "..X8NBuQ4l6uQ"),
        ("open sesame", "zZRACt9r1PC6E"),
        ("12345678", "9/.O1K7QdDsCw"),
        ("pässword", "kqMgTVFnqSVlo"),
    ];
}
