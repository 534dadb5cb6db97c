//! `location {}`: which paths it takes, and who answers.

use http::Method;

use crate::model::{
    Fallback, Handler, LimitExcept, Location, Matcher, PassModule, PassTo, PassUri, Pattern, ProxyPass,
    Return, ReturnBody, Root, Settings, StatusPage, Tried, TriedKind, TryFiles,
};
use crate::variable::{Value, Variable};

use super::rules::{self, ANY, Context, Fault, Rule};
use super::server::pattern_fault;
use super::tree::Directive;
use super::value::parse_number;
use super::{Error, Scope, check, rewrite};

/// What fills in a [`Location`], apart from its settings.
pub(super) const RULES: &[Rule<Location>] = &[
    Rule::new("proxy_pass", INSIDE, 1..=1, proxy_pass),
    Rule::new("grpc_pass", Context::LOCATION.or(Context::LOCATION_IF), 1..=1, grpc_pass),
    Rule::new("alias", Context::LOCATION, 1..=1, |scope, location, directive| {
        let directory = super::settings::directory(scope, directive, directive.arg(0))?;
        let replaces = match &location.matcher {
            Matcher::Exact(path) | Matcher::Prefix(path) | Matcher::FinalPrefix(path) => Some(path.len()),
            Matcher::Regex(_) => None,
            Matcher::Named(_) => {
                let message = "the \"alias\" directive cannot be used inside the named location";
                return Err(Fault::new(message));
            }
        };
        location.settings.files.root = Root::Alias { directory, replaces };
        Ok(())
    }),
    Rule::new("try_files", Context::LOCATION, 2..=ANY, |scope, location, directive| {
        location.try_files = Some(try_files(scope, directive)?);
        Ok(())
    }),
    Rule::new("stub_status", Context::LOCATION, 0..=1, |_, location, _| {
        location.handler = Handler::Status(StatusPage::Stub);
        Ok(())
    }),
    Rule::new("empty_gif", Context::LOCATION, 0..=0, |_, location, _| {
        location.handler = Handler::EmptyGif;
        Ok(())
    }),
    Rule::new("lvs_metrics", Context::LOCATION, 0..=0, |_, location, _| {
        location.handler = Handler::Status(StatusPage::Metrics);
        Ok(())
    }),
    Rule::new("lvs_status", Context::LOCATION, 0..=0, |_, location, _| {
        location.handler = Handler::Status(StatusPage::Upstreams);
        Ok(())
    }),
    Rule::new("lvs_log", Context::LOCATION, 0..=0, |_, location, _| {
        location.handler = Handler::Status(StatusPage::Log);
        Ok(())
    }),
    Rule::new("internal", Context::LOCATION, 0..=0, |_, location, _| {
        location.internal = true;
        Ok(())
    }),
];

/// A location, and the blocks in it that hold for some of its requests.
const INSIDE: Context = Context::LOCATION.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT);

/// Reads the locations of a server, or of the location `outer`.
pub(super) fn read_all(
    scope: &mut Scope,
    block: &[Directive],
    settings: &Settings,
    outer: Option<&Matcher>,
) -> Result<Vec<Location>, Error> {
    let mut found: Vec<Location> = Vec::new();
    for directive in block.iter().filter(|directive| directive.name == "location") {
        let matcher = matcher(directive).map_err(|fault| fault.at(directive))?;
        check_nesting(&matcher, outer).map_err(|fault| fault.at(directive))?;
        if name(&matcher).contains(';') {
            scope.note(directive, "paths are matched without their parameters (\";...\")");
        }
        if found.iter().any(|other| same(&other.matcher, &matcher)) {
            let name = name(&matcher);
            return Err(Error::at(&directive.place, format!("duplicate location \"{name}\"")));
        }
        found.push(read(scope, directive, matcher, settings)?);
    }
    Ok(found)
}

fn read(
    scope: &mut Scope,
    directive: &Directive,
    matcher: Matcher,
    outer: &Settings,
) -> Result<Location, Error> {
    let block = &directive.block;
    let mut location = Location::new(matcher, outer.clone());
    location.place = Some(directive.place.clone());
    check_roots(block)?;
    super::settings_of(scope, Context::LOCATION, block, &mut location.settings)?;
    rules::apply(scope, RULES, Context::LOCATION, block, &mut location)?;
    rules::apply(scope, check::RULES, Context::LOCATION, block, &mut location)?;
    (location.script, location.reply) = rewrite::read(scope, block, Some(&location))?;
    location.limit_except = limit_except(scope, block, &location)?;
    let (settings, matcher) = (&location.settings, &location.matcher);
    location.locations = read_all(scope, block, settings, Some(matcher))?;
    Ok(location)
}

