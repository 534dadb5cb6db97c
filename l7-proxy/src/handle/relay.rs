//! What a server's answer means, and what of it the client gets.
//!
//! A server may tell us to answer with something else (`X-Accel-Redirect`), an `error_page` may
//! answer for its errors, and fields that name the server's own address are put in our terms.

mod cookies;

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, DATE, EXPIRES, LOCATION, PROXY_AUTHENTICATE, REFRESH,
    SERVER, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Answer, Step, exchange};
use crate::model::{
    Errors, Handler, PassUri, ProxyPass, RedirectRule, RedirectRules, Relay, Replace, Subject,
};
use crate::pages;
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::{Captures, Exchange, Value};

/// Returns what comes of a server's answer.
pub(super) fn examine(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    mut answer: Answer,
) -> Step {
    let relay = &route.proxy().relay;
    if transaction.generation.site.router.needs().upstream_fields {
        transaction.upstream_headers = Some(answer.headers.clone());
    }
    let obeyed = |name: &HeaderName| {
        answer.headers.get(name).filter(|_| !relay.ignore.contains(name)).map(HeaderValue::as_bytes)
    };
    // One look at each name is cheaper than a search for each that might be there.
    if answer.headers.keys().any(|name| name.as_str().starts_with("x-accel-")) {
        if let Some(rate) = obeyed(&X_ACCEL_LIMIT_RATE) {
            transaction.findings.limit_rate =
                std::str::from_utf8(rate).ok().and_then(|rate| rate.parse().ok());
        }
        if let Some(name) = obeyed(&X_ACCEL_CHARSET) {
            transaction.charset = std::str::from_utf8(name).ok().map(Into::into);
        }
        if let Some(place) = obeyed(&X_ACCEL_REDIRECT) {
            let place = place.to_vec();
            transaction.carried = Some(Box::new(carried(&answer.headers)));
            transaction.attempts.end(answer.kind.traffic().unwrap_or_default());
            match place.first() {
                Some(b'/') => transaction.act_as_get(),
                Some(b'@') => {}
                // What is no path leads nowhere.
                _ => return Step::status(404),
            }
            return Step::Elsewhere(place);
        }
    }
    let status = answer.status.as_u16();
    let traffic = answer.kind.traffic().unwrap_or_default();
    if is_intercepted(route, status) {
        for value in answer.headers.get_all(WWW_AUTHENTICATE) {
            transaction.carried.get_or_insert_default().append(WWW_AUTHENTICATE, value.clone());
        }
        transaction.attempts.end(traffic);
        return Step::status(status);
    }
    hide(relay, &mut answer.headers);
    let exchange = exchange(transaction, server, route, target);
    if let Handler::Proxy(pass) = route.handler {
        redirects(relay, pass, route, &exchange, &mut answer.headers);
    }
    cookies::rewrite(relay, &exchange, &mut answer.headers);
    Step::Done(answer)
}

/// Whether an `error_page` answers in place of a server that answers with this status.
pub(super) fn is_intercepted(route: &Route<'_>, status: u16) -> bool {
    route.proxy().relay.errors == Errors::Intercepted
        && status >= 300
        && route.settings.error_pages.iter().any(|page| page.statuses.contains(&status))
}

/// Whether a server wants something else to be answered in its place.
pub(super) fn is_sent_elsewhere(relay: &Relay, headers: &HeaderMap) -> bool {
    headers.contains_key(&X_ACCEL_REDIRECT) && !relay.ignore.contains(&X_ACCEL_REDIRECT)
}

/// Whether a server wants its answer not to be read faster than its client takes it.
pub(super) fn is_not_buffered(relay: &Relay, headers: &HeaderMap) -> bool {
    let said = headers.get(&X_ACCEL_BUFFERING).filter(|_| !relay.ignore.contains(&X_ACCEL_BUFFERING));
    said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"no"))
}

/// Returns the fields that stay when another location answers in the server's place.
fn carried(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [CONTENT_TYPE, CONTENT_DISPOSITION, CACHE_CONTROL, EXPIRES, SET_COOKIE] {
        for value in headers.get_all(&name) {
            kept.append(&name, value.clone());
        }
    }
    kept
}

/// Takes away what is not for the client: what we write ourselves, what the server meant for us
/// (nginx hides the same), and what the configuration says.
fn hide(relay: &Relay, headers: &mut HeaderMap) {
    // One look at each name is cheaper than a search for each that might be there.
    while let Some(name) = headers.keys().find(|name| relay.is_hidden(name)).cloned() {
        headers.remove(name);
    }
}

impl Relay {
    /// Whether a server's field is not for the client.
    pub(crate) fn is_hidden(&self, name: &HeaderName) -> bool {
        let hidden = [&DATE, &SERVER, &PROXY_AUTHENTICATE, &X_PAD].contains(&name)
            || name.as_str().strip_prefix("x-accel-").is_some_and(|name| FOR_US.contains(&name));
        self.hide.contains(name) || (hidden && !self.pass.contains(name))
    }
}

