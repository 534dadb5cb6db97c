//! What the fuzzer plays, over the inputs it has kept and over bytes by the dice.

#[path = "../../fuzz/play.rs"]
mod play;

use std::path::Path;

use play::play;

/// Names the bytes of a play that panics, as a file that the fuzzer can play again.
struct Named<'a>(&'a [u8]);

impl Drop for Named<'_> {
    #[allow(clippy::print_stderr, reason = "a failure is of no use without its bytes")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("played: {:?}", self.0);
        }
    }
}

fn check(bytes: &[u8]) {
    let _named = Named(bytes);
    play(bytes);
}

#[test]
fn inputs_that_the_fuzzer_kept_do_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/director");
    let mut played = 0;
    for file in corpus.read_dir().expect("a corpus") {
        check(&std::fs::read(file.expect("a file").path()).expect("bytes"));
        played += 1;
    }
    assert!(played >= 20, "{played} inputs");
}

#[test]
fn bytes_by_the_dice_do_no_harm() {
    let mut state = 1u64;
    for length in 0..250 {
        let bytes: Vec<u8> = (0..length * 3)
            .map(|_| {
                // Knuth's MMIX generator; its high bits are good enough here.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        check(&bytes);
    }
}