/// Reads a block that holds for some requests of the location `outer`, in which it stands.
pub(super) fn read_inside(
    scope: &mut Scope,
    context: Context,
    block: &[Directive],
    outer: &Location,
) -> Result<Location, Error> {
    let mut location = Location::new(outer.matcher.clone(), outer.settings.clone());
    location.handler = outer.handler.clone();
    location.place.clone_from(&outer.place);
    super::settings_of(scope, context, block, &mut location.settings)?;
    rules::apply(scope, RULES, context, block, &mut location)?;
    // What part of a path it would stand for is not known here.
    if let Handler::Proxy(ProxyPass { uri: Some(PassUri::Prefix(_)), .. }) = &location.handler
        && let Some(pass) = block.iter().find(|inside| inside.name == "proxy_pass")
    {
        return Err(Fault::new(NO_URI).at(pass));
    }
    Ok(location)
}

/// Why a `proxy_pass` may not have a path of its own.
const NO_URI: &str = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside \
                      named location, or inside \"if\" statement, or inside \"limit_except\" block";

fn limit_except(
    scope: &mut Scope,
    block: &[Directive],
    outer: &Location,
) -> Result<Option<LimitExcept>, Error> {
    let mut found = None;
    for directive in block.iter().filter(|directive| directive.name == "limit_except") {
        if found.is_some() {
            return Err(Fault::directive("is duplicate").at(directive));
        }
        let mut methods = Vec::new();
        for word in &directive.args {
            if !METHODS.contains(&&*word.to_ascii_uppercase()) {
                return Err(Fault::new(format!("invalid method \"{word}\"")).at(directive));
            }
            let method = Method::from_bytes(word.to_ascii_uppercase().as_bytes());
            methods.push(method.map_err(|_| Fault::value(word).at(directive))?);
        }
        let location = read_inside(scope, Context::LIMIT_EXCEPT, &directive.block, outer)?;
        found = Some(LimitExcept { methods, location: Box::new(location) });
    }
    Ok(found)
}

/// The methods that `limit_except` may name.
const METHODS: [&str; 14] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
];

/// Refuses `root` beside `alias`: there is one place where files are looked up.
fn check_roots(block: &[Directive]) -> Result<(), Error> {
    let mut roots = block.iter().filter(|inside| matches!(&*inside.name, "root" | "alias"));
    if let (Some(first), Some(second)) = (roots.next(), roots.next())
        && first.name != second.name
    {
        let rest = format!("is duplicate, \"{}\" directive was specified earlier", first.name);
        return Err(Fault::directive(rest).at(second));
    }
    Ok(())
}

/// Reads what stands between `location` and its brace.
fn matcher(directive: &Directive) -> Result<Matcher, Fault> {
    let (modifier, text) = match &*directive.args {
        [modifier, text] => (&**modifier, &**text),
        [word] => split_modifier(word),
        _ => ("", ""),
    };
    let pattern = |pattern: Result<Pattern, _>| {
        let pattern = pattern.map_err(|error| pattern_fault(text, &error))?;
        Scope::check_names(&pattern)?;
        Ok(Matcher::Regex(pattern))
    };
    match modifier {
        "" => match text.strip_prefix('@') {
            Some(name) => Ok(Matcher::Named(name.to_owned())),
            None => Ok(Matcher::Prefix(text.into())),
        },
        "=" => Ok(Matcher::Exact(text.into())),
        "^~" => Ok(Matcher::FinalPrefix(text.into())),
        "~" => pattern(Pattern::new(text)),
        "~*" => pattern(Pattern::new_ignoring_case(text)),
        other => Err(Fault::new(format!("invalid location modifier \"{other}\""))),
    }
}

/// Splits `=/path`, `^~/path`, `~regex` and `~*regex`, which may be written as one word.
fn split_modifier(word: &str) -> (&str, &str) {
    for modifier in ["=", "^~", "~*", "~"] {
        if let Some(text) = word.strip_prefix(modifier) {
            return (modifier, text);
        }
    }
    ("", word)
}

