//! Whatever is in a file: it is read, and nothing breaks.

use super::read;

/// Pieces of the language, of which the texts are made.
const PIECES: [&str; 26] = [
    "{",
    "}",
    "\n",
    "\"",
    "'",
    "\\",
    "$A=",
    "${A}",
    "$A ",
    "@main ",
    "@^main ",
    "~SEQ(N,1,3) ",
    "~LST({A,B},{1,2}) ",
    "virtual_server 10.0.0.1 80 {\n",
    "real_server 10.0.0.2 80 {\n",
    "HTTP_GET {\n",
    "url {\n",
    "path /\n",
    "status_code 200-299\n",
    "quorum 9\n",
    "weight -1\n",
    "include x\n",
    "include_check +match\n",
    "#",
    "\u{e9}",
    "10.0.0.1-",
];

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

const BASE: &str = include_str!("sample.conf");

#[test]
fn no_text_breaks_the_reader() {
    for seed in 1..=400u64 {
        let mut draw = Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut text: Vec<char> = BASE.chars().collect();
        for _ in 0..=draw.below(12) {
            let at = draw.below(text.len());
            match draw.below(4) {
                0 => _ = text.drain(at..(at + draw.below(40)).min(text.len())),
                1 => _ = text.splice(at..at, PIECES[draw.below(PIECES.len())].chars()).count(),
                2 => {
                    let part: Vec<char> = text[at..(at + draw.below(200)).min(text.len())].to_vec();
                    let to = draw.below(text.len());
                    text.splice(to..to, part);
                }
                _ => text[at] = char::from(draw.below(128) as u8),
            }
        }
        let text: String = text.into_iter().collect();
        for complaint in read(&text).complaints {
            // Every place that is named is there, and can be shown.
            assert!(complaint.line() >= 1, "seed {seed}");
            assert!(!complaint.to_string().is_empty(), "seed {seed}");
        }
    }
}

#[test]
fn texts_that_grow_without_end_are_stopped() {
    for text in [
        "$A=${A}${A}\n$A\n",
        "$A= \\\n$A \\\n$A\n$A\n",
        "~SEQ(A,1,65536) ~SEQ(B,1,65536) a\n",
        &"{".repeat(100_000),
        &"virtual_server {\n".repeat(10_000),
    ] {
        assert!(!read(text).complaints.is_empty(), "{}", &text[..20.min(text.len())]);
    }
}
