//! `geo {}`: a variable whose value depends on an address.

use std::net::Ipv4Addr;

use http::HeaderName;

use crate::conf::client_addr::note_low_bits;
use crate::conf::rules::Fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::definition::geo::{Networks, Overlap, Ranges};
use crate::definition::{Definition, Rule};
use crate::model::{Depth, RealIp, RealIpSource};
use crate::stream::access::Network;

use super::Side;

pub(super) fn read<S: Side>(scope: &mut Scope, directive: &Directive) -> Result<Definition<S::Text>, Error> {
    let source = match &*directive.args {
        [source, _] => Some(source_text::<S>(scope, source).map_err(|fault| fault.at(directive))?),
        _ => None,
    };
    let mut rows = Rows::Networks(Networks::default());
    let mut forwarded = RealIp {
        from: Vec::new(),
        source: RealIpSource::Field(HeaderName::from_static("x-forwarded-for")),
        depth: Depth::Last,
    };
    for row in &directive.block {
        let at = |fault: Fault| fault.at(row);
        match (&*row.name, &*row.args) {
            ("volatile", []) => {}
            ("ranges", []) => match &rows {
                Rows::Networks(networks) if !networks.is_empty() => {
                    let message = "the \"ranges\" directive must be the first directive inside \"geo\" block";
                    return Err(at(Fault::new(message)));
                }
                Rows::Networks(_) => rows = Rows::Ranges(Ranges::default()),
                Rows::Ranges(_) => {}
            },
            ("proxy_recursive", []) if S::FORWARDED => forwarded.depth = Depth::Recursive,
            ("proxy", [word]) if S::FORWARDED => {
                forwarded.from.push(network(scope, row, word).map_err(at)?);
            }
            (word, [value]) => rows.add(scope, row, word, value).map_err(at)?,
            _ => return Err(at(Fault::new("invalid number of the geo parameters"))),
        }
    }
    let mut geo = match rows {
        Rows::Networks(networks) => networks.finish(),
        Rows::Ranges(ranges) => ranges.finish(),
    };
    if !forwarded.from.is_empty() {
        geo.believe(forwarded);
    }
    Ok(super::definition(Rule::Geo { source, geo }, directive))
}

/// Reads the variable that an address is taken from; a text around it would make it none.
fn source_text<S: Side>(scope: &Scope, word: &str) -> Result<S::Text, Fault> {
    let invalid = || Fault::new(format!("invalid variable name \"{word}\""));
    let name = word.strip_prefix('$').filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Fault::new(format!("unknown \"{name}\" variable")));
    }
    Ok(S::parse(scope, word)?)
}

/// The rows of a block, in one of their two forms.
enum Rows {
    Networks(Networks),
    Ranges(Ranges),
}

impl Rows {
    fn add(&mut self, scope: &mut Scope, row: &Directive, word: &str, value: &str) -> Result<(), Fault> {
        match self {
            Self::Networks(networks) => add_network(networks, scope, row, word, value),
            Self::Ranges(ranges) => add_range(ranges, scope, row, word, value),
        }
    }
}

fn add_network(
    networks: &mut Networks,
    scope: &mut Scope,
    row: &Directive,
    word: &str,
    value: &str,
) -> Result<(), Fault> {
    let before = match word {
        "delete" => {
            let network = network(scope, row, value)?;
            if !networks.delete(network) {
                scope.note(row, &format!("no network \"{value}\" to delete"));
            }
            return Ok(());
        }
        "default" => {
            let everything = Network::everything().map(|network| networks.insert(network, value));
            everything.into_iter().flatten().next()
        }
        word => networks.insert(network(scope, row, word)?, value),
    };
    if let Some(before) = before {
        scope
            .note(row, &format!("duplicate network \"{word}\", value: \"{value}\", old value: \"{before}\""));
    }
    Ok(())
}

/// Reads an address with or without the number of bits that count.
fn network(scope: &mut Scope, row: &Directive, word: &str) -> Result<Network, Fault> {
    let network = Network::parse_address(word);
    let network = network.ok_or_else(|| Fault::new(format!("invalid network \"{word}\"")))?;
    note_low_bits(scope, row, word, network);
    Ok(network)
}

fn add_range(
    ranges: &mut Ranges,
    scope: &mut Scope,
    row: &Directive,
    word: &str,
    value: &str,
) -> Result<(), Fault> {
    if word == "default" {
        if let Some(before) = ranges.set_default(value) {
            let message = format!("duplicate default geo range value: \"{value}\", old value: \"{before}\"");
            scope.note(row, &message);
        }
        return Ok(());
    }
    if word == "delete" {
        let (first, last) = range(value)?;
        if !ranges.delete(first, last) {
            scope.note(row, &format!("no address range \"{value}\" to delete"));
        }
        return Ok(());
    }
    let (first, last) = range(word)?;
    match ranges.insert(first, last, value) {
        Ok(None) => {}
        Ok(Some(before)) => {
            let message = format!("duplicate range \"{word}\", value: \"{value}\", old value: \"{before}\"");
            scope.note(row, &message);
        }
        Err(Overlap(first, last)) => {
            return Err(Fault::new(format!("range \"{word}\" overlaps \"{first}-{last}\"")));
        }
    }
    Ok(())
}

/// Reads a range of IPv4; 255.255.255.255, which stands for addresses that are none, is in no range.
fn range(word: &str) -> Result<(u32, u32), Fault> {
    let number = |text: &str| {
        let address: Ipv4Addr = text.parse().ok()?;
        (address != Ipv4Addr::BROADCAST).then(|| u32::from(address))
    };
    let ends = word.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    ends.filter(|(first, last)| first <= last).ok_or_else(|| Fault::new(format!("invalid range \"{word}\"")))
}