fn check_nesting(matcher: &Matcher, outer: Option<&Matcher>) -> Result<(), Fault> {
    let Some(outer) = outer else { return Ok(()) };
    let (inner_name, outer_name) = (name(matcher), name(outer));
    let inside = |kind: &str| {
        Fault::new(format!("location \"{inner_name}\" cannot be inside the {kind} location \"{outer_name}\""))
    };
    match (matcher, outer) {
        (_, Matcher::Exact(_)) => Err(inside("exact")),
        (_, Matcher::Named(_)) => Err(inside("named")),
        (Matcher::Named(_), _) => {
            Err(Fault::new(format!("named location \"{inner_name}\" can be on the server level only")))
        }
        (
            Matcher::Prefix(path) | Matcher::FinalPrefix(path) | Matcher::Exact(path),
            Matcher::Prefix(prefix) | Matcher::FinalPrefix(prefix),
        ) if !path.starts_with(prefix) => {
            Err(Fault::new(format!("location \"{inner_name}\" is outside location \"{outer_name}\"")))
        }
        // As in nginx, where the expression's text is its name.
        (
            Matcher::Prefix(path) | Matcher::FinalPrefix(path) | Matcher::Exact(path),
            Matcher::Regex(pattern),
        ) if !path.starts_with(pattern.source().as_bytes()) => {
            Err(Fault::new(format!("location \"{inner_name}\" is outside location \"{outer_name}\"")))
        }
        _ => Ok(()),
    }
}

/// Returns whether two locations of one level exclude each other.
fn same(one: &Matcher, other: &Matcher) -> bool {
    match (one, other) {
        (Matcher::Exact(one), Matcher::Exact(other)) => one == other,
        (Matcher::Named(one), Matcher::Named(other)) => one == other,
        (
            Matcher::Prefix(one) | Matcher::FinalPrefix(one),
            Matcher::Prefix(other) | Matcher::FinalPrefix(other),
        ) => one == other,
        _ => false,
    }
}

/// Returns a location's name as messages show it.
fn name(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Exact(path) | Matcher::Prefix(path) | Matcher::FinalPrefix(path) => {
            String::from_utf8_lossy(path).into_owned()
        }
        Matcher::Regex(pattern) => pattern.source().to_owned(),
        Matcher::Named(name) => format!("@{name}"),
    }
}

/// Reads a `try_files`.
pub(super) fn try_files(scope: &Scope, directive: &Directive) -> Result<TryFiles, Fault> {
    let (last, paths) = directive.args.split_last().ok_or_else(|| Fault::value(""))?;
    let last = match last.strip_prefix('=') {
        Some(code) => {
            let invalid = |_| Fault::new(format!("invalid code \"{last}\""));
            Fallback::Status(self::code(code).map_err(invalid)?)
        }
        None => Fallback::Path(Value::parse(last, &scope.names)?),
    };
    let tried = |written: &String| -> Result<Tried, Fault> {
        // The slash of the directive, not that of what a variable brings.
        let (path, kind) = match written.strip_suffix('/') {
            Some(path) => (path, TriedKind::Directory),
            None => (&**written, TriedKind::File),
        };
        Ok(Tried { path: Value::parse(path, &scope.names)?, kind })
    };
    let paths = paths.iter().map(tried).collect::<Result<_, _>>()?;
    Ok(TryFiles { paths, last })
}

