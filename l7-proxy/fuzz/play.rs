//! What arbitrary bytes must not break: as an nginx.conf, as the target of a request, as locations
//! with paths, and as the head of a request.

#![allow(dead_code, reason = "a target plays one of them")]

#[path = "twin.rs"]
pub(crate) mod twin;

use std::io::Write;

use l7_proxy::conf::{self, Source};
use l7_proxy::model::{
    Http, Listen, Location, Matcher, Pattern, Return, ReturnBody, Settings, Slashes, VirtualServer,
};
use l7_proxy::route::Router;
use l7_proxy::uri::Target;
use l7_proxy::variable::Captures;

/// Reads them as a configuration: a fault has a place in the file and words, and what is taken can be routed.
///
/// Returns whether it was taken.
pub(crate) fn conf(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    if asks_for_names(&text) {
        return false;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("it has room");
    let prefix = std::path::PathBuf::from("/nonexistent");
    let source = Source { file: file.path().to_owned(), prefix, globals: String::new() };
    let loaded = match conf::load(&source) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(!error.message().is_empty(), "{text}");
            let lines = text.lines().count().max(1);
            // What a file lacks is told at its end.
            assert!(
                error.place().is_none_or(|place| (1..=lines + 1).contains(&place.line())),
                "{error}\n{text}"
            );
            return false;
        }
    };
    if let Some(http) = loaded.config.http
        && let Ok(router) = Router::new(http)
    {
        for server in router.servers() {
            for path in [&b"/"[..], b"/a/b.jsp", b"/app/x"] {
                let _ = server.locate(path, &mut Captures::default()).route();
            }
        }
    }
    true
}

/// Whether a host may be looked up by name, which nobody wants while bytes are played.
fn asks_for_names(text: &str) -> bool {
    let spaced = text.replace(['{', '}', ';'], " ; ");
    let words: Vec<&str> =
        spaced.split_ascii_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    words.windows(2).any(|pair| {
        let scheme = pair[1].find("://").map_or(0, |scheme| scheme + 3);
        let host = pair[1][scheme..].split(['/', '?']).next().unwrap_or_default();
        ["server", "listen", "proxy_pass", "grpc_pass", "resolver"].iter().any(|name| pair[0].ends_with(name))
            && !pair[1].starts_with('[')
            && host.contains(|char: char| !matches!(char, '0'..='9' | '.' | ':' | '*' | ';'))
    })
}

/// Reads them as a target: no dots or NUL are left, and what is forwarded is read as what was matched.
///
/// Returns whether it was taken.
pub(crate) fn target(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut taken = false;
    for slashes in [Slashes::Merged, Slashes::Kept] {
        let Ok(target) = Target::parse_with(&text, slashes) else { continue };
        taken = true;
        let path = target.path();
        assert!(path.starts_with(b"/") && !path.contains(&0), "{text:?}");
        let dots = path.split(|&byte| byte == b'/').any(|name| matches!(name, b"." | b".."));
        assert!(!dots, "{text:?}: {}", path.escape_ascii());
        let again = |forwarded: &str| {
            let again = Target::parse_with(forwarded, slashes);
            again.unwrap_or_else(|error| panic!("{text:?}: {forwarded:?}: {error}")).path().to_vec()
        };
        assert_eq!(again(&target.forwarded()), path, "{text:?}");
        if slashes == Slashes::Merged {
            let rebased = again(&format!("/base{}", target.forwarded_after(0)));
            assert_eq!(rebased, [b"/base", path].concat(), "{text:?}");
        }
    }
    taken
}

/// Builds locations from the first bytes and looks for the rest, as a path, among them.
///
/// Returns whether there was anything to find.
pub(crate) fn locations(bytes: &[u8]) -> bool {
    let Some((count, mut rest)) = bytes.split_first() else { return false };
    let mut all: Vec<Location> = Vec::new();
    for id in 1..=u16::from(count % 12) {
        let Some((how, after)) = rest.split_first() else { break };
        let (words, after) = after.split_at(after.len().min(usize::from(how >> 5)));
        rest = after;
        let text = format!("/{}", letters(words));
        let matcher = match how & 3 {
            0 => Matcher::Exact(text.into()),
            1 => Matcher::Prefix(text.into()),
            2 => Matcher::FinalPrefix(text.into()),
            _ => match Pattern::new(&text[usize::from(how >> 2 & 1)..]) {
                Ok(pattern) => Matcher::Regex(pattern),
                Err(_) => continue,
            },
        };
        let mut location = Location::new(matcher, Settings::default());
        location.reply = Some(Return { status: id, body: ReturnBody::Page });
        // Beside the last one, or inside it.
        match all.last_mut() {
            Some(last) if how & 8 != 0 => last.locations.push(location),
            _ => all.push(location),
        }
    }
    let listen = vec![Listen::new(([127, 0, 0, 1], 80).into())];
    let server = VirtualServer { listen, locations: all.clone(), ..VirtualServer::default() };
    // Two of one path are refused.
    let Ok(router) = Router::new(Http { servers: vec![server], ..Http::default() }) else { return false };
    let mut any = false;
    for length in 0..=rest.len().min(64) {
        let path = format!("/{}", letters(&rest[..length]));
        let route = router.servers()[0].locate(path.as_bytes(), &mut Captures::default()).route();
        let found = route.reply.map_or(0, |reply| reply.status);
        any |= found != 0;
        assert_eq!(found, twin::locate(&all, path.as_bytes()), "{path} of {all:?}");
    }
    any
}

/// A few letters only, so that texts often begin alike.
fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(b"/ab."[usize::from(byte & 3)])).collect()
}

/// Reads them as the head of a request: no beginning of it is taken for the whole, each line is one
/// field under the name that it shows, and there is one way to find the end of the body.
///
/// Returns whether there was one.
pub(crate) fn head(bytes: &[u8]) -> bool {
    let Ok(Some((parts, length, body))) = l7_proxy::read_head(bytes) else { return false };
    for end in 0..length.min(512) {
        assert!(matches!(l7_proxy::read_head(&bytes[..end]), Ok(None)), "{end} of {}", bytes.escape_ascii());
    }
    let lines =
        bytes[..length].split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty()).skip(1);
    let shown = lines.map(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        String::from_utf8_lossy(name).to_ascii_lowercase()
    });
    let mut shown: Vec<String> = shown.collect();
    let mut read: Vec<&str> = parts.headers.iter().map(|(name, _)| name.as_str()).collect();
    // Fields of one name are kept together.
    shown.sort_unstable();
    read.sort_unstable();
    assert_eq!(read, shown, "{}", bytes.escape_ascii());
    let fields = |name: &str| parts.headers.get_all(name).iter().count();
    match body {
        Some(length) => {
            let told =
                parts.headers.get("content-length").map_or("0", |value| value.to_str().expect("digits"));
            assert_eq!(told.parse(), Ok(length), "{}", bytes.escape_ascii());
            assert!(fields("content-length") <= 1 && fields("transfer-encoding") == 0);
        }
        None => assert!(fields("content-length") == 0 && fields("transfer-encoding") > 0),
    }
    true
}
