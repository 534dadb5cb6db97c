//! `cargo fuzz run keepalived`, in the folder of the crate `l4-proxy`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| play::keepalived(bytes));
