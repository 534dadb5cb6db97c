//! What hyper lets through and a proxy must not, for two readers could read it differently.
//!
//! Framing is the other half of it and looked at below hyper, see the server's `framing`.

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Version};

use crate::host::Host;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// In nginx's words, for the log.
    pub(super) reason: &'static str,
}

/// Refuses a request that has no single reading; returns the name that it is for, in lower case,
/// empty if it names none.
pub(super) fn check(parts: &Parts) -> Result<String, Refused> {
    check_method(&parts.method)?;
    // One look at all names is cheaper than a search for each of these.
    let (mut host, mut encoding) = (None, None);
    for (name, value) in &parts.headers {
        if *name == HOST {
            if host.replace(value).is_some() {
                return Err(bad("client sent duplicate host headers"));
            }
        } else if *name == TRANSFER_ENCODING && encoding.replace(value).is_some() {
            return Err(bad("client sent duplicate header line: \"Transfer-Encoding\""));
        }
    }
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refused { status: 501, reason: "client sent unknown \"Transfer-Encoding\"" });
    }
    check_host(parts, host)
}

fn check_method(method: &Method) -> Result<(), Refused> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Refused { status: 405, reason: "client sent CONNECT or TRACE method" });
    }
    let known = method.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-'));
    if known { Ok(()) } else { Err(bad("client sent invalid method")) }
}

/// A `Host` (none only in HTTP/1.0), which is a name and says the same as the target.
fn check_host(parts: &Parts, field: Option<&HeaderValue>) -> Result<String, Refused> {
    let host = match field {
        Some(field) => {
            Some(Host::parse(field.as_bytes()).map_err(|_| bad("client sent invalid host header"))?)
        }
        // HTTP/2 names the host in its pseudo-header, which is the target's authority here.
        None if parts.version >= Version::HTTP_2 && parts.uri.authority().is_some() => None,
        None if parts.version >= Version::HTTP_11 => {
            return Err(bad("client sent HTTP/1.1 request without \"Host\" header"));
        }
        None => None,
    };
    let Some(authority) = parts.uri.authority() else {
        return Ok(host.map_or_else(String::new, |host| host.name().to_owned()));
    };
    let default_port = match parts.uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(bad("client sent invalid request target")),
    };
    let named = Host::parse(authority.as_str().as_bytes())
        .map_err(|_| bad("client sent invalid host in request line"))?;
    let port = |host: &Host<'_>| host.port().unwrap_or(default_port);
    match host {
        Some(host) if host.name() != named.name() || port(&host) != port(&named) => {
            Err(bad("client sent a host header that differs from the request line"))
        }
        _ => Ok(named.name().to_owned()),
    }
}

fn bad(reason: &'static str) -> Refused {
    Refused { status: 400, reason }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::check;

    #[track_caller]
    fn expect(status: u16, method: &str, target: &str, headers: &[(&str, &str)]) {
        let request = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let answered = check(&parts).map_or_else(|refused| refused.status, |_| 200);
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
        expect(400, "GET", "http://a/x", &[("host", "b")]);
        expect(400, "GET", "http://a:81/x", &[("host", "a")]);
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
