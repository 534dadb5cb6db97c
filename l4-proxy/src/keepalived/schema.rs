//! What a block may contain: a table of keywords, each with the values it takes.
//!
//! A statement that does not fit its table is complained of and left out of the tree, so that
//! whoever builds the model from the tree only meets statements that fit.

use std::net::IpAddr;

use super::complaint::{Complaint, Word};
use super::tables::FILE;
use super::tree::Node;

/// What the braces of a statement may contain.
pub(crate) struct Block {
    /// How messages call it.
    pub(crate) name: &'static str,
    pub(crate) keywords: &'static [Keyword],
    /// What a statement may look like that begins with no keyword: an item of a list.
    pub(crate) items: Option<Arguments>,
}

/// A keyword of a block.
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    pub(crate) arguments: Arguments,
    pub(crate) body: Option<&'static Block>,
    /// A word to say about it although it is known: that it is out of date, or does nothing here.
    pub(crate) remark: Option<&'static str>,
}

/// The values after a keyword.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    pub(crate) required: usize,
    pub(crate) kinds: &'static [Kind],
    /// What any further value is.
    pub(crate) more: Option<Kind>,
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Anything.
    Text,
    /// A whole number in a range.
    Integer(i64, i64),
    /// Seconds with an optional fraction, in a range.
    Seconds(f64, f64),
    /// `on|off|true|false|yes|no`
    Bool,
    /// An IP address.
    Address,
    /// An IP address, with a prefix length or not.
    Network,
    /// A netmask, or a prefix length.
    Mask,
    /// A port, or the name of a service.
    Port,
    /// One of these, in any case.
    Choice(&'static [&'static str]),
}

/// A keyword that takes these values, all of them.
pub(crate) const fn word(name: &'static str, kinds: &'static [Kind]) -> Keyword {
    optional(name, kinds.len(), kinds)
}

/// A keyword that takes these values, the first few of which are needed.
pub(crate) const fn optional(name: &'static str, required: usize, kinds: &'static [Kind]) -> Keyword {
    Keyword { name, arguments: Arguments { required, kinds, more: None }, body: None, remark: None }
}

/// A keyword that stands for itself.
pub(crate) const fn flag(name: &'static str) -> Keyword {
    word(name, &[])
}

/// A keyword that stands for yes, and may be given a boolean.
pub(crate) const fn switch(name: &'static str) -> Keyword {
    optional(name, 0, &[Kind::Bool])
}

/// A command in one word, and who runs it.
pub(crate) const fn script(name: &'static str) -> Keyword {
    optional(name, 1, &[Kind::Text, Kind::Text, Kind::Text])
}

/// A keyword that takes at least so many values of one kind.
pub(crate) const fn several(name: &'static str, required: usize, kind: Kind) -> Keyword {
    Keyword {
        name,
        arguments: Arguments { required, kinds: &[], more: Some(kind) },
        body: None,
        remark: None,
    }
}

/// A keyword with a block and no name.
pub(crate) const fn block(name: &'static str, body: &'static Block) -> Keyword {
    named_block(name, &[], body)
}

/// A keyword with values and a block.
pub(crate) const fn named_block(name: &'static str, kinds: &'static [Kind], body: &'static Block) -> Keyword {
    Keyword { body: Some(body), ..word(name, kinds) }
}

/// A keyword that works, but should be written otherwise.
pub(crate) const fn outdated(keyword: Keyword, remark: &'static str) -> Keyword {
    Keyword { remark: Some(remark), ..keyword }
}

/// A keyword that changes nothing here, and why.
pub(crate) const fn idle(keyword: Keyword, why: &'static str) -> Keyword {
    Keyword { remark: Some(why), ..keyword }
}

/// A list of items with values of these kinds.
pub(crate) const fn items(
    name: &'static str,
    required: usize,
    kinds: &'static [Kind],
    more: Option<Kind>,
) -> Block {
    Block { name, keywords: &[], items: Some(Arguments { required, kinds, more }) }
}

/// The statements that fit a block; complains of the others.
pub(crate) fn check(nodes: Vec<Node>, block: &Block, complaints: &mut Vec<Complaint>) -> Vec<Node> {
    check_body(nodes, block, complaints).0
}