fn proxy_pass(scope: &mut Scope, location: &mut Location, directive: &Directive) -> Result<(), Fault> {
    let url = directive.arg(0);
    let plain = strip_scheme(url, "http://").map(|rest| (rest, 80, false));
    let secure = || strip_scheme(url, "https://").map(|rest| (rest, 443, true));
    let split = plain.or_else(secure).map(|(rest, port, tls)| {
        let (authority, uri) = match rest.strip_prefix("unix:") {
            // A colon ends the path.
            Some(path) => {
                let (path, uri) = path.split_once(':').unwrap_or((path, ""));
                (&rest[.."unix:".len() + path.len()], uri)
            }
            None => rest.split_at(rest.find(['/', '?', '$']).unwrap_or(rest.len())),
        };
        (authority, uri, port, tls)
    });
    let (authority, uri, default_port, tls) = match split {
        None if url.contains('$') => return proxy_to(scope, location, url),
        None => return Err(Fault::new("invalid URL prefix")),
        // The path of a Unix socket may vary, too.
        Some((authority, ..)) if authority.contains('$') => return proxy_to(scope, location, url),
        Some((authority, uri, port, tls)) if uri.starts_with('$') => {
            // `http://name$request_uri` is usual; in `http://$name` or `http://name$port` it is the host
            // that varies.
            let variable = Value::parse(uri, &scope.names)?.variables().next().cloned();
            if authority.is_empty() || !matches!(variable, Some(Variable::RequestUri | Variable::Uri)) {
                return proxy_to(scope, location, url);
            }
            (authority, uri, port, tls)
        }
        Some(split) => split,
    };
    // A URL with variables is read with the request, as in nginx: a name in it is asked for as often as its
    // answer holds. Without a `resolver`, where nginx can reach no name at all, it is looked up once.
    let is_followed = uri.contains('$') && scope.upstreams.is_free_name(authority);
    if is_followed && location.settings.resolving.resolver().is_some() {
        return proxy_to(scope, location, url);
    }
    // What is wrong with an address is told before what may not follow it.
    let shown = url.split_once("://").map_or(url, |(_, rest)| rest);
    let referred = match scope.upstreams.refer(authority, Some(default_port), shown) {
        Err(_) if is_followed => return proxy_to(scope, location, url),
        referred => referred?,
    };
    if !uri.is_empty()
        && !uri.contains('$')
        && matches!(location.matcher, Matcher::Regex(_) | Matcher::Named(_))
    {
        return Err(Fault::new(NO_URI));
    }
    let uri = match uri {
        "" => None,
        // A query without a path is appended to the root.
        uri if uri.starts_with('?') => Some(format!("/{uri}")),
        uri => Some(uri.to_owned()),
    };
    let uri = match uri {
        Some(uri) if uri.contains('$') => Some(PassUri::Whole(Value::parse(&uri, &scope.names)?)),
        uri => uri.map(PassUri::Prefix),
    };
    let scheme = if tls { "https" } else { "http" };
    let url = match uri {
        Some(PassUri::Whole(_)) => format!("{scheme}://{authority}"),
        _ => url.to_owned(),
    };
    location.handler = Handler::Proxy(ProxyPass {
        upstream: Some(referred.id),
        tls,
        module: PassModule::Proxy,
        host: referred.host,
        url,
        port: referred.port,
        uri,
    });
    Ok(())
}

/// Takes a URL that says only with a request whom it is about.
fn proxy_to(scope: &Scope, location: &mut Location, url: &str) -> Result<(), Fault> {
    let url = Value::parse(url, &scope.names)?;
    location.handler = Handler::ProxyTo(PassTo { url, module: PassModule::Proxy });
    Ok(())
}

/// Reads `grpc://name`, `grpcs://name` or a bare name.
fn grpc_pass(scope: &mut Scope, location: &mut Location, directive: &Directive) -> Result<(), Fault> {
    let url = directive.arg(0);
    let (authority, tls) = match (strip_scheme(url, "grpcs://"), strip_scheme(url, "grpc://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => (url, false),
    };
    if authority.contains('$') {
        let url = Value::parse(url, &scope.names)?;
        location.handler = Handler::ProxyTo(PassTo { url, module: PassModule::Grpc });
        return Ok(());
    }
    // As in nginx no port is meant where none is written.
    let referred = scope.upstreams.refer(authority, None, authority)?;
    location.handler = Handler::Proxy(ProxyPass {
        upstream: Some(referred.id),
        tls,
        module: PassModule::Grpc,
        host: referred.host,
        url: url.to_owned(),
        port: referred.port,
        uri: None,
    });
    Ok(())
}

fn strip_scheme<'u>(url: &'u str, scheme: &str) -> Option<&'u str> {
    let start = url.get(..scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
}

/// Reads a `return`.
pub(super) fn reply(scope: &Scope, directive: &Directive) -> Result<Return, Fault> {
    let first = directive.arg(0);
    let Some(second) = directive.args.get(1) else {
        // A lone URL is a redirect.
        if ["http://", "https://", "$scheme"].iter().any(|start| first.starts_with(start)) {
            let place = Value::parse(first, &scope.names)?;
            return Ok(Return { status: 302, body: ReturnBody::Location(place) });
        }
        return Ok(Return { status: code(first)?, body: ReturnBody::Page });
    };
    let status = code(first)?;
    let text = Value::parse(second, &scope.names)?;
    let body = match status {
        301 | 302 | 303 | 307 | 308 => ReturnBody::Location(text),
        _ => ReturnBody::Text(text),
    };
    Ok(Return { status, body })
}

fn code(word: &str) -> Result<u16, Fault> {
    let invalid = || Fault::new(format!("invalid return code \"{word}\""));
    parse_number(word).filter(|&code: &u16| code <= 999).ok_or_else(invalid)
}
