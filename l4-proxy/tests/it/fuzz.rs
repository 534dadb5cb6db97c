//! What the fuzzers play, over the inputs they have kept and over what the dice make of them.

#[path = "../../fuzz/play.rs"]
mod play;

use std::path::Path;

/// The inputs of a folder, in the same order everywhere.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = folder.read_dir().expect("a corpus").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files.iter().map(|file| std::fs::read(file).expect("bytes")).collect()
}

fn check(name: &str, play: fn(&[u8]), mutants: usize) {
    let corpus = corpus(name);
    corpus.iter().for_each(|bytes| play(bytes));
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        // Knuth's MMIX generator; its high bits are good enough here.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides.max(1)
    };
    for _ in 0..mutants {
        let mut bytes = corpus[roll(corpus.len())].clone();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len() + 1);
            let end = (at + roll(16)).min(bytes.len());
            match roll(4) {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let other = &corpus[roll(corpus.len())];
                    bytes.splice(at..end, other[roll(other.len())..].iter().copied().take(200));
                }
                2 => bytes.insert(at, [0, 0xff, b'{', b'}', b'$', b'"', b'\n', b' '][roll(8)]),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << roll(8)),
            }
        }
        play(&bytes);
    }
}

#[test]
fn no_bytes_break_the_reader_of_keepalived_conf() {
    check("keepalived", play::keepalived, 1_000);
}

#[test]
fn no_bytes_break_the_codec_of_the_proxy_protocol() {
    check("proxy_protocol", play::proxy_protocol, 50_000);
}
