//! `cargo fuzz run director`, in the folder of the crate `lvs-core`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| play::play(bytes));