/// The statements that fit, and the names of the others.
fn check_body(nodes: Vec<Node>, block: &Block, complaints: &mut Vec<Complaint>) -> (Vec<Node>, Vec<String>) {
    let (mut good, mut refused) = (Vec::with_capacity(nodes.len()), Vec::new());
    for node in nodes {
        let name = node.name().to_owned();
        match check_node(node, block, complaints) {
            Some(node) => good.push(node),
            None => refused.push(name),
        }
    }
    (good, refused)
}

fn check_node(node: Node, block: &Block, complaints: &mut Vec<Complaint>) -> Option<Node> {
    let found = block.keywords.iter().find(|keyword| keyword.name == node.name());
    let Some(keyword) = found else {
        let Some(arguments) = &block.items else {
            complaints.push(unknown(&node.words[0], block));
            return None;
        };
        if node.body.is_some() {
            complaints.push(node.blame(format!("an item of {} has no block", block.name)));
            return None;
        }
        return fits(&node, &node.words, arguments, complaints).then_some(node);
    };
    if let Some(remark) = keyword.remark {
        complaints.push(node.words[0].blame(format!("{}: {remark}", keyword.name)).only_warns());
    }
    let good = fits(&node, &node.words[1..], &keyword.arguments, complaints);
    let Node { words, body, .. } = node;
    match (body, keyword.body) {
        (Some(body), Some(block)) => {
            // Looked into even if its values are wrong: all errors are told at once.
            let (body, refused) = check_body(body, block, complaints);
            good.then_some(Node { words, body: Some(body), refused })
        }
        (None, None) => good.then_some(Node { words, body: None, refused: Vec::new() }),
        (Some(_), None) => {
            complaints.push(words[0].blame(format!("{} has no block", keyword.name)));
            None
        }
        (None, Some(_)) => {
            complaints.push(words[0].blame(format!("{} needs a block: '{{' is missing", keyword.name)));
            None
        }
    }
}

fn fits(node: &Node, values: &[Word], arguments: &Arguments, complaints: &mut Vec<Complaint>) -> bool {
    let name = node.name();
    if values.len() < arguments.required {
        let wanted = match arguments.required {
            1 => "a value".to_owned(),
            count => format!("{count} values"),
        };
        complaints.push(node.blame(format!("{name} needs {wanted}")));
        return false;
    }
    let mut good = true;
    for (index, value) in values.iter().enumerate() {
        let problem = match arguments.kinds.get(index).copied().or(arguments.more) {
            Some(kind) => kind.check(&value.text).err(),
            None => {
                complaints.push(value.blame(format!("unexpected \"{}\" after {name}", value.text)));
                return false;
            }
        };
        if let Some(wanted) = problem {
            // The first word of an item has no name before it.
            let what = if value.text == name { String::new() } else { format!(" for {name}") };
            complaints
                .push(value.blame_value(format!("invalid value \"{}\"{what}: wanted {wanted}", value.text)));
            good = false;
        }
    }
    good
}

/// Names the keyword that may have been meant.
fn unknown(word: &Word, block: &Block) -> Complaint {
    let text = &word.text;
    let has = |name: &str| block.keywords.iter().any(|keyword| keyword.name == name);
    if let Some((_, name)) = OTHER_NAMES.iter().find(|(other, name)| other == text && has(name)) {
        return word.blame(format!("unknown keyword \"{text}\" in {}; did you mean \"{name}\"?", block.name));
    }
    if FILE.keywords.iter().any(|keyword| keyword.name == text) {
        let hint = "it stands outside of blocks; is a '}' missing before it?";
        return word.blame(format!("unknown keyword \"{text}\" in {}; {hint}", block.name));
    }
    let near = block
        .keywords
        .iter()
        .filter(|_| text.len() <= WORD_MAX)
        .map(|keyword| (distance(text, keyword.name), keyword.name))
        .min();
    let hint = match near {
        Some((distance, name)) if distance <= 1 + name.len() / 5 => format!("; did you mean \"{name}\"?"),
        _ => String::new(),
    };
    word.blame(format!("unknown keyword \"{text}\" in {}{hint}", block.name))
}

