//! Who may come in by name and password (`auth_basic`) or by the word of another location
//! (`auth_request`), and how that goes with other checks (`satisfy`).

use std::time::Duration;

use crate::variable::Value;

/// What a client has to satisfy that is not let in for its address alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// What clients are told the password is for (`auth_basic`); `None` asks for none. A value that
    /// comes out as `off` asks for none either.
    pub realm: Option<Value>,
    /// The file with names and passwords (`auth_basic_user_file`); without one nobody is asked.
    pub users: Option<Value>,
    /// The path that is asked whether a request may go on (`auth_request`).
    pub request: Option<String>,
    /// Variables that are given values then, by their numbers (`auth_request_set`).
    pub request_sets: Vec<(u16, Value)>,
    /// Whether one check suffices (`satisfy`).
    pub satisfy: Satisfy,
    /// How long a client waits for the word that it has to say who it is, so that guessing takes time
    /// (`auth_delay`).
    pub delay: Duration,
}

/// How many checks a client has to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Satisfy {
    /// Every one that is configured.
    #[default]
    All,
    /// One of them.
    Any,
}
