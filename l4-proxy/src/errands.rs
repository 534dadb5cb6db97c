//! What `keepalived.conf` wants run once, before the director begins and after it has ended
//! (`startup_script`, `shutdown_script`).
//!
//! A takeover is neither: the service has begun with the first process and ends with the last one. What a
//! script says is told and decides nothing, as in keepalived: a director that does not begin is worse than a
//! rule that is missing.

use l4_proxy::keepalived::Model;
use l4_proxy::keepalived::model::Errand;
use l4_proxy::script::{self, Account, Ended};
use tracing::{info, warn};

/// What is to be run when the director has ended, with the account that it is run by.
#[derive(Debug, Default)]
pub(crate) struct AtTheEnd(Option<(Errand, Account)>);

/// Runs what is to be run before the director begins, and waits for it.
pub(crate) async fn begin(model: Option<&Model>) {
    if let Some((errand, account)) =
        model.and_then(|model| with_account(model, model.global.startup.as_ref()))
    {
        run("startup_script", &errand, &account).await;
    }
}

impl AtTheEnd {
    /// As this configuration says from now on.
    pub(crate) fn follow(&mut self, model: Option<&Model>) {
        self.0 = model.and_then(|model| with_account(model, model.global.shutdown.as_ref()));
    }

    /// Runs it.
    pub(crate) async fn run(self) {
        if let Some((errand, account)) = self.0 {
            run("shutdown_script", &errand, &account).await;
        }
    }
}

fn with_account(model: &Model, errand: Option<&Errand>) -> Option<(Errand, Account)> {
    Some((errand?.clone(), Account::of(&model.global)))
}

async fn run(name: &str, errand: &Errand, account: &Account) {
    let program = errand.script.words.join(" ");
    match script::run(&errand.script, account, errand.patience).await {
        Ok(Ended::Exit(0)) => info!("ran {name} {program}"),
        Ok(Ended::Exit(code)) => warn!("{name} {program} exited with {code}"),
        Ok(Ended::Signal(signal)) => warn!("{name} {program} was ended by signal {signal}"),
        Ok(Ended::TimedOut) => warn!("{name} {program} took longer than {:?} and was ended", errand.patience),
        Err(error) => warn!("cannot run {name} {program}: {error}"),
    }
}
