//! `userid`: the field that gives a client a cookie by which it can be told apart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::credentials::base64;
use crate::date;
use crate::model::{UserId, UserIdExpires};
use crate::variable::{Exchange, UID_DIGITS, Uid, uid_set};

/// Returns the cookie that a client is given, if it is.
pub(super) fn of(exchange: &Exchange<'_>) -> Option<HeaderValue> {
    let userid = &*exchange.settings.userid;
    let text = written(userid, &uid_set(exchange)?, exchange.moment.now());
    HeaderValue::from_maybe_shared(text).ok()
}

/// Adds the cookie, and what goes along.
pub(super) fn add(userid: &UserId, cookie: HeaderValue, headers: &mut HeaderMap) {
    headers.append(SET_COOKIE, cookie);
    if let Some(p3p) = &userid.p3p {
        headers.append(P3P.clone(), p3p.clone());
    }
}

fn written(userid: &UserId, uid: &Uid, now: SystemTime) -> String {
    let mut text = base64::encode(uid);
    if let Some(mark) = userid.mark {
        text.truncate(UID_DIGITS);
        text.push(char::from(mark));
        text.push('=');
    }
    let mut cookie = format!("{}={text}", userid.name);
    match userid.expires {
        UserIdExpires::Session => {}
        UserIdExpires::Never => cookie.push_str(&format!("; expires={}", date::cookie(UNIX_EPOCH + LAST))),
        UserIdExpires::After(time) => {
            let expires = now.checked_add(time).unwrap_or(UNIX_EPOCH + LAST);
            cookie.push_str(&format!("; expires={}", date::cookie(date::sendable(expires))));
        }
    }
    if let Some(domain) = &userid.domain {
        cookie.push_str(&format!("; domain={domain}"));
    }
    cookie.push_str(&format!("; path={}", userid.path));
    for flag in &userid.flags {
        cookie.push_str(&format!("; {flag}"));
    }
    cookie
}

/// The last day that programs of old know.
const LAST: Duration = Duration::from_secs(2_145_916_555);

static P3P: HeaderName = HeaderName::from_static("p3p");
