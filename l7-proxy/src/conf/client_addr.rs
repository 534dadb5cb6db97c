//! Directives about who a client is, and whether it may come in.

use std::net::ToSocketAddrs;

use crate::model::{Depth, RealIpSource, Settings};
use crate::stream::access::{Network, Rule as AccessRule, Verdict};

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::settings::field_name;
use super::tree::Directive;
use super::value::flag;

/// What fills in the clients' part of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("allow", ACCESS, 1..=1, |scope, settings: &mut Settings, directive| {
        settings.access.push(AccessRule { network: network(scope, directive)?, verdict: Verdict::Allow });
        Ok(())
    })
    .many(|_| {}),
    Rule::new("deny", ACCESS, 1..=1, |scope, settings: &mut Settings, directive| {
        settings.access.push(AccessRule { network: network(scope, directive)?, verdict: Verdict::Deny });
        Ok(())
    })
    .many(|_| {}),
    Rule::new("set_real_ip_from", Context::SETTINGS, 1..=1, |scope, settings: &mut Settings, directive| {
        settings.real_ip.from.extend(trusted(scope, directive)?);
        Ok(())
    })
    .many(|settings| settings.real_ip.from.clear()),
    Rule::new("real_ip_header", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        settings.real_ip.source = match directive.arg(0) {
            "proxy_protocol" => RealIpSource::ProxyProtocol,
            word => RealIpSource::Field(field_name(word)?),
        };
        Ok(())
    }),
    Rule::new("real_ip_recursive", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        settings.real_ip.depth = if flag(directive)? { Depth::Recursive } else { Depth::Last };
        Ok(())
    }),
];

/// Who may ask for explanations.
pub(super) const EXPLAIN: &[Rule<Vec<Network>>] =
    &[Rule::new("lvs_explain_from", Context::HTTP, 1..=ANY, |_, from: &mut Vec<Network>, directive| {
        for word in &directive.args {
            from.push(Network::parse(word).ok_or_else(|| Fault::parameter(word))?);
        }
        Ok(())
    })
    .many(|_| {})];

/// Where `allow` and `deny` may stand.
const ACCESS: Context = Context::SETTINGS.or(Context::LIMIT_EXCEPT);

/// Takes back the rules of outer blocks where a block has some of its own.
pub(super) fn disinherit(settings: &mut Settings, block: &[Directive]) {
    if block.iter().any(|directive| matches!(&*directive.name, "allow" | "deny")) {
        settings.access.clear();
    }
}

/// Reads whom an `allow` or `deny` is about; `None` is everybody.
pub(super) fn network(scope: &mut Scope, directive: &Directive) -> Result<Option<Network>, Fault> {
    match directive.arg(0) {
        "all" => Ok(None),
        word => match known(scope, directive) {
            Some(network) => Ok(Some(network)),
            None => Err(Fault::parameter(word)),
        },
    }
}

/// Reads whose word a `set_real_ip_from` takes: a network, or a host by its name.
pub(super) fn trusted(scope: &mut Scope, directive: &Directive) -> Result<Vec<Network>, Fault> {
    if let Some(network) = known(scope, directive) {
        return Ok(vec![network]);
    }
    let word = directive.arg(0);
    let unknown = || Fault::new(format!("host not found in set_real_ip_from \"{word}\""));
    let addrs = (word, 0).to_socket_addrs().map_err(|_| unknown())?;
    let networks: Vec<Network> = addrs.map(|addr| Network::host(addr.ip())).collect();
    if networks.is_empty() { Err(unknown()) } else { Ok(networks) }
}

/// Reads a network, if it is one.
fn known(scope: &mut Scope, directive: &Directive) -> Option<Network> {
    let word = directive.arg(0);
    let network = Network::parse(word)?;
    note_low_bits(scope, directive, word, network);
    Some(network)
}

/// Notes that a network was written with bits that do not count.
pub(super) fn note_low_bits(scope: &mut Scope, directive: &Directive, word: &str, network: Network) {
    if network.leaves_out_bits_of(word) {
        scope.note(directive, &format!("low address bits of {word} are meaningless"));
    }
}
