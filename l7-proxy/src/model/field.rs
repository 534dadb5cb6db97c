//! Fields as they are written: a name, and a value that may have variables.

use std::fmt;

use http::HeaderName;
use http::header::InvalidHeaderName;

use super::{AddHeader, SetHeader, When};
use crate::variable::{Names, Value, ValueError};

/// Why a text is no field.
#[derive(Debug)]
#[non_exhaustive]
pub enum FieldError {
    /// No field can be called so.
    Name(InvalidHeaderName),
    /// A variable in the value is not written as one, or there is none of that name.
    Value(ValueError),
}

impl SetHeader {
    /// Sets the field of this name, spelled so, to a value with variables.
    ///
    /// ```
    /// use l7_proxy::model::SetHeader;
    ///
    /// assert!(SetHeader::new("X-Real-IP", "$remote_addr").is_ok());
    /// assert!(SetHeader::new("X Real IP", "$remote_addr").is_err());
    /// ```
    ///
    /// # Errors
    /// The name or the value cannot be one.
    pub fn new(name: &str, value: &str) -> Result<Self, FieldError> {
        let (name, value, written) = parse(name, value)?;
        Ok(Self { name, written, value })
    }
}

impl AddHeader {
    /// Adds a field of this name, spelled so, with a value with variables.
    ///
    /// # Errors
    /// The name or the value cannot be one.
    pub fn new(name: &str, value: &str, when: When) -> Result<Self, FieldError> {
        let (name, value, written) = parse(name, value)?;
        Ok(Self { name, written, value, when })
    }
}

fn parse(name: &str, value: &str) -> Result<(HeaderName, Value, String), FieldError> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(FieldError::Name)?;
    let value = Value::parse(value, &Names::default()).map_err(FieldError::Value)?;
    Ok((parsed, value, name.to_owned()))
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Value(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FieldError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Value(error) => Some(error),
        }
    }
}
