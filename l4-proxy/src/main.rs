//! `l4-proxy`: an LVS director in userspace.

fn main() {}
