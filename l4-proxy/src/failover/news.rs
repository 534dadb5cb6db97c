//! What happens to virtual routers, and who is told of it: the log, scripts, FIFOs, mail.

use std::sync::Weak;

use tokio::sync::{mpsc, oneshot};
use vrrp::os::Notice;
use vrrp::router::{State, Warning};

use super::notify::{self, Notifier, Telling, What, Who};
use super::{Running, Shared, log};
use crate::keepalived::model::{Instance, Mail, Notify, Vrrp};

/// What the task that tells of changes is told.
pub(super) enum News {
    Notice(Notice),
    Deleted(Box<(Who, Notify)>),
    /// Everything before this is to be told before the other end is dropped.
    Settle(oneshot::Sender<()>),
}

impl Shared {
    /// Tells of instances and groups that are not there any more.
    pub(super) fn farewell(&self, before: &Vrrp, after: &Vrrp) {
        let instances = before.instances.iter();
        let instances = instances.filter(|old| after.instances.iter().all(|new| new.name != old.name));
        for gone in instances {
            let who = Who::Instance(gone.name.clone());
            drop(self.news.try_send(News::Deleted(Box::new((who, gone.notify.clone())))));
        }
        let groups = before.groups.iter();
        for gone in groups.filter(|old| after.groups.iter().all(|new| new.name != old.name)) {
            let who = Who::Group(gone.name.clone());
            drop(self.news.try_send(News::Deleted(Box::new((who, gone.notify.clone())))));
        }
    }

    /// Takes in what happened, and has told who wants to know.
    fn hear(&self, notice: &Notice, notifier: &mut Notifier) {
        log(notice);
        let mut state = self.state();
        state.records.hear(notice);
        let goes_on = match notice {
            Notice::Became { instance, state: became, .. } => {
                state.inherited.instance_goes_on(instance, *became)
            }
            Notice::GroupBecame { group, state: became } => state.inherited.group_goes_on(group, *became),
            _ => false,
        };
        let instance = |name: &str| state.vrrp.instances.iter().find(|instance| instance.name == name);
        let (who, what, priority, notify) = match notice {
            Notice::Became { instance: name, state: became, priority, .. } => {
                state.take_role(name, *became);
                if goes_on {
                    return;
                }
                let Some(instance) = instance(name) else { return };
                (Who::Instance(name.clone()), What::State(*became), *priority, &instance.notify)
            }
            Notice::GroupBecame { group, state: became } => {
                if goes_on {
                    return;
                }
                let Some(found) = state.vrrp.groups.iter().find(|found| found.name == *group) else { return };
                (Who::Group(group.clone()), What::State(*became), 0, &found.notify)
            }
            Notice::Warned { instance: name, warning: warning @ Warning::Rival { priority, .. } } => {
                if let Some(instance) = instance(name) {
                    if *priority < instance.priority {
                        state.tell(instance, What::LowerPriority, notifier);
                    }
                    state.tell(instance, What::SplitBrain(&warning.to_string()), notifier);
                }
                return;
            }
            Notice::Claimed { instance: name, claim } => {
                if let Some(instance) = instance(name) {
                    state.tell(instance, What::SplitBrain(&claim.to_string()), notifier);
                }
                return;
            }
            _ => return,
        };
        let (account, fifos) = (&state.account, &state.global.fifos);
        if let Some(letter) = notify::letter(&who, what, &notice.to_string())
            && notify.mail.is_on(state.global.mailing.of_vrrp, Mail::Off)
            && !(state.global.mailing.no_faults && what == What::State(State::Fault))
        {
            self.office.post(letter, &state.global.mailing);
        }
        notifier.tell(&Telling { who, what, priority, notify, account, fifos });
    }
}

impl Running {
    /// Tells what is amiss with an instance, which stays what it is.
    fn tell(&self, instance: &Instance, what: What<'_>, notifier: &mut Notifier) {
        let (notify, account, fifos) = (&instance.notify, &self.account, &self.global.fifos);
        let (who, priority) = (Who::Instance(instance.name.clone()), instance.priority);
        notifier.tell(&Telling { who, what, priority, notify, account, fifos });
    }
}

/// Tells of changes, one after the other.
pub(super) async fn tell_of(shared: Weak<Shared>, mut told: mpsc::Receiver<News>) {
    let mut notifier = Notifier::new();
    while let Some(news) = told.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        match news {
            News::Notice(notice) => shared.hear(&notice, &mut notifier),
            News::Deleted(gone) => {
                let (who, notify) = *gone;
                let (account, fifos) = {
                    let state = shared.state();
                    (state.account.clone(), state.global.fifos.clone())
                };
                let what = What::Deleted;
                notifier.tell(&Telling {
                    who,
                    what,
                    priority: 0,
                    notify: &notify,
                    account: &account,
                    fifos: &fifos,
                });
            }
            News::Settle(done) => {
                drop(shared);
                notifier.settle().await;
                drop(done);
            }
        }
    }
}

/// Changes that wait to be told.
pub(super) const NEWS_MAX: usize = 4096;
