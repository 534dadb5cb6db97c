//! One virtual server: its locations, and the search for the one that a path belongs to.

use std::collections::HashMap;

use http::Method;

use super::locations::{Level, Step};
use super::{Branch, Label, Located, Location, Order, Place, Route, RouteError, script};
use crate::model::{Handler, Matcher, Return, ServerName, Settings, TryFiles, Upstream, VirtualServer};
use crate::variable::Captures;

/// A virtual server with its locations.
#[derive(Debug)]
pub struct Server {
    /// Its place among the router's servers.
    number: usize,
    /// Whether it speaks HTTP/2 where the client asks for it.
    http2: bool,
    name: String,
    /// All its names.
    names: Vec<ServerName>,
    /// Where it is written.
    place: Option<crate::conf::Place>,
    script: Box<[Order]>,
    reply: Option<Return>,
    pub(super) settings: Settings,
    /// Paths that are tried where no location matches.
    try_files: Option<TryFiles>,
    level: Level,
    named: HashMap<String, usize>,
    pub(super) locations: Vec<Location>,
}

impl Server {
    /// Its place among the router's servers.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn new(
        number: usize,
        server: VirtualServer,
        upstreams: &[Upstream],
    ) -> Result<Self, RouteError> {
        let http2 = server.settings.http2.on || server.listen.iter().any(|listen| listen.http2);
        let name = match server.names.first() {
            // The dot in front only says that other names belong to it.
            Some(ServerName::NameAndSubdomains(name)) => name.clone(),
            name => name.map(ToString::to_string).unwrap_or_default(),
        };
        let mut locations = Vec::new();
        let mut named = HashMap::new();
        let (outside, inside): (Vec<_>, Vec<_>) =
            server.locations.into_iter().partition(|location| matches!(location.matcher, Matcher::Named(_)));
        for mut location in outside {
            let Matcher::Named(name) = &location.matcher else { continue };
            let name = name.clone();
            let nested = std::mem::take(&mut location.locations);
            let level = Level::compile(nested, upstreams, &mut locations)?;
            let place = Location::push(location, level, upstreams, &mut locations)?;
            if named.insert(name.clone(), place).is_some() {
                return Err(RouteError::DuplicateLocation(format!("@{name}")));
            }
        }
        let level = Level::compile(inside, upstreams, &mut locations)?;
        let script = script::compile(server.script, upstreams, &mut locations)?;
        let (settings, names, place) = (server.settings, server.names, server.place);
        Ok(Self {
            number,
            http2,
            name,
            names,
            place,
            script,
            reply: server.reply,
            settings,
            try_files: server.try_files,
            level,
            named,
            locations,
        })
    }

    /// Whether it speaks HTTP/2 where the client asks for it.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// Returns the first of its names, empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its names, and where it is written.
    pub(crate) fn label(&self) -> (&[ServerName], Option<&crate::conf::Place>) {
        (&self.names, self.place.as_ref())
    }

    /// What the location of a route is called; `None` for what holds where no location matches.
    pub(crate) fn location_label(&self, route: &Route<'_>) -> Option<&Label> {
        route.place.location.map(|place| &self.locations[place].label)
    }

    /// Returns what is done with a request before a location is looked for.
    pub fn script(&self) -> &[Order] {
        &self.script
    }

    /// Returns the `return` at server level, which answers before a location is looked for.
    pub fn reply(&self) -> Option<&Return> {
        self.reply.as_ref()
    }

    /// Returns what holds where no location matches.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns where requests go that no location matches: files under the server's root.
    pub fn fallback(&self) -> Route<'_> {
        Route {
            script: &[],
            reply: None,
            try_files: self.try_files.as_ref(),
            handler: &Handler::Files,
            settings: &self.settings,
            prefix_len: 0,
            internal: false,
            place: Place { server: self.number, location: None, prefix_len: 0 },
        }
    }

    /// Returns where a decoded and normalised path belongs.
    pub fn locate(&self, path: &[u8], captures: &mut Captures) -> Located<'_> {
        match self.search(&self.level, path, captures) {
            Step::Decided(place) | Step::Undecided(Some(place)) => Located::Found(self.route(place, path)),
            Step::AddSlash(place) => Located::AddSlash(self.route(place, path)),
            Step::Undecided(None) => Located::Found(self.fallback()),
        }
    }

    /// Returns the location called `@name`, given without the `@`.
    pub fn named(&self, name: &str) -> Option<Route<'_>> {
        self.named.get(name).map(|&place| self.route(place, b""))
    }

    /// Returns what holds for a method at a location: the location itself, unless it is for other
    /// methods (`limit_except`).
    pub fn for_method<'r>(&'r self, route: Route<'r>, method: &Method) -> Route<'r> {
        let location = route.place.location.map(|place| &self.locations[place]);
        match location.and_then(|location| location.limit_except.as_ref()) {
            Some((methods, place)) if !allows(methods, method) => self.route_after(*place, route.prefix_len),
            _ => route,
        }
    }

    /// Returns what holds in an `if` of a location.
    pub fn inside<'r>(&'r self, branch: &'r Branch, outside: Route<'r>) -> Route<'r> {
        match branch.place {
            Some(place) => self.route_after(place, outside.prefix_len),
            None => outside,
        }
    }

    fn search(&self, level: &Level, path: &[u8], captures: &mut Captures) -> Step {
        let mut found = None;
        let (by_text, regexes) = level.by_text(path);
        match by_text {
            Step::Undecided(None) => {}
            Step::Undecided(Some(place)) => {
                found = Some(place);
                match self.search(&self.locations[place].level, path, captures) {
                    Step::Undecided(nested) => found = nested.or(found),
                    decided => return decided,
                }
            }
            decided => return decided,
        }
        for (pattern, place) in regexes {
            if captures.matches(pattern, path) {
                let nested = self.search(&self.locations[*place].level, path, captures);
                return match nested {
                    Step::Undecided(nested) => Step::Decided(nested.unwrap_or(*place)),
                    decided => decided,
                };
            }
        }
        Step::Undecided(found)
    }

    fn route(&self, place: usize, path: &[u8]) -> Route<'_> {
        self.route_after(place, self.locations[place].prefix_len.unwrap_or(path.len()))
    }

    pub(super) fn route_after(&self, place: usize, prefix_len: usize) -> Route<'_> {
        let location = &self.locations[place];
        Route {
            script: &location.script,
            reply: location.reply.as_ref(),
            try_files: location.try_files.as_ref(),
            handler: &location.handler,
            settings: &location.settings,
            prefix_len,
            internal: location.internal,
            place: Place { server: self.number, location: Some(place), prefix_len },
        }
    }
}

fn allows(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (*method == Method::HEAD && methods.contains(&Method::GET))
}
