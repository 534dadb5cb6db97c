//! TLS on both sides, by rustls.
//!
//! A server block's `ssl_*` directives become one rustls configuration, and a connection takes that
//! of the block whose name the client asks for: the client's first message is read before anything
//! is decided, so that versions, certificates and client certificates may all differ by name.
//!
//! nginx lets a handshake succeed whose client certificate is bad, and answers that in HTTP. So
//! here the certificate is judged after the handshake, and only its signature during it.

pub mod certificate;
mod chain;
mod client;
mod error;
mod files;
mod handshake;
mod kept;
mod key;
mod name;
mod revocation;
mod server;
mod sessions;
mod signed;
mod suites;
mod verify;

pub(crate) use self::client::{Client, ClientTarget};
pub use self::error::TlsError;
pub(crate) use self::files::Tell;
pub use self::handshake::{Handshake, TlsVariable, Verified};
pub(crate) use self::server::{Accepted, Chooser, Terminator, accept};
