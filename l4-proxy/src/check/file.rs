//! `FILE_CHECK`: a number in a file says whether the server is well, or how heavy it is.
//!
//! Without a weight any number but 0 is a failure. With one, the number times the weight is added
//! to the weight of the server if the check is dynamic, and one of -2 147 483 648 or less is a
//! failure.

use lvs_core::Cause;

use super::{Report, Weighs};
use crate::keepalived::model::NumberFile;

pub(super) fn check(file: &NumberFile, dynamic: bool) -> Report {
    let path = file.path.display();
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => return Report::Failed(Cause::from(format!("cannot read {path}: {error}"))),
    };
    let first = text.split_whitespace().next().unwrap_or("0");
    let Ok(number) = first.parse::<i64>() else {
        let shown: String = first.chars().take(20).collect();
        return Report::Failed(Cause::from(format!("{path} begins with \"{shown}\", which is no number")));
    };
    let weighed = number.saturating_mul(file.weight);
    if (file.weight == 0 && number != 0) || weighed <= FAULT {
        return Report::Failed(Cause::from(format!("{path} says {number}")));
    }
    if dynamic && file.weight != 0 { Report::Weighs(Weighs::Adds(weighed)) } else { Report::Passed }
}

/// The beginning of the file; a number is not longer.
pub(crate) fn read(file: &NumberFile) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(&file.path)?.take(LENGTH_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

const FAULT: i64 = i32::MIN as i64;

const LENGTH_MAX: u64 = 128;
