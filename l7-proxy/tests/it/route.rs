//! Routing beside a twin that follows nginx's description word by word.

use std::net::SocketAddr;

use l7_proxy::model::{
    Handler, Http, Listen, Location, Matcher, PassModule, Pattern, ProxyPass, Return, ReturnBody, ServerName,
    Settings, SocketOptions, Upstream, UpstreamId, VirtualServer,
};
use l7_proxy::route::{Located, RouteError, Router};
use l7_proxy::variable::Captures;
use proptest::prelude::*;

use crate::fuzz::play::twin;

/// A location that is known by the status it returns.
fn location(id: u16, matcher: Matcher, locations: Vec<Location>) -> Location {
    let mut location = Location::new(matcher, Settings::default());
    location.reply = Some(Return { status: id, body: ReturnBody::Page });
    location.locations = locations;
    location
}

fn prefix(path: &str) -> Matcher {
    Matcher::Prefix(path.into())
}

fn exact(path: &str) -> Matcher {
    Matcher::Exact(path.into())
}

fn final_prefix(path: &str) -> Matcher {
    Matcher::FinalPrefix(path.into())
}

fn regex(pattern: &str) -> Matcher {
    Matcher::Regex(Pattern::new(pattern).unwrap())
}

fn address() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

fn router(locations: Vec<Location>) -> Router {
    let server = VirtualServer { listen: vec![Listen::new(address())], locations, ..Default::default() };
    let upstream = Upstream::new("u", Vec::new());
    Router::new(Http { upstreams: vec![upstream], servers: vec![server], ..Http::default() }).unwrap()
}

fn locate(router: &Router, path: &[u8]) -> u16 {
    let located = router.servers()[0].locate(path, &mut Captures::default());
    located.route().reply.map_or(0, |reply| reply.status)
}

#[track_caller]
fn check(router: &Router, cases: &[(&str, u16)]) {
    for (path, expected) in cases {
        assert_eq!(locate(router, path.as_bytes()), *expected, "{path}");
    }
}

#[test]
fn modifiers_have_the_precedence_of_nginx() {
    // The example of nginx's documentation of `location`.
    let router = router(vec![
        location(1, exact("/"), vec![]),
        location(2, prefix("/"), vec![]),
        location(3, prefix("/documents/"), vec![]),
        location(4, final_prefix("/images/"), vec![]),
        location(5, Matcher::Regex(Pattern::new_ignoring_case(r"\.(gif|jpg|jpeg)$").unwrap()), vec![]),
    ]);
    check(
        &router,
        &[
            ("/", 1),
            ("/index.html", 2),
            ("/documents/document.html", 3),
            ("/images/1.gif", 4),
            ("/documents/1.JPG", 5),
        ],
    );
}

#[test]
fn regular_expression_inside_a_prefix_comes_before_those_outside() {
    let router = router(vec![
        location(1, regex(r"\.jsp$"), vec![]),
        location(2, prefix("/app/"), vec![location(3, regex(r"\.jsp$"), vec![])]),
        location(4, final_prefix("/files/"), vec![location(5, exact("/files/x"), vec![])]),
    ]);
    check(
        &router,
        &[
            ("/a.jsp", 1),
            ("/app/a.jsp", 3),
            ("/app/a.html", 2),
            ("/files/a.jsp", 4),
            ("/files/x", 5),
            ("/other", 0),
        ],
    );
}

#[test]
fn forwarding_location_takes_its_path_without_the_slash_as_a_redirect() {
    let mut forwarding = location(1, prefix("/app/"), vec![]);
    forwarding.handler = Handler::Proxy(ProxyPass {
        module: PassModule::Proxy,
        upstream: Some(UpstreamId(0)),
        tls: false,
        host: "u".into(),
        url: "http://u".into(),
        port: 80,
        uri: None,
    });
    let with = |others: Vec<Location>| router([vec![forwarding.clone()], others].concat());
    let slash_added = |router: &Router| {
        let located = router.servers()[0].locate(b"/app", &mut Captures::default());
        matches!(located, Located::AddSlash(_))
    };
    assert!(slash_added(&with(vec![])));
    assert!(slash_added(&with(vec![location(2, prefix("/"), vec![]), location(3, regex("app"), vec![])])));
    assert!(!slash_added(&with(vec![location(2, exact("/app"), vec![])])));
    assert!(!slash_added(&with(vec![location(2, prefix("/app"), vec![])])));
}

