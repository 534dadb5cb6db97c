//! `charset` and what goes with it: the character set that answers are said to be in, and maps into others.

use std::sync::Arc;

use crate::charset::{CharsetId, Rows, is_utf8};
use crate::model::{Charset, MediaTypes, Settings};
use crate::variable::Value;

use super::compress::media_types;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::flag;
use super::{Error, Scope};

/// Maps go into the scope, until all names are known.
pub(super) const MAPS: &[Rule<()>] =
    &[Rule::new("charset_map", Context::HTTP, 2..=2, map).block(Context::DATA).many(|()| {})];

/// What fills in the [`Charset`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("charset", Context::SETTINGS_IF, 1..=1, |scope, settings, directive| {
        charset(settings).name = match directive.arg(0) {
            "off" => None,
            word => Some(name(scope, word)?),
        };
        Ok(())
    }),
    Rule::new("source_charset", Context::SETTINGS_IF, 1..=1, |scope, settings, directive| {
        charset(settings).source = Some(name(scope, directive.arg(0))?);
        Ok(())
    }),
    Rule::new("charset_types", Context::SETTINGS, 1..=ANY, |scope, settings: &mut Settings, directive| {
        media_types(scope, directive, &mut charset(settings).types);
        Ok(())
    })
    .many(|settings| charset(settings).types = MediaTypes::of(&[])),
    Rule::new("override_charset", Context::SETTINGS_IF, 1..=1, |_, settings, directive| {
        charset(settings).overrides = flag(directive)?;
        Ok(())
    }),
];

fn charset(settings: &mut Settings) -> &mut Charset {
    Arc::make_mut(&mut settings.charset)
}

/// Reads a name, which may be a variable; one that is not is known from then on.
fn name(scope: &mut Scope, word: &str) -> Result<Value, Fault> {
    if word.starts_with('$') {
        return Ok(Value::parse(word, &scope.names)?);
    }
    scope.charsets.known.know(word);
    Ok(Value::literal(word))
}

/// The character sets of a file.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) known: crate::charset::Charsets,
    /// Those between which there is a map.
    mapped: Vec<(CharsetId, CharsetId)>,
    /// Those that answers are to be put from and into.
    wanted: Vec<(CharsetId, CharsetId)>,
}

impl Shared {
    /// Takes down what answers are put from and into where these settings hold.
    pub(super) fn want(&mut self, settings: &Settings) {
        let charset = &settings.charset;
        let number = |value: &Option<Value>| self.known.find(value.as_ref()?.as_literal()?);
        if let (Some(from), Some(to)) = (number(&charset.source), number(&charset.name))
            && from != to
        {
            self.wanted.push((from, to));
        }
    }

    /// Refuses what no map is for.
    pub(super) fn check(&self) -> Result<(), Error> {
        let has = |from, to| self.mapped.contains(&(from, to)) || self.mapped.contains(&(to, from));
        match self.wanted.iter().find(|&&(from, to)| !has(from, to)) {
            Some(&(from, to)) => Err(Error::general(format!(
                "no \"charset_map\" between the charsets \"{}\" and \"{}\"",
                self.known.name(from),
                self.known.name(to)
            ))),
            None => Ok(()),
        }
    }
}

fn map(scope: &mut Scope, (): &mut (), directive: &Directive) -> Result<(), Fault> {
    let (one, other) = (directive.arg(0), directive.arg(1));
    let shared = &mut scope.charsets;
    let (from, to) = (shared.known.know(one), shared.known.know(other));
    if from == to {
        return Err(Fault::new(format!(
            "\"charset_map\" between the same charsets \"{one}\" and \"{other}\""
        )));
    }
    if is_utf8(one) {
        return Err(Fault::new(
            "\"charset_map\" with \"utf-8\" charset should be given in the second column",
        ));
    }
    if shared.mapped.contains(&(from, to)) || shared.mapped.contains(&(to, from)) {
        return Err(Fault::new(format!("duplicate \"charset_map\" between \"{one}\" and \"{other}\"")));
    }
    shared.mapped.push((from, to));
    let mut rows = if is_utf8(other) { Rows::of_utf8() } else { Rows::of_bytes() };
    for row in &directive.block {
        add(&mut rows, row).map_err(|fault| Fault::Elsewhere(fault.at(row)))?;
    }
    shared.known.define(from, to, rows);
    Ok(())
}

fn add(rows: &mut Rows, row: &Directive) -> Result<(), Fault> {
    let [to] = &*row.args else { return Err(Fault::new("invalid parameters number")) };
    let from = hexadecimal(row.name.as_bytes()).ok_or_else(|| Fault::value(&row.name))?;
    let bytes: Option<Vec<u8>> = match rows {
        // As in nginx it may have zeros in front.
        Rows::Bytes { .. } => hexadecimal(to.as_bytes()).map(|byte| vec![byte]),
        Rows::Utf8 { .. } => {
            to.as_bytes().chunks(2).map(|pair| hexadecimal(pair).filter(|_| pair.len() == 2)).collect()
        }
    };
    bytes.and_then(|bytes| rows.add(from, &bytes)).ok_or_else(|| Fault::value(to))
}

/// Reads a byte.
fn hexadecimal(digits: &[u8]) -> Option<u8> {
    if digits.is_empty() {
        return None;
    }
    let digit = |value: u8, &digit: &u8| {
        let digit = char::from(digit).to_digit(16)?;
        u8::try_from(u32::from(value) * 16 + digit).ok()
    };
    digits.iter().try_fold(0, digit)
}
