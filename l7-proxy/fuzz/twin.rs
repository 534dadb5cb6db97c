//! nginx's search for locations and servers as its documentation tells it, without any table.
//!
//! Each location is known by the status that it returns.

use l7_proxy::model::{Location, Matcher, ServerName, VirtualServer};

enum Found {
    Decided(u16),
    Best(Option<u16>),
}

pub(crate) fn locate(locations: &[Location], path: &[u8]) -> u16 {
    match search(locations, path) {
        Found::Decided(id) => id,
        Found::Best(best) => best.unwrap_or(0),
    }
}

fn id(location: &Location) -> u16 {
    location.reply.as_ref().unwrap().status
}

fn search(locations: &[Location], path: &[u8]) -> Found {
    for location in locations {
        if matches!(&location.matcher, Matcher::Exact(text) if text == path) {
            return Found::Decided(id(location));
        }
    }
    let text = |location: &Location| match &location.matcher {
        Matcher::Prefix(text) | Matcher::FinalPrefix(text) => text.clone(),
        _ => Vec::new(),
    };
    let longest = locations
        .iter()
        .filter(|location| !text(location).is_empty() && path.starts_with(&text(location)))
        .max_by_key(|location| text(location).len());
    let mut best = longest.map(id);
    if let Some(longest) = longest {
        match search(&longest.locations, path) {
            Found::Decided(id) => return Found::Decided(id),
            Found::Best(nested) => best = nested.or(best),
        }
        if matches!(longest.matcher, Matcher::FinalPrefix(_)) {
            return Found::Best(best);
        }
    }
    for location in locations {
        if let Matcher::Regex(pattern) = &location.matcher
            && pattern.is_match(path)
        {
            return match search(&location.locations, path) {
                Found::Decided(id) => Found::Decided(id),
                Found::Best(nested) => Found::Decided(nested.unwrap_or(id(location))),
            };
        }
    }
    Found::Best(best)
}

/// Returns the place of the server, by nginx's description of `server_name`.
pub(crate) fn server(servers: &[VirtualServer], host: &str) -> usize {
    let names = || {
        let named = |(place, server): (usize, &VirtualServer)| {
            server.names.clone().into_iter().map(move |name| (place, name)).collect::<Vec<_>>()
        };
        servers.iter().enumerate().flat_map(named)
    };
    let exact = names().find(|(_, name)| match name {
        ServerName::Exact(name) | ServerName::NameAndSubdomains(name) => name == host,
        _ => false,
    });
    let longest = |matches: &dyn Fn(&ServerName) -> Option<usize>| {
        // The first of equals wins, so that the later ones come first.
        let found: Vec<_> = names().filter_map(|(place, name)| Some((matches(&name)?, place))).collect();
        found.into_iter().rev().max_by_key(|(length, _)| *length).map(|(_, place)| place)
    };
    let leading = longest(&|name| match name {
        ServerName::LeadingWildcard(end) | ServerName::NameAndSubdomains(end) => {
            host.ends_with(&format!(".{end}")).then_some(end.len())
        }
        _ => None,
    });
    let trailing = longest(&|name| match name {
        ServerName::TrailingWildcard(start) => host.starts_with(&format!("{start}.")).then_some(start.len()),
        _ => None,
    });
    let regex = names().find(|(_, name)| match name {
        ServerName::Regex(pattern) => !host.is_empty() && pattern.is_match(host.as_bytes()),
        _ => false,
    });
    let exact = exact.map(|(place, _)| place);
    exact.or(leading).or(trailing).or(regex.map(|(place, _)| place)).unwrap_or(0)
}
