//! `cargo fuzz run datagram`, in the folder of the crate `vrrp`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| play::datagram(bytes));
