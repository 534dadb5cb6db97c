//! What the fuzzers play, over the inputs they have kept and over what the dice make of them.

#[path = "../../fuzz/play.rs"]
pub(crate) mod play;

use std::path::Path;

/// The inputs of a folder, in the same order everywhere.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Plays what is kept, then so many inputs with some damage; returns how many of these were taken.
fn check(name: &str, play: impl Fn(&[u8]) -> bool, mutants: usize) -> usize {
    let corpus = corpus(name);
    let taken = corpus.iter().filter(|bytes| play(bytes)).count();
    assert!(taken >= 4, "{taken}");
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        // Knuth's MMIX generator; its high bits are good enough here.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides.max(1)
    };
    let mut taken = 0;
    for _ in 0..mutants {
        let mut bytes = corpus[roll(corpus.len())].clone();
        for _ in 0..=roll(3) {
            let at = roll(bytes.len() + 1);
            let end = (at + roll(16)).min(bytes.len());
            match roll(4) {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let other = &corpus[roll(corpus.len())];
                    bytes.splice(at..end, other[roll(other.len())..].iter().copied().take(40));
                }
                2 => bytes.insert(at, b"\0\xff\r\n {}$\";:/.%"[roll(14)]),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << roll(8)),
            }
        }
        taken += usize::from(play(&bytes));
    }
    taken
}

#[test]
fn no_bytes_break_the_reader_of_nginx_conf() {
    let taken = check("conf", play::conf, 1_500);
    assert!((50..1_450).contains(&taken), "the damage is too little or too much: {taken} were taken");
}

#[test]
fn no_bytes_make_a_target_that_is_read_in_two_ways() {
    let taken = check("target", play::target, 20_000);
    assert!((2_000..19_000).contains(&taken), "the damage is too little or too much: {taken} were taken");
}

#[test]
fn no_locations_are_searched_otherwise_than_by_the_twin() {
    let taken = check("locations", play::locations, 8_000);
    assert!(taken > 1_000, "too little was there to find: {taken}");
}

#[test]
fn no_bytes_make_a_head_that_is_read_in_two_ways() {
    let taken = check("head", play::head, 20_000);
    assert!((2_000..19_000).contains(&taken), "the damage is too little or too much: {taken} were taken");
}
