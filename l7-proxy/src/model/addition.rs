//! Texts that come before and behind answers (`addition`).

use super::compress::MediaTypes;

/// What is put around which answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The path whose answer comes first (`add_before_body`).
    pub before: Option<String>,
    /// The path whose answer comes last (`add_after_body`).
    pub after: Option<String>,
    /// The media types of the answers (`addition_types`).
    pub types: MediaTypes,
}

impl Addition {
    /// Returns whether nothing is put around anything.
    pub fn is_empty(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

impl Default for Addition {
    fn default() -> Self {
        Self { before: None, after: None, types: MediaTypes::of(&[]) }
    }
}
