//! One check, made over and over.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tracing::info;

use super::{Running, Shared};
use crate::check::origin::is_local;
use crate::check::rhythm::{Beat, Standing};
use crate::check::{self, Report, Thoroughness};
use crate::keepalived::pool::Check;
use crate::script::Account;

/// Makes the check until nobody holds the other end of `stopped`.
pub(super) async fn run(
    running: Running,
    standing: Standing,
    mut stopped: watch::Receiver<()>,
    shared: Weak<Shared>,
    account: Account,
    room: Arc<Semaphore>,
) {
    let Running { id, checker, only_with, stop } = running;
    // The end of the check is for those to decide who keep it.
    drop(stop);
    let checking = async {
        let rhythm = &checker.rhythm;
        let mut beat = Beat::new(standing, check::steps(&checker));
        sleep(rhythm.warmup.mul_f64(fraction())).await;
        loop {
            if !only_with.is_empty() && !only_with.iter().any(|address| is_local(*address)) {
                sleep(rhythm.delay_loop).await;
                continue;
            }
            let thoroughness = beat.step().map_or(Thoroughness::All, Thoroughness::Step);
            let report = {
                // Closed by nobody.
                let _room = room.acquire().await;
                check::once(&checker, thoroughness, &account).await
            };
            let (next, cause, weighs) = match report {
                Report::Passed => (beat.passed(rhythm), None, None),
                Report::Weighs(weighs) => (beat.passed(rhythm), None, Some(weighs)),
                Report::Failed(cause) => (beat.failed(rhythm), Some(cause), None),
            };
            if let Some(cause) = &cause
                && checker.log_all_failures
                && next.turned.is_none()
            {
                info!(target: "check", "{}: {cause} ({} in a row)", checker.name(), beat.failures());
            }
            let Some(shared) = shared.upgrade() else { return };
            // A failure that is still being repeated says nothing yet; once it counts, each says what is wrong now.
            if beat.standing() == Standing::Down || cause.is_none() {
                let cause = cause.map(|cause| format!("{}: {cause}", checker.name()).into());
                shared.hear(id, Check { standing: beat.standing(), cause, weighs });
            }
            drop(shared);
            sleep(next.after).await;
        }
    };
    tokio::select! {
        () = checking => {}
        _ = stopped.changed() => {}
    }
}

/// Somewhere from 0 to 1, different each time.
fn fraction() -> f64 {
    let hash = RandomState::new().hash_one(Duration::ZERO);
    f64::from(hash as u32) / f64::from(u32::MAX)
}
