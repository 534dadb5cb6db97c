//! `MISC_CHECK`: a program's exit code says whether the server is well, or how heavy it is.

use std::time::Duration;

use lvs_core::Cause;

use super::{Report, Weighs};
use crate::keepalived::model::Script;
use crate::script::{self, Account, Ended};

/// 0 is good. Where the check is dynamic 1 is a failure and `n` up to 255 a weight of `n - 2`;
/// otherwise everything else is a failure.
pub(super) async fn check(script: &Script, dynamic: bool, account: &Account, patience: Duration) -> Report {
    let program = &script.words[0];
    let failed = |words: String| Report::Failed(Cause::from(format!("{program} {words}")));
    match script::run(script, account, patience).await {
        Ok(Ended::Exit(0)) => Report::Passed,
        Ok(Ended::Exit(code)) if dynamic && code >= 2 => Report::Weighs(Weighs::Is(code.unsigned_abs() - 2)),
        Ok(Ended::Exit(code)) => failed(format!("exited with {code}")),
        Ok(Ended::Signal(signal)) => failed(format!("was ended by signal {signal}")),
        Ok(Ended::TimedOut) => failed(format!("took longer than {} s", patience.as_secs_f64())),
        Err(error) => failed(format!("cannot be run: {error}")),
    }
}
