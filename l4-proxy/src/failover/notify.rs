//! Who is told when an instance or a group changes: the programs of `notify_*`, then `notify` with
//! keepalived's four words, then the FIFOs. That of `notify_split_brain` is told the four words and the
//! evidence.
//!
//! The programs of one instance run one after the other, so that the last one to run is that of the last
//! change. One that hangs is ended after a minute; keepalived lets it run, beside the next one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use vrrp::router::State;

use crate::fifo;
use crate::keepalived::model::{Notify, Script};
use crate::mail::Letter;
use crate::script::{self, Account, Ended};

/// Who changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Instance(String),
    Group(String),
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// It is this now.
    State(State),
    /// As master it hears one of lower priority.
    LowerPriority,
    /// There are two masters, or another host has the address: the evidence.
    SplitBrain(&'a str),
    /// It is in the configuration no longer.
    Deleted,
}

/// What operators are sent of a change, where they are sent anything: keepalived's subject and first
/// line, and what was said in the log.
pub(super) fn letter(who: &Who, what: What<'_>, said: &str) -> Option<Letter> {
    let What::State(state @ (State::Master | State::Backup | State::Fault)) = what else { return None };
    let word = what.word();
    let (subject, meaning) = match who {
        Who::Instance(name) => {
            let owns = if state == State::Master { "now owning" } else { "no longer owning" };
            (format!("VRRP Instance {name}"), format!("VRRP Instance is {owns} VRRP VIPs"))
        }
        Who::Group(name) => {
            (format!("VRRP Group {name}"), format!("All VRRP group instances are now in {word} state"))
        }
    };
    Some(Letter {
        subject: format!("{subject} - Entering {word} state"),
        text: format!("=> {meaning} <=\n\n{said}\n"),
    })
}

/// Tells in turn.
pub(super) struct Notifier {
    queues: HashMap<Who, mpsc::Sender<Job>>,
}

/// One thing to be done for one who changed.
struct Job {
    scripts: Vec<Script>,
    account: Account,
    /// A line, and where it goes.
    line: Option<(String, Vec<PathBuf>)>,
    /// Is dropped when it is done.
    _done: Option<oneshot::Sender<()>>,
}

/// How a change is told.
pub(super) struct Telling<'a> {
    pub(super) who: Who,
    pub(super) what: What<'a>,
    pub(super) priority: u8,
    pub(super) notify: &'a Notify,
    pub(super) account: &'a Account,
    pub(super) fifos: &'a [PathBuf],
}

impl Notifier {
    pub(super) fn new() -> Notifier {
        Notifier { queues: HashMap::new() }
    }

    /// Tells, after what is being told of the same one. Call it on a local runtime.
    pub(super) fn tell(&mut self, telling: &Telling<'_>) {
        let (account, fifos) = (telling.account.clone(), telling.fifos.to_vec());
        let line = (!fifos.is_empty()).then(|| (telling.line(), fifos));
        let job = Job { scripts: telling.scripts(), account, line, _done: None };
        if job.scripts.is_empty() && job.line.is_none() {
            return;
        }
        let queue = self.queues.entry(telling.who.clone()).or_insert_with(|| {
            let (queue, mut jobs) = mpsc::channel::<Job>(WAITING_MAX);
            tokio::task::spawn_local(async move {
                while let Some(job) = jobs.recv().await {
                    job.run().await;
                }
            });
            queue
        });
        if queue.try_send(job).is_err() {
            warn!("{} changes faster than its programs run: one of them is left out", telling.who.name());
        }
    }

    /// Waits until all has been told.
    pub(super) async fn settle(&mut self) {
        for (_, queue) in self.queues.drain() {
            let (done, over) = oneshot::channel();
            let last =
                Job { scripts: Vec::new(), account: Account::default(), line: None, _done: Some(done) };
            if queue.send(last).await.is_ok() {
                // Dropped when its turn is over.
                let _ = over.await;
            }
        }
    }
}

impl Who {
    fn kind(&self) -> &'static str {
        match self {
            Who::Instance(_) => "INSTANCE",
            Who::Group(_) => "GROUP",
        }
    }

    fn name(&self) -> &str {
        match self {
            Who::Instance(name) | Who::Group(name) => name,
        }
    }
}

