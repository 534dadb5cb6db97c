//! The one clock of a process: monotonic, and set once to the time of day.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lvs_core::Time;

/// The present moment since the Unix epoch, as a clock that never steps.
///
/// The time of day is read once, at the first call; from then on the clock only counts. A step of
/// the system's clock therefore expires no template and ends no ejection.
pub fn now() -> Time {
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    Time::from_epoch(START.1 + START.0.elapsed())
}
