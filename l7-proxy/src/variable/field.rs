//! Fields of a head as variables show them: `$http_NAME`, `$sent_http_NAME`, `$upstream_http_NAME`, and
//! trailers.
//!
//! A variable's name has `_` where the field's has `-`, so a field whose own name has `_` cannot be told from
//! one with `-`. As in nginx both are shown, except by variables that nginx has for one field alone
//! (`$http_x_forwarded_for`).

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::fields::has;
use crate::model::FieldNames;

use super::write::Presence;

/// The fields that a variable shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    name: HeaderName,
    spelling: Spelling,
}

/// How a name may be spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Spelling {
    /// As it is.
    Exact,
    /// With `_` in place of each `-`.
    Alike,
}

/// Whether fields with `_` in their names are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Underscores {
    Taken,
    Ignored,
}

impl From<FieldNames> for Underscores {
    fn from(taken: FieldNames) -> Self {
        if taken.underscores || taken.odd { Self::Taken } else { Self::Ignored }
    }
}

impl Field {
    /// Returns the fields of exactly this name.
    pub(super) const fn exact(name: HeaderName) -> Self {
        Self { name, spelling: Spelling::Exact }
    }

    /// Returns what a variable of a family shows, whose name ends in `rest`; of names in `own` nginx has a
    /// variable for one field alone.
    pub(super) fn of_family(rest: &str, own: &[&str]) -> Option<Self> {
        let name = HeaderName::from_bytes(rest.replace('_', "-").as_bytes()).ok()?;
        let is_exact = own.contains(&name.as_str()) || !name.as_str().contains('-');
        Some(Self { name, spelling: if is_exact { Spelling::Exact } else { Spelling::Alike } })
    }

    /// Returns the only field; `None` if there are several, or none.
    pub(super) fn only<'h>(
        &self,
        headers: &'h HeaderMap,
        underscores: Underscores,
    ) -> Option<&'h HeaderValue> {
        let (mut found, mut several) = (None, false);
        self.each(headers, underscores, |value| several |= found.replace(value).is_some());
        found.filter(|_| !several)
    }

    /// Writes all fields, joined with a comma (`Cookie` with a semicolon).
    pub(super) fn write(&self, headers: &HeaderMap, underscores: Underscores, out: &mut Vec<u8>) -> Presence {
        let separator: &[u8] = if self.name == COOKIE { b"; " } else { b", " };
        let mut presence = Presence::Missing;
        self.each(headers, underscores, |value| {
            if presence == Presence::Present {
                out.extend_from_slice(separator);
            }
            out.extend_from_slice(value.as_bytes());
            presence = Presence::Present;
        });
        presence
    }

    fn each<'h>(
        &self,
        headers: &'h HeaderMap,
        underscores: Underscores,
        mut show: impl FnMut(&'h HeaderValue),
    ) {
        match (self.spelling, underscores) {
            (Spelling::Alike, Underscores::Taken) => {
                let alike = headers.iter().filter(|(name, _)| is_alike(name, &self.name));
                alike.for_each(|(_, value)| show(value));
            }
            _ if has(headers, &self.name) => headers.get_all(&self.name).iter().for_each(show),
            _ => {}
        }
    }
}

/// Whether names are the same but for `_` in place of `-`.
fn is_alike(name: &HeaderName, shown: &HeaderName) -> bool {
    let (name, shown) = (name.as_str().as_bytes(), shown.as_str().as_bytes());
    let same = |(name, shown): (&u8, &u8)| name == shown || (*name, *shown) == (b'_', b'-');
    name.len() == shown.len() && name.iter().zip(shown).all(same)
}
