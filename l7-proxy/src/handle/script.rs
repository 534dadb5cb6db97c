//! Runs what a server or a location says to do with a request first: `set`, `if`, `rewrite`.

use rustix::fs::{FileType, Mode};
use tracing::error;

use super::exchange;
use crate::model::{Condition, PathKind, Return, Rewrite, Sense, Settable, Test, Then};
use crate::pages::{self, Page};
use crate::route::{Order, Route, Server};
use crate::static_file::Links;
use crate::transaction::{PathOrigin, Transaction};
use crate::uri::{Target, TargetError};
use crate::variable::{Exchange, Value};

/// What a script comes to.
pub(super) enum Ran<'g> {
    /// It has run to its end, or to a `break`: `reply` answers, else the handler does.
    Through { reply: Option<&'g Return> },
    /// The path was changed: a location is looked for anew.
    Anew,
    /// This is the answer.
    Page(Page),
    /// The path cannot be rewritten like this.
    Failed,
}

/// A script at work.
pub(super) struct Script<'a, 'g, 't> {
    pub(super) transaction: &'a mut Transaction,
    pub(super) server: &'g Server,
    /// What holds; an `if` changes it.
    pub(super) route: Route<'g>,
    /// Path and query; `rewrite` changes them.
    pub(super) target: &'a mut Target<'t>,
    pub(super) stage: Stage,
}

/// Where a script stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In a `server`: a location is looked for afterwards in any case.
    Server,
    /// In a location.
    Location,
}

/// How a list of orders ended.
enum End<'g> {
    /// At its last one.
    Last,
    /// Before that: the rest does not matter.
    Now(Ran<'g>),
}

