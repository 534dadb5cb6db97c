//! Directives that say how requests are forwarded, except where to: `proxy_pass` is a location's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;

use crate::model::{ClientAbort, HttpVersion, ProxySettings, RequestBuffering, RetryOn, SetHeader, Settings};
use crate::variable::{Value, Variable};

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::settings::field_name;
use super::tree::Directive;
use super::value::{flag, number, size, time};

/// What fills in the [`ProxySettings`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("proxy_http_version", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).http_version = match directive.arg(0) {
            "1.0" => HttpVersion::Http10,
            "1.1" => HttpVersion::Http11,
            "2" => HttpVersion::Http2,
            word => return Err(Fault::value(word)),
        };
        Ok(())
    }),
    Rule::new("proxy_set_header", Context::SETTINGS, 2..=2, set_header)
        // Fields are inherited only by a level that sets none; the defaults are there at each.
        .many(|settings| proxy(settings).set_headers.clone_from(&ProxySettings::default().set_headers)),
    Rule::new("proxy_connect_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).connect_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_read_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).read_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_send_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).send_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_buffer_size", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).buffer_size = usize::try_from(size(directive)?).unwrap_or(usize::MAX);
        Ok(())
    }),
    Rule::new("proxy_next_upstream", Context::SETTINGS, 1..=ANY, next_upstream),
    Rule::new("proxy_next_upstream_tries", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let tries = number(directive)?;
        proxy(settings).next_upstream.tries = Some(tries).filter(|&tries| tries > 0);
        Ok(())
    }),
    Rule::new("proxy_next_upstream_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let timeout = time(directive, 0)?;
        proxy(settings).next_upstream.timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        Ok(())
    }),
    Rule::new("proxy_method", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        proxy(settings).method = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
    Rule::new("proxy_pass_request_headers", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).pass.headers = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_pass_request_body", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).pass.body = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_request_buffering", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).buffering =
            if flag(directive)? { RequestBuffering::On } else { RequestBuffering::Off };
        Ok(())
    }),
    Rule::new("proxy_set_body", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        proxy(settings).set_body = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
    Rule::new("proxy_bind", Context::SETTINGS, 1..=2, bind),
    Rule::new("proxy_socket_keepalive", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).socket.keepalive = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_socket_rcvbuf", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).socket.receive = Some(size(directive)?).filter(|&size| size > 0);
        Ok(())
    }),
    Rule::new("proxy_socket_sndbuf", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).socket.send = Some(size(directive)?).filter(|&size| size > 0);
        Ok(())
    }),
    Rule::new("proxy_ignore_client_abort", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).client_abort =
            if flag(directive)? { ClientAbort::Ignored } else { ClientAbort::Heeded };
        Ok(())
    }),
    Rule::new("proxy_limit_rate", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        proxy(settings).limit_rate = Some(rate(scope, directive)?);
        Ok(())
    }),
];

/// Reads a rate, which may have variables in it.
pub(super) fn rate(scope: &Scope, directive: &Directive) -> Result<Value, Fault> {
    if !directive.arg(0).contains('$') {
        size(directive)?;
    }
    Ok(Value::parse(directive.arg(0), &scope.names)?)
}

fn bind(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let word = directive.arg(0);
    if word == "off" && directive.args.len() == 1 {
        proxy(settings).bind = None;
        return Ok(());
    }
    if !word.contains('$') && own_address(word).is_none() {
        return Err(Fault::new(format!("invalid address \"{word}\"")));
    }
    proxy(settings).bind = Some(Value::parse(word, &scope.names)?);
    proxy(settings).socket.transparent = transparent(directive)?;
    Ok(())
}

/// Reads an address that connections to servers come from; a port is the system's choice without one.
pub(crate) fn own_address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let ip = match bare {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    ip.map(|ip| SocketAddr::new(ip, 0)).or_else(|| text.parse().ok())
}

/// Reads the second word of `proxy_bind`.
pub(super) fn transparent(directive: &Directive) -> Result<bool, Fault> {
    match directive.args.get(1).map(|word| &**word) {
        None => Ok(false),
        Some("transparent") => Ok(true),
        Some(word) => Err(Fault::parameter(word)),
    }
}

pub(super) fn proxy(settings: &mut Settings) -> &mut ProxySettings {
    Arc::make_mut(&mut settings.proxy)
}

fn set_header(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let written = directive.arg(0).to_owned();
    let name = field_name(&written)?;
    let value = Value::parse(directive.arg(1), &scope.names)?;
    let headers = &mut proxy(settings).set_headers;
    // The default of a field goes when the field is set; two of one name set by hand are both sent.
    if name == HOST {
        let default = Value::variable(Variable::ProxyHost);
        if let Some(place) = headers.iter().position(|header| header.name == HOST && header.value == default)
        {
            headers.remove(place);
        }
    }
    headers.push(SetHeader { name, written, value });
    Ok(())
}

fn next_upstream(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    scope.note_repeated(directive);
    let mut on = RetryOn::off();
    for word in &directive.args {
        match &*word.to_ascii_lowercase() {
            "error" => on.error = true,
            "timeout" => on.timeout = true,
            "invalid_header" => on.invalid_header = true,
            "non_idempotent" => on.non_idempotent = true,
            "off" => {
                on = RetryOn::off();
                break;
            }
            lower => match lower.strip_prefix("http_") {
                Some("403") => on.statuses.push(403),
                Some("404") => on.statuses.push(404),
                Some("429") => on.statuses.push(429),
                Some("500") => on.statuses.push(500),
                Some("502") => on.statuses.push(502),
                Some("503") => on.statuses.push(503),
                Some("504") => on.statuses.push(504),
                _ => return Err(Fault::value(word)),
            },
        }
    }
    proxy(settings).next_upstream.on = on;
    Ok(())
}
