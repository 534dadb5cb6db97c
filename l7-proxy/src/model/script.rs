//! What a server or a location does with a request before anything answers it: `set`, `if`,
//! `rewrite`, `break` and `return`, in the order of the file.

use crate::variable::Value;

use super::http::{Location, Return};
use super::pattern::Pattern;

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Instruction {
    /// `set`: gives a variable a value.
    Set {
        /// Which one.
        variable: Settable,
        /// The value.
        value: Value,
    },
    /// `rewrite`: changes the path, or redirects the client.
    Rewrite(Rewrite),
    /// `if`: another script, where a condition holds.
    If(If),
    /// `break`: the rest of the script is left out.
    Break,
}

/// A variable that `set` may give a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settable {
    /// One of the configuration's own, by its number.
    Defined(u16),
    /// `$args`
    Args,
    /// `$limit_rate`
    LimitRate,
}

/// `rewrite`
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What the path must match.
    pub pattern: Pattern,
    /// The new path.
    pub replacement: Value,
    /// The new arguments: what the replacement has behind its first `?`.
    pub args: Option<Value>,
    /// Whether the request's own arguments are left out: the replacement ends with a `?`.
    pub drops_args: bool,
    /// What comes next.
    pub then: Then,
}

/// What comes after a path was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The rest of the script; a location is looked for anew at its end.
    Continue,
    /// A location is looked for anew at once (`last`).
    Last,
    /// The location stays, the rest of the script is left out (`break`).
    Break,
    /// The client is sent there with this status (`redirect`, `permanent`, or a full URL).
    Redirect(u16),
}

/// `if`
#[derive(Debug, Clone)]
pub struct If {
    /// When it holds.
    pub condition: Condition,
    /// What is done then.
    pub script: Vec<Instruction>,
    /// A `return` that ends the script.
    pub reply: Option<Return>,
    /// What holds then in place of what holds outside; `None` at server level.
    pub location: Option<Box<Location>>,
}

/// What an `if` asks for.
#[derive(Debug, Clone)]
pub struct Condition {
    /// What must be so.
    pub test: Test,
    /// Whether it must not be so instead (`!=`, `!~`, `!-f`).
    pub sense: Sense,
}

/// Whether a test must hold or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// It must hold.
    Plain,
    /// It must not.
    Negated,
}

/// A test of an `if`.
#[derive(Debug, Clone)]
pub enum Test {
    /// The variable is neither empty nor `0`.
    Set(Value),
    /// Both are the same text.
    Equal(Value, Value),
    /// The expression matches.
    Matches(Value, Pattern),
    /// Something of this kind is at the path.
    Path(PathKind, Value),
}

/// What may be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// `-f`
    File,
    /// `-d`
    Directory,
    /// `-e`
    Any,
    /// `-x`
    Executable,
}
