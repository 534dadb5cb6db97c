//! Copies of requests that are sent elsewhere, to whose answers nobody listens.

/// Where copies of requests go (`mirror`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirror {
    /// The paths whose locations get one each; none for `mirror off`.
    pub paths: Vec<String>,
    /// Whether the body goes along (`mirror_request_body`).
    pub body: MirrorBody,
}

/// Whether a copy of a request has its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MirrorBody {
    /// It has, so the body is read whole before the request goes on.
    #[default]
    Copied,
    /// It has none.
    Left,
}
