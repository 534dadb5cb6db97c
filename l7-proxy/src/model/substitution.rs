//! Texts that are replaced in answers (`sub_filter`).

use crate::variable::Value;

use super::compress::MediaTypes;

/// Which texts are replaced in which answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    /// Texts and what is put in their place (`sub_filter`); none leaves answers as they are.
    pub pairs: Vec<(Value, Value)>,
    /// Whether each is replaced only where it first stands (`sub_filter_once`, on by default).
    pub once: bool,
    /// The media types of the answers (`sub_filter_types`).
    pub types: MediaTypes,
    /// Whether `Last-Modified` stays, and `ETag` in its weak form (`sub_filter_last_modified`).
    pub keeps_validators: bool,
}

impl Default for Substitution {
    fn default() -> Self {
        Self { pairs: Vec::new(), once: true, types: MediaTypes::of(&[]), keeps_validators: false }
    }
}
