//! Cookies that tell clients apart (`userid`).

use std::time::Duration;

use http::HeaderValue;

use crate::variable::Value;

/// Whether clients get a cookie by which they can be told apart, and what it is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId {
    /// What is done (`userid`).
    pub mode: UserIdMode,
    /// What it is called (`userid_name`); `uid` by default.
    pub name: String,
    /// For which names it holds (`userid_domain`).
    pub domain: Option<String>,
    /// For which paths it holds (`userid_path`); all by default.
    pub path: String,
    /// How long it holds (`userid_expires`).
    pub expires: UserIdExpires,
    /// What else it says of itself (`userid_flags`), as it is written.
    pub flags: Vec<String>,
    /// The field `P3P` that goes along (`userid_p3p`).
    pub p3p: Option<HeaderValue>,
    /// The character that stands in place of its filling (`userid_mark`): one without it is set again.
    pub mark: Option<u8>,
    /// Who gives it (`userid_service`); without a word the server's address.
    pub service: Option<u32>,
    /// A client whose request makes this neither empty nor `0` gets another (`$uid_reset`).
    pub reset: Option<Value>,
}

/// What is done with cookies that tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserIdMode {
    /// Nothing.
    #[default]
    Off,
    /// A client's is read, none is set.
    Log,
    /// Of the first version.
    First,
    /// Of the second version.
    Second,
}

/// How long such a cookie holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserIdExpires {
    /// As long as the client runs.
    #[default]
    Session,
    /// So long.
    After(Duration),
    /// As long as can be said.
    Never,
}

impl Default for UserId {
    fn default() -> Self {
        Self {
            mode: UserIdMode::Off,
            name: "uid".to_owned(),
            domain: None,
            path: "/".to_owned(),
            expires: UserIdExpires::Session,
            flags: Vec::new(),
            p3p: None,
            mark: None,
            service: None,
            reset: None,
        }
    }
}
