//! `keepalived.conf`: what is accepted, what is not, and in which words.

mod agreement;
mod errors;
mod model;
mod mutations;
mod pool;
pub(crate) mod program;
mod succession;

use std::path::Path;

use l4_proxy::keepalived::{self, Loaded};

/// Reads a text as if it were `lb.conf` on the node `main`.
fn read(text: &str) -> Loaded {
    keepalived::read(Path::new("lb.conf"), text, "main")
}

/// The complaints about a text, each as it is printed.
fn complaints(text: &str) -> Vec<String> {
    read(text).complaints.iter().map(ToString::to_string).collect()
}