impl What<'_> {
    fn word(self) -> &'static str {
        match self {
            What::State(State::Master) => "MASTER",
            What::State(State::Backup) => "BACKUP",
            What::State(State::Fault) => "FAULT",
            What::State(State::Init) => "STOP",
            What::LowerPriority => "MASTER_RX_LOWER_PRI",
            What::SplitBrain(_) => "SPLIT_BRAIN",
            What::Deleted => "DELETED",
        }
    }
}

impl Telling<'_> {
    /// The program for this change, and the one for all with what it is told.
    fn scripts(&self) -> Vec<Script> {
        let notify = self.notify;
        let mut own = match self.what {
            What::State(State::Master) => &notify.master,
            What::State(State::Backup) => &notify.backup,
            What::State(State::Fault) => &notify.fault,
            What::State(State::Init) => &notify.stop,
            What::LowerPriority => &notify.lower_priority,
            What::SplitBrain(_) => &notify.split_brain,
            What::Deleted => &notify.deleted,
        }
        .clone();
        if let (What::SplitBrain(evidence), Some(own)) = (self.what, &mut own) {
            own.words.extend(self.words());
            own.words.push(evidence.to_owned());
        }
        // Of what is no state only those are told who ask for it: a program for all states knows no others.
        let is_state = matches!(self.what, What::State(_) | What::Deleted);
        let mut any = notify.any.clone().filter(|_| is_state);
        if let Some(any) = &mut any {
            any.words.extend(self.words());
        }
        own.into_iter().chain(any).collect()
    }

    /// keepalived's four words.
    fn words(&self) -> [String; 4] {
        let [kind, name, what] = [self.who.kind(), self.who.name(), self.what.word()].map(str::to_owned);
        [kind, name, what, self.priority.to_string()]
    }

    /// `INSTANCE "VI_1" MASTER 100`
    fn line(&self) -> String {
        format!("{} \"{}\" {} {}\n", self.who.kind(), self.who.name(), self.what.word(), self.priority)
    }
}

impl Job {
    async fn run(self) {
        if let Some((line, fifos)) = &self.line {
            fifos.iter().for_each(|path| fifo::write(path, line));
        }
        for script in &self.scripts {
            run(script, &self.account).await;
        }
    }
}

async fn run(script: &Script, account: &Account) {
    let program = script.words.join(" ");
    match script::run(script, account, PATIENCE).await {
        Ok(Ended::Exit(0)) => info!("ran {program}"),
        Ok(Ended::Exit(code)) => warn!("{program} exited with {code}"),
        Ok(Ended::Signal(signal)) => warn!("{program} was ended by signal {signal}"),
        Ok(Ended::TimedOut) => warn!("{program} took too long and was ended"),
        Err(error) => warn!("cannot run {program}: {error}"),
    }
}

/// Changes that wait for the programs of earlier ones.
const WAITING_MAX: usize = 32;

const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn script(word: &str) -> Option<Script> {
        Some(Script { words: vec![word.to_owned()], user: None })
    }

    #[test]
    fn program_for_all_changes_is_told_what_keepalived_tells() {
        let notify = Notify {
            master: script("m"),
            any: script("n"),
            stop: script("s"),
            split_brain: script("b"),
            ..Notify::default()
        };
        let telling = |who, what| {
            Telling { who, what, priority: 150, notify: &notify, account: &Account::default(), fifos: &[] }
                .scripts()
                .into_iter()
                .map(|script| script.words.join(" "))
                .collect::<Vec<_>>()
        };
        let instance = || Who::Instance("VI_1".to_owned());
        assert_eq!(telling(instance(), What::State(State::Master)), ["m", "n INSTANCE VI_1 MASTER 150"]);
        assert_eq!(telling(Who::Group("G".to_owned()), What::State(State::Fault)), ["n GROUP G FAULT 150"]);
        assert_eq!(telling(instance(), What::State(State::Init)), ["s", "n INSTANCE VI_1 STOP 150"]);
        let split = What::SplitBrain("two of them");
        assert_eq!(telling(instance(), split), ["b INSTANCE VI_1 SPLIT_BRAIN 150 two of them"]);
        assert_eq!(telling(instance(), What::LowerPriority), [""; 0]);
    }
}
