//! Sizes of buffers that contradict each other: they tune nothing here, and nginx refuses them.
//!
//! What holds at a server or a location is looked at, with what it has of the blocks around, so that a
//! contradiction may be between one directive inside and another one outside.

use crate::model::{Buffers, Settings};

use super::proxy::proxy;
use super::rules::{Context, Fault};
use super::tree::Directive;
use super::value::{parse_number, parse_size};
use super::{Error, Scope};

/// Takes down what a block says of buffers, and refuses what cannot be.
pub(super) fn check(
    scope: &mut Scope,
    context: Context,
    block: &[Directive],
    settings: &mut Settings,
) -> Result<(), Error> {
    let mut own = settings.proxy.buffers.clone();
    let mut latest = None;
    for directive in block {
        let size = parse_size(directive.arg(0));
        match &*directive.name {
            "proxy_buffers" => {
                (own.count, own.size) =
                    buffers(directive).ok_or_else(|| Fault::directive("invalid value").at(directive))?;
            }
            "proxy_busy_buffers_size" => own.busy = size,
            "proxy_temp_file_write_size" => own.written = size,
            "proxy_max_temp_file_size" => own.file_max = size,
            "proxy_buffer_size" => {}
            _ => continue,
        }
        latest = Some(directive);
    }
    if let Some(latest) = latest {
        scope.buffers = Some(latest.place.clone());
    }
    if own != settings.proxy.buffers {
        proxy(settings).buffers = own;
    }
    // What stands in `http {}` alone holds nowhere.
    if context == Context::HTTP {
        return Ok(());
    }
    let (first, buffers) = (settings.proxy.buffer_size as u64, &settings.proxy.buffers);
    contradiction(first, buffers).map_or(Ok(()), |message| {
        let place = latest.map(|latest| &latest.place).or(scope.buffers.as_ref());
        Err(place.map_or_else(|| Error::general(message), |place| Error::at(place, message)))
    })
}

fn buffers(directive: &Directive) -> Option<(u64, u64)> {
    Some((parse_number(directive.arg(0))?, parse_size(directive.arg(1))?))
}

/// Returns nginx's words for what cannot be.
fn contradiction(first: u64, buffers: &Buffers) -> Option<&'static str> {
    let &Buffers { count, size, busy, written, file_max } = buffers;
    let largest = first.max(size);
    let busy = busy.unwrap_or(largest.saturating_mul(2));
    if count < 2 {
        return Some("there must be at least 2 \"proxy_buffers\"");
    }
    if busy < largest {
        return Some(
            "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if busy > (count - 1).saturating_mul(size) {
        return Some(
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer",
        );
    }
    if written.is_some_and(|written| written < largest) {
        return Some(
            "\"proxy_temp_file_write_size\" must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if file_max.is_some_and(|most| most != 0 && most < largest) {
        return Some(
            "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be \
             equal to or greater than the maximum of the value of \"proxy_buffer_size\" and one of the \
             \"proxy_buffers\"",
        );
    }
    None
}
