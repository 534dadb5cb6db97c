//! What `stream {}` and its servers may both set.

use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::sync::Arc;

use l4_proxy::proxy_protocol::Version;

use super::log;
use crate::conf::client_addr::{network, trusted};
use crate::conf::limit::{most, zone};
use crate::conf::log::{add_error_log, file_cache};
use crate::conf::proxy::{own_address, transparent};
use crate::conf::rules::{ANY, Context, Fault, Rule};
use crate::conf::tree::Directive;
use crate::conf::value::{flag, number, size, time};
use crate::conf::{Scope, limit};
use crate::model::{ConnectionLimit, ConnectionZone, StreamSettings};
use crate::stream::access::{self, Verdict};
use crate::stream::text::{Names, Text, Variable};

const BOTH: Context = Context::STREAM_SETTINGS;

/// What fills in [`StreamSettings`].
pub(crate) const RULES: &[Rule<StreamSettings>] = &[
    Rule::new("proxy_connect_timeout", BOTH, 1..=1, |_, settings: &mut StreamSettings, directive| {
        settings.connect_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_timeout", BOTH, 1..=1, |_, settings, directive| {
        settings.timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("health_check_timeout", BOTH, 1..=1, |_, settings, directive| {
        settings.check_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("open_log_file_cache", BOTH, 1..=4, |_, settings, directive| {
        settings.log_files = file_cache(directive)?;
        Ok(())
    }),
    Rule::new("tcp_nodelay", BOTH, 1..=1, |_, settings, directive| {
        settings.tcp_nodelay = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_half_close", BOTH, 1..=1, |_, settings, directive| {
        settings.half_close = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_next_upstream", BOTH, 1..=1, |_, settings, directive| {
        settings.next_upstream = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_next_upstream_tries", BOTH, 1..=1, |_, settings, directive| {
        settings.next_upstream_tries = Some(number(directive)?).filter(|&tries| tries > 0);
        Ok(())
    }),
    Rule::new("proxy_next_upstream_timeout", BOTH, 1..=1, |_, settings, directive| {
        settings.next_upstream_timeout = Some(time(directive, 0)?).filter(|timeout| !timeout.is_zero());
        Ok(())
    }),
    Rule::new("proxy_requests", BOTH, 1..=1, |_, settings, directive| {
        settings.requests = NonZeroU32::new(number(directive)?);
        Ok(())
    }),
    Rule::new("proxy_responses", BOTH, 1..=1, |_, settings, directive| {
        settings.responses = Some(number(directive)?);
        Ok(())
    }),
    Rule::new("proxy_upload_rate", BOTH, 1..=1, |scope, settings, directive| {
        settings.upload_rate = rate(scope, directive)?;
        Ok(())
    }),
    Rule::new("proxy_download_rate", BOTH, 1..=1, |scope, settings, directive| {
        settings.download_rate = rate(scope, directive)?;
        Ok(())
    }),
    Rule::new("proxy_bind", BOTH, 1..=2, |scope, settings, directive| {
        match (directive.arg(0), directive.arg(1)) {
            ("off", "") => settings.bind = None,
            (text, _) => {
                if !text.contains('$') && own_address(text).is_none() {
                    return Err(Fault::new(format!("invalid address \"{text}\"")));
                }
                settings.bind = Some(Text::parse(text, &scope.stream.names)?);
                settings.socket.transparent = transparent(directive)?;
            }
        }
        Ok(())
    }),
    Rule::new("proxy_socket_keepalive", BOTH, 1..=1, |_, settings, directive| {
        settings.socket.keepalive = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_socket_rcvbuf", BOTH, 1..=1, |_, settings, directive| {
        settings.socket.receive = Some(size(directive)?).filter(|&size| size > 0);
        Ok(())
    }),
    Rule::new("proxy_socket_sndbuf", BOTH, 1..=1, |_, settings, directive| {
        settings.socket.send = Some(size(directive)?).filter(|&size| size > 0);
        Ok(())
    }),
    Rule::new("proxy_protocol", BOTH, 1..=1, |_, settings, directive| {
        settings.proxy_protocol = match directive.arg(0) {
            "v2" => Some(Version::V2),
            _ => flag(directive)?.then_some(Version::V1),
        };
        Ok(())
    }),
    Rule::new("proxy_protocol_timeout", BOTH, 1..=1, |_, settings, directive| {
        settings.proxy_protocol_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("set_real_ip_from", BOTH, 1..=1, |scope, settings: &mut StreamSettings, directive| {
        settings.real_ip_from.extend(trusted(scope, directive)?);
        Ok(())
    })
    .many(|settings| settings.real_ip_from.clear()),
    Rule::new("ssl_preread", BOTH, 1..=1, |_, settings, directive| {
        settings.preread = flag(directive)?;
        Ok(())
    }),
    Rule::new("preread_buffer_size", BOTH, 1..=1, |_, settings, directive| {
        settings.preread_size = usize::try_from(size(directive)?).unwrap_or(usize::MAX).min(PREREAD_MAX);
        Ok(())
    }),
    Rule::new("preread_timeout", BOTH, 1..=1, |_, settings, directive| {
        settings.preread_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("set", Context::STREAM_SERVER, 2..=2, set).many(|_| {}),
    Rule::new("allow", BOTH, 1..=1, |scope, settings, directive| {
        access(scope, settings, directive, Verdict::Allow)
    })
    .many(|_| {}),
    Rule::new("deny", BOTH, 1..=1, |scope, settings, directive| {
        access(scope, settings, directive, Verdict::Deny)
    })
    .many(|_| {}),
    Rule::new("limit_conn", BOTH, 2..=2, |scope, settings: &mut StreamSettings, directive| {
        let zone = directive.arg(0);
        if settings.limits.iter().any(|limit| limit.zone.name == zone) {
            return Err(Fault::directive("is duplicate"));
        }
        let most = most(directive)?;
        let known = scope.stream.zones.get(zone).cloned();
        let unknown = || Fault::new(format!("zero size shared memory zone \"{zone}\""));
        let (zone, key) = known.ok_or_else(unknown)?;
        settings.limits.push(ConnectionLimit { zone, key, most });
        Ok(())
    })
    .many(|settings| settings.limits.clear()),
    Rule::new("limit_conn_log_level", BOTH, 1..=1, |_, settings, directive| {
        limit::log_level(&mut settings.on_limits, directive)
    }),
    Rule::new("limit_conn_dry_run", BOTH, 1..=1, |_, settings, directive| {
        settings.on_limits.enforcement = limit::enforcement(directive)?;
        Ok(())
    }),
    Rule::new("error_log", BOTH, 1..=2, |scope, settings: &mut StreamSettings, directive| {
        add_error_log(scope, Arc::make_mut(settings.error_log.get_or_insert_default()), directive)
    })
    .many(|settings| settings.error_log = None),
    Rule::new("access_log", BOTH, 1..=ANY, log::access_log).many(|settings| settings.access_log.clear()),
    Rule::new("ssl_alpn", BOTH, 1..=ANY, |_, settings, directive| {
        Arc::make_mut(&mut settings.tls).alpn.clone_from(&directive.args);
        Ok(())
    }),
    Rule::new("ssl_handshake_timeout", BOTH, 1..=1, |_, settings, directive| {
        Arc::make_mut(&mut settings.tls).handshake_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_ssl", BOTH, 1..=1, |_, settings, directive| {
        settings.proxy_ssl = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_ssl_name", BOTH, 1..=1, |scope, settings, directive| {
        settings.proxy_tls_name = Some(Text::parse(directive.arg(0), &scope.stream.names)?);
        Ok(())
    }),
    Rule::new("proxy_ssl_alpn", BOTH, 1..=ANY, |scope, settings, directive| {
        let texts = directive.args.iter().map(|word| Text::parse(word, &scope.stream.names));
        settings.proxy_tls_alpn = texts.collect::<Result<_, _>>()?;
        Ok(())
    }),
];

/// Zones go into the scope, where `limit_conn` finds them.
pub(crate) const ZONES: &[Rule<()>] =
    &[Rule::new("limit_conn_zone", Context::STREAM, 2..=2, |scope, (), directive| {
        let key = Text::parse(directive.arg(0), &scope.stream.names)?;
        let (name, size) = zone(directive, 1)?;
        let text = directive.arg(0);
        match scope.stream.zones.entry(name.clone()) {
            Entry::Vacant(free) => _ = free.insert((Arc::new(ConnectionZone { name, size }), key)),
            Entry::Occupied(taken) => {
                let name = taken.key();
                let message = format!("limit_conn_zone \"{name}\" is already bound to key \"{text}\"");
                return Err(Fault::new(message));
            }
        }
        Ok(())
    })
    .many(|()| {})];

fn rate(scope: &Scope, directive: &Directive) -> Result<Text, Fault> {
    let text = Text::parse(directive.arg(0), &scope.stream.names)?;
    if text.as_literal().is_some() {
        size(directive)?;
    }
    Ok(text)
}

fn set(scope: &mut Scope, settings: &mut StreamSettings, directive: &Directive) -> Result<(), Fault> {
    let written = directive.arg(0);
    let invalid = || Fault::new(format!("invalid variable name \"{written}\""));
    let name = written.strip_prefix('$').filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    if Variable::named(&name.to_ascii_lowercase()).is_some() {
        return Err(Fault::new(format!("the duplicate \"{name}\" variable")));
    }
    let number = Names::number(&scope.stream.names, name).ok_or_else(invalid)?;
    let value = Text::parse(directive.arg(1), &scope.stream.names)?;
    settings.set.push((number, value));
    Ok(())
}

/// Adds a rule about who may connect.
fn access(
    scope: &mut Scope,
    settings: &mut StreamSettings,
    directive: &Directive,
    verdict: Verdict,
) -> Result<(), Fault> {
    settings.access.push(access::Rule { network: network(scope, directive)?, verdict });
    Ok(())
}

/// A longer first message than this is nobody's.
const PREREAD_MAX: usize = 1 << 20;
