//! `grpc_*`: what `proxy_*` says, said for `grpc_pass` alone.
//!
//! Each is the twin of a directive of `proxy_*` and read by that one's rule, on settings of its own.

use std::sync::Arc;

use crate::model::{GrpcSettings, ProxySettings, Settings};

use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::{Scope, answer, proxy, tls};

/// What fills in the [`GrpcSettings`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    twin("grpc_set_header", 2..=2)
        .many(|settings| grpc(settings).set_headers = ProxySettings::default().set_headers),
    twin("grpc_connect_timeout", 1..=1),
    twin("grpc_read_timeout", 1..=1),
    twin("grpc_send_timeout", 1..=1),
    twin("grpc_buffer_size", 1..=1),
    twin("grpc_bind", 1..=2),
    twin("grpc_socket_keepalive", 1..=1),
    twin("grpc_socket_rcvbuf", 1..=1),
    twin("grpc_socket_sndbuf", 1..=1),
    twin("grpc_next_upstream", 1..=ANY),
    twin("grpc_next_upstream_tries", 1..=1),
    twin("grpc_next_upstream_timeout", 1..=1),
    twin("grpc_intercept_errors", 1..=1),
    twin("grpc_ignore_headers", 1..=ANY),
    twin("grpc_hide_header", 1..=1).many(|settings| grpc(settings).relay.hide.clear()),
    twin("grpc_pass_header", 1..=1).many(|settings| grpc(settings).relay.pass.clear()),
    twin("grpc_ssl_verify", 1..=1),
    twin("grpc_ssl_trusted_certificate", 1..=1),
    twin("grpc_ssl_crl", 1..=1),
    twin("grpc_ssl_certificate", 1..=1),
    twin("grpc_ssl_certificate_key", 1..=1),
    twin("grpc_ssl_password_file", 1..=1),
    twin("grpc_ssl_verify_depth", 1..=1),
    twin("grpc_ssl_server_name", 1..=1),
    twin("grpc_ssl_session_reuse", 1..=1),
    twin("grpc_ssl_protocols", 1..=ANY),
    twin("grpc_ssl_ciphers", 1..=1),
    twin("grpc_ssl_certificate_cache", 1..=3),
    twin("grpc_ssl_conf_command", 2..=2).many(|settings| grpc(settings).tls.commands.clear()),
    twin("grpc_ssl_name", 1..=1),
];

const fn twin(name: &'static str, args: std::ops::RangeInclusive<usize>) -> Rule<Settings> {
    Rule::new(name, Context::SETTINGS, args, as_proxy)
}

fn grpc(settings: &mut Settings) -> &mut ProxySettings {
    let GrpcSettings(settings) = &mut settings.grpc;
    Arc::make_mut(settings)
}

/// Applies the rule of the directive's twin.
fn as_proxy(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let name = directive.name.strip_prefix("grpc_").unwrap_or_default();
    let tables = [proxy::RULES, answer::RULES, tls::HTTP_PROXY, tls::HTTP_PROXY_NAME];
    let mut rules = tables.into_iter().flatten();
    let rule = rules.find(|rule| rule.syntax.name.strip_prefix("proxy_") == Some(name));
    let rule = rule.ok_or_else(|| Fault::directive("is not supported by l7-proxy"))?;
    std::mem::swap(&mut settings.proxy, &mut settings.grpc.0);
    let applied = (rule.apply)(scope, settings, directive);
    std::mem::swap(&mut settings.proxy, &mut settings.grpc.0);
    applied
}
