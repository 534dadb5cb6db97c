//! Kept inputs, changed by the dice: rules and what comes over the control socket may be anything, and
//! nothing of it ends a director.

#[path = "../../fuzz/play.rs"]
mod play;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lvsadm::Control;

use crate::director::Fake;

/// Numbers that are the same in each run, so that what fails once fails again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }
}

/// The inputs of a folder, in the same order everywhere.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One input of the corpus with some damage: bytes changed, gone, doubled, or those of another one.
fn mutant(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.roll(corpus.len())].clone();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(12)).min(bytes.len());
        match dice.roll(6) {
            0 => {
                bytes.drain(at..end);
            }
            1 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            2 => bytes.truncate(at),
            3 => {
                let other = &corpus[dice.roll(corpus.len())];
                bytes.splice(at..end, other[dice.roll(other.len())..].iter().copied());
            }
            4 => bytes.insert(at, [0, 0xff, b'\n', b' ', b'-', b':', 0x80][dice.roll(7)]),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
        }
    }
    bytes
}

#[test]
fn inputs_that_the_fuzzer_kept_do_no_harm() {
    corpus("rules").iter().for_each(|bytes| play::rules(bytes));
    let answered = corpus("frames").iter().filter(|bytes| play::frames(bytes)).count();
    assert!(answered >= 4, "{answered}");
}

#[test]
fn damaged_requests_are_answered_and_leave_the_table_sound() {
    let corpus = corpus("frames");
    let mut dice = Dice(0xD1CE);
    for _ in 0..1_500 {
        play::frames(&mutant(&corpus, &mut dice));
    }
}

#[test]
fn damaged_rules_are_read_or_refused_with_their_line() {
    let corpus = corpus("rules");
    let mut dice = Dice(0x5EED);
    let mut read = 0;
    for _ in 0..1_500 {
        let bytes = mutant(&corpus, &mut dice);
        play::rules(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        read += usize::from(lvsadm::rules::read("file", &text, |_| Ok(())).is_ok());
    }
    assert!((50..1_400).contains(&read), "the damage is too little or too much: {read} were read");
}

#[test]
fn damaged_frames_leave_the_director_answering() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let fake: Arc<dyn Control> = Arc::new(Fake::with("-A -t 192.0.2.1:80 -s rr\n"));
    let _server = lvsadm::serve(lvsadm::bind(&path).unwrap(), fake).unwrap();
    let corpus = corpus("frames");
    let mut dice = Dice(0xF4A3E);
    let mut answered = 0;
    for _ in 0..1_500 {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The director may have refused to hear the end.
        let _ = (&stream).write_all(&mutant(&corpus, &mut dice));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // It ends, one way or the other; a reset is what is left of an answer nobody could hear.
        match (&stream).read_to_end(&mut answer) {
            Ok(_) => answered += usize::from(answer.starts_with(b"LVSA")),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    assert!(answered > 300, "{answered}");
    let words = ["-L", "-n"].map(str::to_owned).to_vec();
    let output = lvsadm::client::run("ipvsadm", words, Some(path.display().to_string()), std::io::empty());
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}
