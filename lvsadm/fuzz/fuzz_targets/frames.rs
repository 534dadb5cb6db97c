//! `cargo fuzz run frames`, in the folder of the crate `lvsadm`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    play::frames(bytes);
});
