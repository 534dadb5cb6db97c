//! What parsers let through and a proxy must not, for two readers could read it differently.
//!
//! Framing is the other half of it and looked at where heads are read.

use http::header::{
    AUTHORIZATION, CONTENT_RANGE, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Version};

use std::rc::Rc;

use crate::host::Recent;
use crate::model::HeadLimits;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// In nginx's words, for the log.
    pub(crate) reason: &'static str,
}

impl Refused {
    /// The part of a head that it is about, in nginx's words.
    pub(super) fn part(self) -> &'static str {
        match self.reason {
            "client sent invalid request line"
            | "client sent invalid request"
            | "client sent invalid method"
            | "client sent invalid version"
            | "client sent invalid request target"
            | "client sent invalid host in request line"
            | "client sent too long URI" => "line",
            _ => "headers",
        }
    }
}

/// Refuses a request that has no single reading; returns the name that it is for, in lower case,
/// empty if it names none.
///
/// `size` is that of the head, if it was sent as text.
pub(super) fn check(
    parts: &mut Parts,
    size: Option<usize>,
    limits: &HeadLimits,
    recent: &mut Recent,
) -> Result<Rc<str>, Refused> {
    check_size(parts, size, limits)?;
    check_method(&parts.method)?;
    // One look at all names is cheaper than a search for each of these.
    let (mut host, mut encoding) = (None, None);
    for (name, value) in &parts.headers {
        if *name == HOST {
            if host.replace(value).is_some() {
                return Err(bad("client sent duplicate host headers"));
            }
        } else if UNIQUE.contains(name) && parts.headers.get_all(name).iter().count() > 1 {
            return Err(bad("client sent duplicate header line"));
        } else if *name == TRANSFER_ENCODING && encoding.replace(value).is_some() {
            return Err(bad("client sent duplicate header line: \"Transfer-Encoding\""));
        }
    }
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refused { status: 501, reason: "client sent unknown \"Transfer-Encoding\"" });
    }
    let host = check_host(parts, host, recent)?;
    // What follows goes by the field, so that there is one name of the request.
    if let Some(authority) = parts.uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, value);
    }
    Ok(host)
}

/// Fields that have one value, or no single meaning.
const UNIQUE: [HeaderName; 9] = [
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_MATCH,
    IF_NONE_MATCH,
    CONTENT_RANGE,
    IF_RANGE,
    EXPECT,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
];

/// Refuses a head that is larger than is allowed. How many bytes one of HTTP/2 has was judged before its
/// cookies were put together.
fn check_size(parts: &Parts, size: Option<usize>, limits: &HeadLimits) -> Result<(), Refused> {
    // With a blank and a whole end to each line, which some clients do without.
    let most = size.map(|size| size + (parts.headers.len() + 1) * " \r".len());
    let is_small = most.is_some_and(|most| most as u64 <= limits.line_max().min(limits.size_max()));
    if parts.version < Version::HTTP_2 && !is_small {
        check_lines(parts, limits)?;
    }
    // The `Host` that we made of HTTP/2's pseudo-header is no field of the client's.
    let own = usize::from(parts.version == Version::HTTP_2 && parts.uri.authority().is_some());
    if parts.headers.len() > limits.fields.saturating_add(own) {
        return Err(Refused { status: 494, reason: "client sent too many header lines" });
    }
    Ok(())
}

fn check_lines(parts: &Parts, limits: &HeadLimits) -> Result<(), Refused> {
    let large = |status, reason| Err(Refused { status, reason });
    let line = parts.method.as_str().len() + target_size(parts) + "  HTTP/1.1\r\n".len();
    if line as u64 > limits.line_max() {
        return large(414, "client sent too long URI");
    }
    let mut sum = line as u64;
    for (name, value) in &parts.headers {
        let line = (name.as_str().len() + value.len() + ": \r\n".len()) as u64;
        sum += line;
        if line > limits.line_max() {
            return large(494, "client sent too long header line");
        }
    }
    if sum > limits.size_max() {
        return large(494, "client sent too large request");
    }
    Ok(())
}

