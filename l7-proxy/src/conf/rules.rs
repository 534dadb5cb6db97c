//! The form of a table of directives: what each is called, where it may stand, what it takes, and
//! what it does.
//!
//! A directive is one entry in one table; there is a table for each type that directives fill in
//! (the process, a location's settings, an upstream, …). The reader of the file checks an entry's
//! [`Syntax`] as it goes, so that a handler finds its directive in the right place with the right
//! number of arguments.

use std::ops::RangeInclusive;

use super::tree::Directive;
use super::{Error, Scope};

/// A kind of block, or a set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context(u16);

impl Context {
    /// The file itself.
    pub(super) const MAIN: Self = Self(1);
    /// `events {}`
    pub(super) const EVENTS: Self = Self(1 << 1);
    /// `http {}`
    pub(super) const HTTP: Self = Self(1 << 2);
    /// `http { server {} }`
    pub(super) const SERVER: Self = Self(1 << 3);
    /// `location {}`
    pub(super) const LOCATION: Self = Self(1 << 4);
    /// `http { upstream {} }`
    pub(super) const UPSTREAM: Self = Self(1 << 5);
    /// `stream {}`
    pub(super) const STREAM: Self = Self(1 << 6);
    /// `stream { server {} }`
    pub(super) const STREAM_SERVER: Self = Self(1 << 7);
    /// `stream { upstream {} }`
    pub(super) const STREAM_UPSTREAM: Self = Self(1 << 8);
    /// A block whose lines are data and no directives, such as `types {}`.
    pub(super) const DATA: Self = Self(1 << 9);

    /// `server { if () {} }`
    pub(super) const SERVER_IF: Self = Self(1 << 10);
    /// `location { if () {} }`
    pub(super) const LOCATION_IF: Self = Self(1 << 11);
    /// `location { limit_except {} }`
    pub(super) const LIMIT_EXCEPT: Self = Self(1 << 12);

    /// Everywhere a location's settings may stand.
    pub(super) const SETTINGS: Self = Self::HTTP.or(Self::SERVER).or(Self::LOCATION);
    /// The same, and an `if` in a location.
    pub(super) const SETTINGS_IF: Self = Self::SETTINGS.or(Self::LOCATION_IF);
    /// Where a script of `set`, `if` and `rewrite` may stand.
    pub(super) const SCRIPT: Self = Self::SERVER.or(Self::LOCATION).or(Self::SERVER_IF).or(Self::LOCATION_IF);
    /// `stream {}` and its servers.
    pub(super) const STREAM_SETTINGS: Self = Self::STREAM.or(Self::STREAM_SERVER);

    /// Returns both sets.
    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the sets have a kind in common.
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How a directive is written.
#[derive(Debug, Clone)]
pub(super) struct Syntax {
    pub(super) name: &'static str,
    /// Where it may stand.
    pub(super) contexts: Context,
    /// How many arguments it takes.
    pub(super) args: RangeInclusive<usize>,
    /// The kind of block that it opens, if it opens one.
    pub(super) block: Option<Context>,
}

/// A directive's entry in the table of what fills in a `T`.
pub(super) struct Rule<T> {
    pub(super) syntax: Syntax,
    pub(super) times: Times<T>,
    pub(super) apply: Apply<T>,
}

/// What a directive does.
pub(super) type Apply<T> = fn(&mut Scope, &mut T, &Directive) -> Result<(), Fault>;

/// How often a directive may stand in one block.
pub(super) enum Times<T> {
    /// Once; a second one is nginx's "is duplicate".
    Once,
    /// As often as one likes. The first of a block starts afresh: what was inherited goes.
    Many(fn(&mut T)),
}

/// No limit to the number of arguments.
pub(super) const ANY: usize = usize::MAX;

impl<T> Rule<T> {
    /// Returns the rule of a directive without a block that may stand once.
    pub(super) const fn new(
        name: &'static str,
        contexts: Context,
        args: RangeInclusive<usize>,
        apply: Apply<T>,
    ) -> Self {
        Self { syntax: Syntax { name, contexts, args, block: None }, times: Times::Once, apply }
    }

    /// Returns the same for a directive that may stand several times.
    pub(super) const fn many(self, first: fn(&mut T)) -> Self {
        Self { times: Times::Many(first), ..self }
    }

    /// Returns the same for a directive that opens a block.
    pub(super) const fn block(self, context: Context) -> Self {
        let Syntax { name, contexts, args, .. } = self.syntax;
        Self { syntax: Syntax { name, contexts, args, block: Some(context) }, ..self }
    }
}

/// Why a directive cannot be taken; the place is added by [`apply`].
#[derive(Debug)]
pub(super) enum Fault {
    /// The whole message.
    Message(String),
    /// What follows `"name" directive `.
    Directive(String),
    /// One of a line in the directive's block.
    Elsewhere(Error),
}

impl Fault {
    /// Returns a fault with this message.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// Returns a fault that reads `"name" directive …`.
    pub(super) fn directive(rest: impl Into<String>) -> Self {
        Self::Directive(rest.into())
    }

    /// Returns `invalid parameter "x"`.
    pub(super) fn parameter(word: &str) -> Self {
        Self::Message(format!("invalid parameter \"{word}\""))
    }

    /// Returns `invalid value "x"`.
    pub(super) fn value(word: &str) -> Self {
        Self::Message(format!("invalid value \"{word}\""))
    }

    /// Returns that a parameter is known but not supported.
    pub(super) fn unsupported(word: &str, directive: &Directive) -> Self {
        let name = &directive.name;
        Self::Message(format!("\"{word}\" parameter of \"{name}\" directive is not supported by l7-proxy"))
    }

    /// Puts the fault where it belongs.
    pub(super) fn at(self, directive: &Directive) -> Error {
        let message = match self {
            Self::Message(message) => message,
            Self::Directive(rest) => format!("\"{}\" directive {rest}", directive.name),
            Self::Elsewhere(error) => return error,
        };
        Error::at(&directive.place, message)
    }
}

impl From<crate::variable::ValueError> for Fault {
    fn from(error: crate::variable::ValueError) -> Self {
        Self::Message(error.to_string())
    }
}

/// Applies those directives of a block that are in a table, in the order of the file.
///
/// Others belong to other tables: the file was checked when it was read.
pub(super) fn apply<T>(
    scope: &mut Scope,
    rules: &[Rule<T>],
    context: Context,
    block: &[Directive],
    target: &mut T,
) -> Result<(), Error> {
    let mut seen: Vec<&str> = Vec::new();
    for directive in block {
        let Some(rule) = find(rules, context, &directive.name) else { continue };
        let again = seen.contains(&rule.syntax.name);
        match &rule.times {
            Times::Once if again => return Err(Fault::directive("is duplicate").at(directive)),
            Times::Many(first) if !again => first(target),
            Times::Once | Times::Many(_) => {}
        }
        seen.push(rule.syntax.name);
        (rule.apply)(scope, target, directive).map_err(|fault| fault.at(directive))?;
    }
    Ok(())
}

fn find<'r, T>(rules: &'r [Rule<T>], context: Context, name: &str) -> Option<&'r Rule<T>> {
    rules.iter().find(|rule| rule.syntax.name == name && rule.syntax.contexts.meets(context))
}
