//! What binds a client to one server of an upstream (`sticky`).

use std::time::Duration;

use crate::variable::Value;

/// How a client is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// By a cookie of ours (`sticky cookie`).
    Cookie(StickyCookie),
    /// By what a server has put into its session ids: the first value that ends in `.ROUTE`, or is one
    /// (`sticky route`).
    Route(Vec<Value>),
    /// By the session that a server has begun (`sticky learn`).
    Learn(Learn),
}

/// A cookie that says which server a client is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// How long a browser keeps it; `None` keeps it until the browser is closed.
    pub expires: Option<Duration>,
    /// What else is said of it, as it is sent: `; path=/; secure`.
    pub attributes: String,
}

/// Sessions that servers begin, and clients name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learn {
    /// The session that an answer begins, by the first of these that is not empty.
    pub create: Vec<Value>,
    /// The session that a request is of, likewise.
    pub lookup: Vec<Value>,
    /// Where sessions are kept: upstreams with one name share them.
    pub zone: String,
    /// How many are kept; the oldest go first.
    pub sessions_max: usize,
    /// How long a session is kept that nobody asks for; 10 min by default.
    pub timeout: Duration,
}