#[test]
fn named_location_is_found_by_name_only() {
    let router = router(vec![location(1, Matcher::Named("x".into()), vec![])]);
    check(&router, &[("@x", 0), ("/@x", 0), ("x", 0)]);
    let named = router.servers()[0].named("x").unwrap();
    assert_eq!(named.reply.unwrap().status, 1);
    assert!(router.servers()[0].named("y").is_none());
}

#[test]
fn two_locations_of_one_path_are_refused() {
    let twice = |one, other| {
        let server = VirtualServer {
            listen: vec![Listen::new(address())],
            locations: vec![location(1, one, vec![]), location(2, other, vec![])],
            ..Default::default()
        };
        Router::new(Http { upstreams: vec![], servers: vec![server], ..Http::default() }).err()
    };
    let duplicate = |name: &str| Some(RouteError::DuplicateLocation(name.into()));
    assert_eq!(twice(prefix("/a"), prefix("/a")), duplicate("/a"));
    assert_eq!(twice(prefix("/a"), final_prefix("/a")), duplicate("/a"));
    assert_eq!(twice(exact("/a"), exact("/a")), duplicate("/a"));
    assert_eq!(twice(Matcher::Named("a".into()), Matcher::Named("a".into())), duplicate("@a"));
    assert_eq!(twice(exact("/a"), prefix("/a")), None);
}

#[test]
fn groups_are_those_of_the_expression_that_matched_last() {
    let router = router(vec![
        location(1, regex(r"^/(?<user>\w+)/(.*)$"), vec![]),
        location(2, regex(r"^/plain$"), vec![]),
    ]);
    let mut captures = Captures::default();
    let server = &router.servers()[0];
    server.locate(b"/ann/x/y", &mut captures);
    assert_eq!(captures.group(0).as_deref(), Some(&b"/ann/x/y"[..]));
    assert_eq!(captures.group(1).as_deref(), Some(&b"ann"[..]));
    assert_eq!(captures.group(2).as_deref(), Some(&b"x/y"[..]));
    assert_eq!(captures.group(3).as_deref(), None);
    assert_eq!(captures.named("user").as_deref(), Some(&b"ann"[..]));
    server.locate(b"/plain", &mut captures);
    assert_eq!(captures.group(1).as_deref(), None);
    assert_eq!(captures.named("user").as_deref(), Some(&b"ann"[..]));
}

/// Paths over a small alphabet, so that they often begin alike.
fn path() -> impl Strategy<Value = String> {
    "(/[ab]{0,2}){1,4}"
}

fn matcher() -> impl Strategy<Value = Matcher> {
    prop_oneof![
        path().prop_map(|path| exact(&path)),
        path().prop_map(|path| prefix(&path)),
        path().prop_map(|path| prefix(&path)),
        path().prop_map(|path| final_prefix(&path)),
        "(\\^/)?[ab/]{1,2}\\$?".prop_map(|pattern| regex(&pattern)),
    ]
}

/// Locations without two of one path, numbered from 1.
fn locations() -> impl Strategy<Value = Vec<Location>> {
    let leaf = matcher().prop_map(|matcher| location(0, matcher, vec![]));
    let tree = leaf.prop_recursive(3, 24, 5, |inner| {
        (matcher(), prop::collection::vec(inner, 0..5))
            .prop_map(|(matcher, inside)| location(0, matcher, inside))
    });
    prop::collection::vec(tree, 0..8).prop_map(|mut locations| {
        unique(&mut locations);
        number(&mut locations, &mut 0);
        locations
    })
}