/// How many characters have to be changed, added, dropped or swapped to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // Rows of the table of distances between beginnings of the words.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, character) in one.chars().take(WORD_MAX).enumerate() {
        let mut next = vec![row + 1];
        for (column, &wanted) in other.iter().enumerate() {
            let change = last[column] + usize::from(character != wanted);
            let mut least = change.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = column > 0 && previous == Some(wanted) && other[column - 1] == character;
            if swapped && let Some(before) = before_last.get(column - 1) {
                least = least.min(before + 1);
            }
            next.push(least);
        }
        before_last = std::mem::replace(&mut last, next);
        previous = Some(character);
    }
    last[other.len()]
}

impl Kind {
    /// Says what is wanted if the text is not.
    fn check(self, text: &str) -> Result<(), String> {
        let good = match self {
            Kind::Text => true,
            Kind::Integer(least, most) => {
                integer(text).is_some_and(|number| (least..=most).contains(&number))
            }
            Kind::Seconds(least, most) => {
                seconds(text).is_some_and(|number| (least..=most).contains(&number))
            }
            Kind::Bool => boolean(text).is_some(),
            Kind::Address => text.parse::<IpAddr>().is_ok(),
            Kind::Network => network(text).is_some(),
            Kind::Mask => mask(text).is_some(),
            Kind::Port => port(text).is_some(),
            Kind::Choice(choices) => choices.iter().any(|choice| choice.eq_ignore_ascii_case(text)),
        };
        if good { Ok(()) } else { Err(self.wanted()) }
    }

    fn wanted(self) -> String {
        match self {
            Kind::Text => "a word".to_owned(),
            Kind::Integer(least, most) if most >= u32::MAX.into() => format!("a number of at least {least}"),
            Kind::Integer(least, most) => format!("a number from {least} to {most}"),
            Kind::Seconds(least, most) => format!("seconds from {least} to {most}"),
            Kind::Bool => "on, off, true, false, yes or no".to_owned(),
            Kind::Address => "an IP address".to_owned(),
            Kind::Network => "an IP address, with /LENGTH or without".to_owned(),
            Kind::Mask => "a netmask or a prefix length".to_owned(),
            Kind::Port => "a port".to_owned(),
            Kind::Choice(choices) => choices.join(", "),
        }
    }
}

pub(crate) fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

pub(crate) fn seconds(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain)
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// An address and its prefix length, that of a host where none is given.
pub(crate) fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length =
        length.map_or(Some(whole), |length| length.parse().ok().filter(|length| *length <= whole))?;
    Some((address, length))
}

/// A prefix length from one, or from a netmask.
pub(crate) fn mask(text: &str) -> Option<u8> {
    if let Ok(mask) = text.parse::<std::net::Ipv4Addr>() {
        let bits = u32::from(mask);
        return (bits.leading_ones() + bits.trailing_zeros() >= 32 && bits != 0)
            .then_some(bits.leading_ones() as u8);
    }
    text.parse().ok().filter(|length| (1..=128).contains(length))
}

/// A port by its number, or by the name that `/etc/services` has for it.
pub(crate) fn port(text: &str) -> Option<u16> {
    if let Ok(port) = text.parse() {
        return Some(port);
    }
    let services = std::fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        if name != text && !words.any(|alias| alias == text) {
            return None;
        }
        port.split_once('/')?.0.parse().ok()
    })
}

/// Names that keepalived has, or had, elsewhere, and that copied configurations have in blocks where nothing
/// reads them: keepalived leaves such lines out, and goes by its default.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("nb_get_retry", "retry"),
    ("nb_retry", "retry"),
    ("connection_timeout", "connect_timeout"),
    ("timeout", "connect_timeout"),
    ("misc_timeout", "connect_timeout"),
    ("virtual_host", "virtualhost"),
];

/// No keyword is longer.
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keywords_are_found() {
        assert_eq!(distance("wieght", "weight"), 1);
        assert_eq!(distance("real_sever", "real_server"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("quorum", "quorum"), 0);
    }

    #[test]
    fn netmasks_become_prefix_lengths() {
        assert_eq!(mask("255.255.255.0"), Some(24));
        assert_eq!(mask("255.0.255.0"), None);
        assert_eq!(mask("64"), Some(64));
        assert_eq!(mask("0"), None);
    }
}
