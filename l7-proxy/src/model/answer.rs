//! What becomes of a server's answer before the client gets it, and what any answer is given.

use std::time::Duration;

use ::http::HeaderName;

use crate::variable::Value;

use super::pattern::Pattern;

/// How a server's answer is changed (`proxy_redirect`, `proxy_cookie_*`, `proxy_hide_header`, …).
#[derive(Debug, Clone, Default)]
pub struct Relay {
    /// Fields that the client does not get, beside those that it never gets.
    pub hide: Vec<HeaderName>,
    /// Fields that the client gets although it commonly would not.
    pub pass: Vec<HeaderName>,
    /// Fields of the server that say what we should do, and are not obeyed.
    pub ignore: Vec<HeaderName>,
    /// How `Location` and `Refresh` are rewritten.
    pub redirect: RedirectRules,
    /// How the domain of a cookie is rewritten; the first rule that fits.
    pub cookie_domain: Vec<Replace>,
    /// How the path of a cookie is rewritten.
    pub cookie_path: Vec<Replace>,
    /// Flags that cookies get or lose.
    pub cookie_flags: Vec<CookieFlags>,
    /// Whether an `error_page` answers for an error of the server (`proxy_intercept_errors`).
    pub errors: Errors,
    /// Whether the client gets what the server sends behind a body (`proxy_pass_trailers`).
    pub trailers: Trailers,
    /// Whether there are parts of an answer whatever its server says (`proxy_force_ranges`).
    pub ranges: ServerRanges,
}

/// Who decides whether there are parts of a server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerRanges {
    /// The server does, and those of what is not kept are its own.
    #[default]
    AsSent,
    /// We do: there are.
    Forced,
}

/// What becomes of the fields that a server sends behind a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trailers {
    /// They stay behind.
    #[default]
    Dropped,
    /// The client gets them.
    Passed,
}

/// How `Location` and `Refresh` are rewritten (`proxy_redirect`).
#[derive(Debug, Clone, Default)]
pub enum RedirectRules {
    /// The address in `proxy_pass` becomes the location's path.
    #[default]
    Default,
    /// They are not.
    Off,
    /// By the first rule that fits.
    Rules(Vec<RedirectRule>),
}

/// One `proxy_redirect`.
#[derive(Debug, Clone)]
pub enum RedirectRule {
    /// `default`
    Default,
    /// A replacement.
    Replace(Replace),
}

/// A text, and what takes its place.
#[derive(Debug, Clone)]
pub struct Replace {
    /// What is replaced.
    pub what: Subject,
    /// What takes its place.
    pub by: Value,
}

/// What is replaced.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A text: the beginning of a URL or a path, the whole of a domain.
    Text(Value),
    /// All of it, where an expression matches.
    Pattern(Pattern),
}

/// Flags that a cookie gets or loses (`proxy_cookie_flags`).
#[derive(Debug, Clone)]
pub struct CookieFlags {
    /// Which cookies: their name.
    pub cookie: Subject,
    /// The flags as words: `secure`, `nohttponly`, `samesite=lax`, …
    pub flags: Vec<Value>,
}

/// Who answers for a server's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Errors {
    /// The server.
    #[default]
    Passed,
    /// `error_page`, where there is one for the status.
    Intercepted,
}

/// How long an answer is good for (`expires`).
#[derive(Debug, Clone, Default)]
pub enum Expires {
    /// Nothing is said.
    #[default]
    Off,
    /// What this value says when it is read as an argument of `expires`.
    Value {
        /// What the time counts from.
        from: ExpiresFrom,
        /// The argument.
        text: Value,
    },
    /// A time known beforehand.
    Known(ExpiryTime),
}

/// What the time of an `expires` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiresFrom {
    /// The moment of the answer.
    Access,
    /// `Last-Modified` of what is sent.
    Modified,
}

/// When an answer expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryTime {
    /// Nothing is said.
    Off,
    /// In 1970, and it must not be kept at all.
    Epoch,
    /// As late as can be said.
    Max,
    /// So long after a moment.
    After(ExpiresFrom, Duration),
    /// Before a moment: it has expired already.
    Before(ExpiresFrom, Duration),
    /// At the next time of day.
    Daily(Duration),
}
