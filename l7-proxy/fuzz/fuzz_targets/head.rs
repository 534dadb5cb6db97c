//! `cargo fuzz run head`, in the folder of the crate `l7-proxy`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    play::head(bytes);
});