/// Puts the places that the server names in our terms.
fn redirects(
    relay: &Relay,
    pass: &ProxyPass,
    route: &Route<'_>,
    exchange: &Exchange<'_>,
    headers: &mut HeaderMap,
) {
    let place = |text: &[u8]| match &relay.redirect {
        RedirectRules::Off => None,
        RedirectRules::Default => by_default(pass, route, exchange, text),
        RedirectRules::Rules(rules) => rules.iter().find_map(|rule| match rule {
            RedirectRule::Default => by_default(pass, route, exchange, text),
            RedirectRule::Replace(rule) => replaced(rule, exchange, text, Extent::Beginning),
        }),
    };
    // A look at the names is cheaper than a search for what few answers have.
    if !headers.keys().any(|name| *name == LOCATION || *name == REFRESH) {
        return;
    }
    if let Some(text) = headers.get(LOCATION).and_then(|location| place(location.as_bytes())) {
        let absolute = std::str::from_utf8(&text).ok().and_then(|text| pages::absolute(text, exchange));
        if let Some(value) = absolute.or_else(|| HeaderValue::from_bytes(&text).ok()) {
            headers.insert(LOCATION, value);
        }
    }
    if let Some(refresh) = headers.get(REFRESH).map(HeaderValue::as_bytes)
        && let Some(start) = find_url(refresh)
        && let Some(text) = place(&refresh[start..])
        && let Ok(value) = HeaderValue::from_bytes(&[&refresh[..start], &text].concat())
    {
        headers.insert(REFRESH, value);
    }
}

/// Returns where the place begins in the value of a `Refresh`.
fn find_url(refresh: &[u8]) -> Option<usize> {
    let at = refresh.windows(4).position(|window| window.eq_ignore_ascii_case(b"url="))?;
    Some(at + 4)
}

/// Replaces what `proxy_pass` says by what the location says.
fn by_default(pass: &ProxyPass, route: &Route<'_>, exchange: &Exchange<'_>, text: &[u8]) -> Option<Vec<u8>> {
    match &pass.uri {
        Some(PassUri::Whole(_)) => None,
        Some(PassUri::Prefix(_)) => {
            let rest = text.strip_prefix(pass.url.as_bytes())?;
            let path = exchange.target.path();
            Some([path.get(..route.prefix_len).unwrap_or(b"/"), rest].concat())
        }
        None => {
            let rest = text.strip_prefix(pass.url.as_bytes())?.strip_prefix(b"/")?;
            Some([b"/", rest].concat())
        }
    }
}

/// How much of a text a plain rule must match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Its beginning; the rest stays.
    Beginning,
    /// All of it, without regard to case.
    Whole,
}

/// Returns what a rule makes of a text, if it fits.
fn replaced(rule: &Replace, exchange: &Exchange<'_>, text: &[u8], extent: Extent) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match &rule.what {
        Subject::Text(value) => {
            let mut wanted = Vec::new();
            let wanted = value.bytes(exchange, &mut wanted);
            let rest = match extent {
                Extent::Beginning => text.strip_prefix(wanted)?,
                // A dot in front of a domain says nothing (RFC 6265).
                Extent::Whole if text.eq_ignore_ascii_case(wanted.strip_prefix(b".").unwrap_or(wanted)) => {
                    b""
                }
                Extent::Whole => return None,
            };
            rule.by.write(exchange, &mut out);
            out.extend_from_slice(rest);
        }
        Subject::Pattern(pattern) => {
            let mut captures: Captures = exchange.captures.clone();
            if !captures.matches(pattern, text) {
                return None;
            }
            rule.by.write(&Exchange { captures: &captures, ..*exchange }, &mut out);
        }
    }
    Some(out)
}

/// Returns a value's text.
fn text_of(value: &Value, exchange: &Exchange<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    value.write(exchange, &mut text);
    text
}

/// What follows `x-accel-` in the fields that are for us.
const FOR_US: [&str; 5] = ["buffering", "charset", "expires", "limit-rate", "redirect"];

static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
static X_ACCEL_CHARSET: HeaderName = HeaderName::from_static("x-accel-charset");
static X_ACCEL_LIMIT_RATE: HeaderName = HeaderName::from_static("x-accel-limit-rate");
static X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
static X_PAD: HeaderName = HeaderName::from_static("x-pad");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_meant_for_us_stays_behind_unless_it_is_to_pass() {
        let fields =
            ["server", "x-accel-redirect", "x-accel-buffering", "x-accel-theirs", "content-type", "x-own"];
        let headers = || -> HeaderMap {
            fields.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect()
        };
        let check = |relay: &Relay, expected: &[&str]| {
            let mut headers = headers();
            hide(relay, &mut headers);
            let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
        };
        check(&Relay::default(), &["content-type", "x-accel-theirs", "x-own"]);
        let relay =
            Relay { hide: vec![HeaderName::from_static("x-own")], pass: vec![SERVER], ..Relay::default() };
        check(&relay, &["content-type", "server", "x-accel-theirs"]);
    }

    #[test]
    fn place_of_a_refresh_is_found() {
        assert_eq!(find_url(b"7; url=http://a/"), Some(7));
        assert_eq!(find_url(b"7;URL=/"), Some(6));
        assert_eq!(find_url(b"7"), None);
    }
}
