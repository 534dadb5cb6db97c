//! What the director promises, over real sockets on loopback.

mod relay;
mod support;