fn unique(locations: &mut Vec<Location>) {
    let mut seen = Vec::new();
    locations.retain(|location| {
        let key = match &location.matcher {
            Matcher::Exact(path) => (0, path.clone()),
            Matcher::Prefix(path) | Matcher::FinalPrefix(path) => (1, path.clone()),
            _ => return true,
        };
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    locations.iter_mut().for_each(|location| unique(&mut location.locations));
}

fn number(locations: &mut [Location], last: &mut u16) {
    for location in locations {
        *last += 1;
        location.reply = Some(Return { status: *last, body: ReturnBody::Page });
        number(&mut location.locations, last);
    }
}

fn server_name() -> impl Strategy<Value = ServerName> {
    let name = || "[ab](\\.[ab]){0,3}";
    prop_oneof![
        name().prop_map(ServerName::Exact),
        name().prop_map(ServerName::LeadingWildcard),
        name().prop_map(ServerName::NameAndSubdomains),
        name().prop_map(ServerName::TrailingWildcard),
        "\\^?[ab]\\.[ab]".prop_map(|pattern| ServerName::Regex(Pattern::new(&pattern).unwrap())),
    ]
}

proptest! {
    #[test]
    fn location_is_the_one_that_the_description_gives(
        locations in locations(),
        paths in prop::collection::vec(path(), 1..8),
    ) {
        let router = router(locations.clone());
        for path in paths {
            prop_assert_eq!(locate(&router, path.as_bytes()), twin::locate(&locations, path.as_bytes()), "{}", path);
        }
    }

    #[test]
    fn server_is_the_one_that_the_description_gives(
        names in prop::collection::vec(prop::collection::vec(server_name(), 0..4), 1..5),
        hosts in prop::collection::vec("([ab](\\.[ab]){0,4})?", 1..8),
    ) {
        let server = |(place, names): (usize, Vec<ServerName>)| VirtualServer {
            listen: vec![Listen::new(address())],
            reply: Some(Return { status: place as u16, body: ReturnBody::Page }),
            names,
            ..Default::default()
        };
        let servers: Vec<_> = names.into_iter().enumerate().map(server).collect();
        let router = Router::new(Http { upstreams: vec![], servers: servers.clone(), ..Http::default() }).unwrap();
        let entry = router.entry(address()).unwrap();
        for host in hosts {
            let found = router.server(entry, &host, &mut Captures::default()).reply().unwrap().status;
            prop_assert_eq!(usize::from(found), twin::server(&servers, &host), "{}", host);
        }
    }
}

fn listening(listen: Vec<Listen>, name: &str) -> VirtualServer {
    VirtualServer { listen, names: vec![ServerName::Exact(name.into())], ..Default::default() }
}

#[test]
fn address_of_the_connection_decides_before_any_name() {
    let on = |text: &str| Listen::new(text.parse().unwrap());
    let with_options =
        |text: &str| Listen { socket: Some(SocketOptions::default()), ..Listen::new(text.parse().unwrap()) };
    let router = Router::new(Http {
        upstreams: vec![],
        servers: vec![
            listening(vec![on("0.0.0.0:80"), on("[::]:80")], "all"),
            listening(vec![on("127.0.0.1:80")], "loopback"),
            listening(vec![with_options("127.0.0.2:80")], "own"),
            listening(vec![on("127.0.0.1:81")], "other"),
        ],
        ..Http::default()
    })
    .unwrap();
    let sockets: Vec<_> = router.sockets().iter().map(|socket| socket.addr.to_string()).collect();
    assert_eq!(sockets, ["0.0.0.0:80", "[::]:80", "127.0.0.2:80", "127.0.0.1:81"]);
    let server = |local: &str| {
        let entry = router.entry(local.parse().unwrap())?;
        Some(router.server(entry, "loopback", &mut Captures::default()).name())
    };
    assert_eq!(server("127.0.0.1:80"), Some("loopback"));
    assert_eq!(server("127.0.0.2:80"), Some("own"));
    assert_eq!(server("10.0.0.1:80"), Some("all"));
    assert_eq!(server("[::1]:80"), Some("all"));
    assert_eq!(server("[::ffff:127.0.0.1]:80"), Some("loopback"));
    assert_eq!(server("127.0.0.1:81"), Some("other"));
    assert_eq!(server("127.0.0.9:81"), None);
}

#[test]
fn default_server_is_the_marked_one_and_else_the_first() {
    let listen = |default_server| Listen { default_server, ..Listen::new(address()) };
    let default_of = |marks: &[bool]| {
        let servers = marks.iter().enumerate();
        let servers =
            servers.map(|(place, &mark)| listening(vec![listen(mark)], &place.to_string())).collect();
        let router = Router::new(Http { upstreams: vec![], servers, ..Http::default() })?;
        let entry = router.entry(address()).unwrap();
        let unknown = router.server(entry, "unknown", &mut Captures::default()).name();
        assert_eq!(unknown, router.default_server(entry).name());
        Ok(unknown.to_owned())
    };
    assert_eq!(default_of(&[false, false]), Ok("0".to_owned()));
    assert_eq!(default_of(&[false, true]), Ok("1".to_owned()));
    assert_eq!(default_of(&[true, true]), Err(RouteError::DuplicateDefault(address())));
}
