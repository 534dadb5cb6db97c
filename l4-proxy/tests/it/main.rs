//! What the director promises, over real sockets on loopback.

mod binary;
mod director;
mod relay;
mod support;