impl<'g> Script<'_, 'g, '_> {
    /// Runs the orders; `reply` is the `return` at their end.
    pub(super) fn run(&mut self, orders: &'g [Order], reply: Option<&'g Return>) -> Ran<'g> {
        let mut rewritten = false;
        match self.orders(orders, &mut rewritten) {
            End::Now(ran) => ran,
            // A `return` comes before the search for the location of a new path.
            End::Last if rewritten && reply.is_none() => Ran::Anew,
            End::Last => Ran::Through { reply },
        }
    }

    fn orders(&mut self, orders: &'g [Order], rewritten: &mut bool) -> End<'g> {
        for order in orders {
            match order {
                Order::Set(variable, value) => self.set(*variable, value),
                Order::Break => return End::Now(self.stopped()),
                Order::Rewrite(rewrite) => match self.rewrite(rewrite) {
                    Rewritten::No => {}
                    Rewritten::Yes => match rewrite.then {
                        Then::Last => return End::Now(Ran::Anew),
                        Then::Break => {
                            if self.stage == Stage::Location {
                                self.transaction.path = PathOrigin::Rewritten;
                            }
                            return End::Now(self.stopped());
                        }
                        Then::Continue | Then::Redirect(_) => *rewritten = true,
                    },
                    Rewritten::Redirect(page) => return End::Now(Ran::Page(page)),
                    Rewritten::Failed => return End::Now(Ran::Failed),
                },
                Order::If(branch) => {
                    if !self.holds(&branch.condition) {
                        continue;
                    }
                    self.route = self.server.inside(branch, self.route);
                    if let End::Now(ran) = self.orders(&branch.script, rewritten) {
                        return End::Now(ran);
                    }
                    if let Some(reply) = &branch.reply {
                        return End::Now(Ran::Through { reply: Some(reply) });
                    }
                }
            }
        }
        End::Last
    }

    /// After a `break`: no `return` is reached. At server level the search for a location follows
    /// either way.
    fn stopped(&self) -> Ran<'g> {
        Ran::Through { reply: None }
    }

    fn set(&mut self, variable: Settable, value: &Value) {
        let mut text = Vec::new();
        value.write(&exchange(self.transaction, self.server, &self.route, self.target), &mut text);
        match variable {
            Settable::Defined(number) => self.transaction.findings.assigned.set(number, &text),
            Settable::Args => {
                // What cannot stand in a request line is no query.
                if let Ok(args) = String::from_utf8(text)
                    && args.bytes().all(|byte| byte.is_ascii_graphic())
                {
                    let target = self.target.with_args(Some(args).filter(|args| !args.is_empty()));
                    self.retarget(target);
                }
            }
            Settable::LimitRate => {
                let rate = std::str::from_utf8(&text).ok().and_then(crate::conf::parse_size);
                self.transaction.findings.limit_rate = rate;
            }
        }
    }

    fn rewrite(&mut self, rewrite: &Rewrite) -> Rewritten {
        let path = self.target.path().to_vec();
        if !self.transaction.captures.matches(&rewrite.pattern, &path) {
            return Rewritten::No;
        }
        self.transaction.tell(|| format!("rewrite {} matches", rewrite.pattern.source()));
        let exchange = exchange(self.transaction, self.server, &self.route, self.target);
        let mut path = Vec::new();
        rewrite.replacement.write(&exchange, &mut path);
        let added = rewrite.args.as_ref().map(|args| arguments(args, &exchange));
        let kept = self.target.args().filter(|args| !args.is_empty() && !rewrite.drops_args);
        if let Then::Redirect(status) = rewrite.then {
            let mut place = pages::escape_location(&path);
            for args in [added.as_deref(), kept].into_iter().flatten() {
                place.push(if place.contains('?') { '&' } else { '?' });
                place.push_str(args);
            }
            return pages::redirect(status, &place, &exchange).map_or(Rewritten::Failed, Rewritten::Redirect);
        }
        let added = added.unwrap_or_default();
        let args = match kept {
            Some(kept) if !added.is_empty() => Some(format!("{added}&{kept}")),
            Some(kept) => Some(kept.to_owned()),
            None => Some(added).filter(|added| !added.is_empty()),
        };
        match Target::internal(&path, args.as_deref()) {
            Ok(target) => {
                self.retarget(target);
                Rewritten::Yes
            }
            Err(error) => {
                self.complain(&path, error);
                Rewritten::Failed
            }
        }
    }

    fn retarget(&mut self, target: Target<'static>) {
        self.transaction.tell(|| format!("the path is now {}", target.path().escape_ascii()));
        self.transaction.redirected = Some(Box::new(target.clone()));
        *self.target = target;
    }

    fn complain(&self, path: &[u8], error: TargetError) {
        let serial = self.transaction.connection.serial;
        error!("*{serial} the rewritten URI \"{}\" cannot be used: {error}", path.escape_ascii());
    }

    fn holds(&mut self, condition: &Condition) -> bool {
        let holds = match &condition.test {
            Test::Set(value) => !matches!(&*self.text(value), b"" | b"0"),
            Test::Equal(one, other) => self.text(one) == self.text(other),
            Test::Matches(value, pattern) => {
                let text = self.text(value);
                self.transaction.captures.matches(pattern, &text)
            }
            Test::Path(kind, value) => self.is_there(*kind, &self.text(value)),
        };
        holds == (condition.sense == Sense::Plain)
    }

    fn is_there(&self, kind: PathKind, path: &[u8]) -> bool {
        let exchange = exchange(self.transaction, self.server, &self.route, self.target);
        let Ok(found) = Links::of(&exchange, path).stat(path) else { return false };
        match kind {
            PathKind::Any => true,
            PathKind::File => FileType::from_raw_mode(found.st_mode).is_file(),
            PathKind::Directory => FileType::from_raw_mode(found.st_mode).is_dir(),
            // By its owner, whoever we are, as in nginx.
            PathKind::Executable => Mode::from_raw_mode(found.st_mode).contains(Mode::XUSR),
        }
    }

    fn text(&self, value: &Value) -> Vec<u8> {
        let mut text = Vec::new();
        value.write(&exchange(self.transaction, self.server, &self.route, self.target), &mut text);
        text
    }
}

/// Returns the arguments that a `rewrite` gives.
///
/// A group of a path that was written with escapes is escaped again: `%26` in a path is part of a name,
/// and must not part two arguments.
fn arguments(args: &Value, exchange: &Exchange<'_>) -> String {
    let path = exchange.request_uri.split('?').next().unwrap_or_default();
    let escaped = path.contains(['%', '+']).then(|| exchange.captures.for_arguments());
    let captures = escaped.as_ref().unwrap_or(exchange.captures);
    let mut text = Vec::new();
    args.write(&Exchange { captures, ..*exchange }, &mut text);
    pages::escape_location(&text)
}

/// What a `rewrite` did.
enum Rewritten {
    No,
    Yes,
    Redirect(Page),
    Failed,
}