fn target_size(parts: &Parts) -> usize {
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let scheme = parts.uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    path + scheme + parts.uri.authority().map_or(0, |authority| authority.as_str().len())
}

fn check_method(method: &Method) -> Result<(), Refused> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Refused { status: 405, reason: "client sent CONNECT or TRACE method" });
    }
    let known = method.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-'));
    if known { Ok(()) } else { Err(bad("client sent invalid method")) }
}

/// A `Host` (none only in HTTP/1.0), which is a name; that of the target in its place, if it has one.
fn check_host(parts: &Parts, field: Option<&HeaderValue>, recent: &mut Recent) -> Result<Rc<str>, Refused> {
    let host = match field {
        Some(field) => {
            Some(recent.read(field.as_bytes()).map_err(|_| bad("client sent invalid host header"))?)
        }
        // HTTP/2 names the host in its pseudo-header, which is the target's authority here.
        None if parts.version >= Version::HTTP_2 && parts.uri.authority().is_some() => None,
        None if parts.version >= Version::HTTP_11 => {
            return Err(bad("client sent HTTP/1.1 request without \"Host\" header"));
        }
        None => None,
    };
    let Some(authority) = parts.uri.authority() else {
        return Ok(host.unwrap_or_else(Recent::none));
    };
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("client sent invalid request target"));
    }
    // Where the target names a host, the field does not count (RFC 9112, section 3.2.2).
    recent.read(authority.as_str().as_bytes()).map_err(|_| bad("client sent invalid host in request line"))
}

fn bad(reason: &'static str) -> Refused {
    Refused { status: 400, reason }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{HeadLimits, Recent, check};

    #[track_caller]
    fn expect(status: u16, method: &str, target: &str, headers: &[(&str, &str)]) {
        let request = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let answered = check(&mut parts, None, &HeadLimits::default(), &mut Recent::default())
            .map_or_else(|refused| refused.status, |_| 200);
        assert_eq!(answered, status, "{method} {target} {headers:?}");
    }

    #[test]
    fn host_is_named_once_and_in_one_way() {
        expect(200, "GET", "/", &[("host", "a")]);
        expect(400, "GET", "/", &[]);
        expect(400, "GET", "/", &[("host", "")]);
        expect(400, "GET", "/", &[("host", "a"), ("host", "a")]);
        expect(400, "GET", "/", &[("host", "a@b")]);
        expect(200, "GET", "http://a/x", &[("host", "A:80")]);
        expect(200, "GET", "https://a:443/x", &[("host", "a")]);
        expect(200, "GET", "http://a/x", &[("host", "b")]);
        expect(200, "GET", "http://a:81/x", &[("host", "a")]);
        expect(400, "GET", "http://a/x", &[]);
        expect(400, "GET", "http://a/x", &[("host", "b"), ("host", "a")]);
        expect(400, "GET", "ftp://a/x", &[("host", "a")]);
        expect(400, "GET", "http://u@a/x", &[("host", "a")]);
        expect(400, "GET", "a:80", &[("host", "a")]);
    }

    #[test]
    fn only_the_encoding_chunked_is_taken() {
        let host = ("host", "a");
        expect(200, "POST", "/", &[host, ("transfer-encoding", "Chunked")]);
        expect(501, "POST", "/", &[host, ("transfer-encoding", "gzip, chunked")]);
        expect(501, "POST", "/", &[host, ("transfer-encoding", "chunked, chunked")]);
        expect(501, "POST", "/", &[host, ("transfer-encoding", "xchunked")]);
        expect(400, "POST", "/", &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]);
    }

    #[test]
    fn methods_of_other_roles_are_refused() {
        expect(405, "CONNECT", "a:80", &[("host", "a:80")]);
        expect(405, "TRACE", "/", &[("host", "a")]);
        expect(400, "get", "/", &[("host", "a")]);
        expect(200, "PROPFIND", "/", &[("host", "a")]);
    }
}
