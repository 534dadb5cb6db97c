//! The locations of one level: of a server, or inside another location.

use crate::model::{self, Handler, LimitExcept, Matcher, Pattern, Upstream};

use super::{Label, Location, RouteError};
use crate::short;

/// The locations of one level, by how they match; numbers are places in the server's list.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// `=`, sorted by path.
    exact: Vec<(Box<[u8]>, usize)>,
    /// Plain and `^~`, sorted by prefix.
    prefixes: Vec<Prefix>,
    /// In the order of the file.
    regexes: Vec<(Pattern, usize)>,
    /// Prefixes of forwarding locations without their slash at the end, sorted.
    without_slash: Vec<(Box<[u8]>, usize)>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<[u8]>,
    place: usize,
    finality: Finality,
    /// The longest other prefix that this one begins with, as a place in `prefixes`.
    shorter: Option<usize>,
}

/// Whether regular expressions are asked when a prefix matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finality {
    Plain,
    Final,
}

/// What one step of the search found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// This location, whatever else there is.
    Decided(usize),
    /// This location's path without its slash at the end.
    AddSlash(usize),
    /// The best so far.
    Undecided(Option<usize>),
}

impl Level {
    /// Compiles locations, those inside them first, and appends them to `all`.
    pub(super) fn compile(
        locations: Vec<model::Location>,
        upstreams: &[Upstream],
        all: &mut Vec<Location>,
    ) -> Result<Self, RouteError> {
        let mut level = Self::default();
        for mut location in locations {
            let nested = std::mem::take(&mut location.locations);
            let matcher = location.matcher.clone();
            let forwards = matches!(location.handler, Handler::Proxy(_) | Handler::ProxyTo(_));
            let nested = Self::compile(nested, upstreams, all)?;
            let place = Location::push(location, nested, upstreams, all)?;
            match matcher {
                Matcher::Exact(path) => level.exact.push((path.into(), place)),
                Matcher::Prefix(path) => level.add_prefix(path, place, Finality::Plain, forwards),
                Matcher::FinalPrefix(path) => {
                    level.add_prefix(path, place, Finality::Final, forwards);
                }
                Matcher::Regex(pattern) => level.regexes.push((pattern, place)),
                // Reached by name, and names are the server's.
                Matcher::Named(_) => {}
            }
        }
        level.exact.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        level.without_slash.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        level.prefixes.sort_unstable_by(|one, other| one.text.cmp(&other.text));
        level.check_duplicates()?;
        level.link();
        Ok(level)
    }

    fn add_prefix(&mut self, path: Vec<u8>, place: usize, finality: Finality, forwards: bool) {
        // A path is never empty.
        if forwards && let Some(without @ [_, ..]) = path.strip_suffix(b"/") {
            self.without_slash.push((without.into(), place));
        }
        self.prefixes.push(Prefix { text: path.into(), place, finality, shorter: None });
    }

    fn check_duplicates(&self) -> Result<(), RouteError> {
        let exact = self.exact.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| &pair[0].0);
        let prefixes = self.prefixes.windows(2).find(|pair| pair[0].text == pair[1].text);
        match exact.or(prefixes.map(|pair| &pair[0].text)) {
            Some(text) => Err(RouteError::DuplicateLocation(String::from_utf8_lossy(text).into_owned())),
            None => Ok(()),
        }
    }

    /// Finds for each prefix the longest other that it begins with.
    ///
    /// In sorted order those that a prefix begins with are still open when it comes, innermost
    /// last: the one before it, or one that the one before it begins with.
    fn link(&mut self) {
        for place in 1..self.prefixes.len() {
            let mut candidate = Some(place - 1);
            while let Some(shorter) = candidate {
                if self.prefixes[place].text.starts_with(&self.prefixes[shorter].text) {
                    break;
                }
                candidate = self.prefixes[shorter].shorter;
            }
            self.prefixes[place].shorter = candidate;
        }
    }

    /// Returns what exact paths and prefixes say, and the regular expressions to ask then.
    pub(super) fn by_text(&self, path: &[u8]) -> (Step, &[(Pattern, usize)]) {
        if let Some(place) = find(&self.exact, path) {
            return (Step::Decided(place), &[]);
        }
        if let Some(place) = find(&self.without_slash, path)
            && !self.prefixes.iter().any(|prefix| *prefix.text == *path)
        {
            return (Step::AddSlash(place), &[]);
        }
        match self.longest(path) {
            Some(Prefix { place, finality: Finality::Final, .. }) => (Step::Undecided(Some(*place)), &[]),
            Some(Prefix { place, .. }) => (Step::Undecided(Some(*place)), &self.regexes),
            None => (Step::Undecided(None), &self.regexes),
        }
    }

    /// Returns the longest prefix that `path` begins with: the last one that is not after `path`
    /// in order, or one that it begins with.
    fn longest(&self, path: &[u8]) -> Option<&Prefix> {
        let after = self.prefixes.partition_point(|prefix| !short::compare(&prefix.text, path).is_gt());
        let mut candidate = after.checked_sub(1);
        while let Some(place) = candidate {
            let prefix = &self.prefixes[place];
            if short::begins_with(path, &prefix.text) {
                return Some(prefix);
            }
            candidate = prefix.shorter;
        }
        None
    }
}

fn find(sorted: &[(Box<[u8]>, usize)], path: &[u8]) -> Option<usize> {
    let place = sorted.binary_search_by(|(text, _)| short::compare(text, path)).ok()?;
    Some(sorted[place].1)
}

impl Location {
    /// Appends a location to `all`; returns its place.
    pub(super) fn push(
        location: model::Location,
        level: Level,
        upstreams: &[Upstream],
        all: &mut Vec<Self>,
    ) -> Result<usize, RouteError> {
        if let Handler::Proxy(proxy) = &location.handler
            && let Some(upstream) = proxy.upstream
            && upstream.0 >= upstreams.len()
        {
            return Err(RouteError::UnknownUpstream(upstream));
        }
        let prefix_len = match &location.matcher {
            Matcher::Exact(path) | Matcher::Prefix(path) | Matcher::FinalPrefix(path) => Some(path.len()),
            Matcher::Regex(_) | Matcher::Named(_) => None,
        };
        let script = super::script::compile(location.script, upstreams, all)?;
        let limit_except = match location.limit_except {
            Some(LimitExcept { methods, location }) => {
                Some((methods, Self::push(*location, Level::default(), upstreams, all)?))
            }
            None => None,
        };
        all.push(Self {
            label: Label { matcher: location.matcher, place: location.place },
            script,
            limit_except,
            try_files: location.try_files,
            reply: location.reply,
            handler: location.handler,
            settings: location.settings,
            internal: location.internal,
            prefix_len,
            level,
        });
        Ok(all.len() - 1)
    }
}
