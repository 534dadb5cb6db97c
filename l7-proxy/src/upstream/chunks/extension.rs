//! What may follow a chunk's size on its line (RFC 9112, section 7.1.1). Nobody reads it for what it says.

/// A place on that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Anywhere, where anything goes but the end of a line that has no carriage return.
    Any,
    /// In blanks before a semicolon.
    Blank,
    /// Behind a semicolon.
    Begun,
    Name,
    /// In blanks behind a name.
    Named,
    /// Behind an equals sign.
    Equals,
    Value,
    Quoted,
    /// Behind a backslash in quotes.
    Escaped,
    /// Behind the second quote.
    Unquoted,
}

impl Extension {
    /// Returns the place behind one more byte; `None` if that may not be here.
    pub(super) fn next(self, byte: u8) -> Option<Extension> {
        Some(match (self, byte) {
            (Self::Any, b'\n') => return None,
            (Self::Any, _) => Self::Any,
            (Self::Blank | Self::Name | Self::Named | Self::Value | Self::Unquoted, b';') => Self::Begun,
            (Self::Name | Self::Named, b'=') => Self::Equals,
            (Self::Blank | Self::Value | Self::Unquoted, b' ' | b'\t') => Self::Blank,
            (Self::Name | Self::Named, b' ' | b'\t') => Self::Named,
            (Self::Begun | Self::Equals, b' ' | b'\t') => self,
            (Self::Begun | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Equals | Self::Value, _) if is_token(byte) => Self::Value,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Unquoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Any | Self::Name | Self::Value | Self::Unquoted)
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this may be all that follows a size.
    fn reads(text: &str) -> bool {
        let end = text.bytes().try_fold(Extension::Blank, Extension::next);
        end.is_some_and(Extension::may_end)
    }

    #[test]
    fn names_and_values_are_told_by_the_grammar() {
        for text in [
            ";a",
            ";a=b",
            " ;\ta = b ; c",
            ";a=\"\"",
            ";a=\"b;\\\"c\\\\ \u{e9}\";d=\"\\\t\"",
            ";!#$%&'*+-.^_`|~0=1",
        ] {
            assert!(reads(text), "{text:?}");
        }
        for text in [
            "",
            " ",
            "a",
            "=a",
            ";",
            ";=b",
            ";a=",
            ";a=b=c",
            ";a\0",
            ";a=\"\x7f\"",
            ";a=\"\\\0\"",
            ";\u{e9}",
            ";a=\"b\" c",
        ] {
            assert!(!reads(text), "{text:?}");
        }
    }
}
