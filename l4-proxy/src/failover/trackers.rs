//! What instances depend on and what moves their priorities: scripts that are run, files with numbers,
//! processes that have to be there. Interfaces are the node's own business.
//!
//! Each thing that is watched has one task, whoever tracks it; what it finds is weighed for each instance
//! by that instance's own weight.

mod process;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;
use vrrp::os::Verdict;

use crate::check;
use crate::keepalived::model::{Instance, NumberFile, Track, TrackProcess, Vrrp, VrrpScript, Weight};
use crate::script::{self, Account, Ended};

/// Something that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    Script(VrrpScript, Account),
    File(NumberFile),
    Process(TrackProcess),
}

/// Who tracks it, and by which weight.
type Followers = Vec<(String, Weight)>;

/// Where verdicts go: instance, tracker, verdict.
pub(super) type Sink = Arc<dyn Fn(&str, &str, Verdict) + Send + Sync>;

/// A tracker at work. It ends when this is dropped.
pub(super) struct Tracker {
    watched: Watched,
    followers: watch::Sender<Followers>,
}

/// A tracker to begin, with the other end of its [`Tracker`].
pub(super) struct Begun {
    name: String,
    watched: Watched,
    followers: watch::Receiver<Followers>,
}

/// All that is watched, by what instances call it.
#[derive(Default)]
pub(super) struct Trackers {
    running: BTreeMap<String, Tracker>,
}

impl Trackers {
    /// Watches what these ask for; what stays the same goes on, with what it has found. Returns what
    /// begins, and which instances do not depend on which trackers any more.
    pub(super) fn follow(&mut self, vrrp: &Vrrp, account: &Account) -> (Vec<Begun>, Vec<(String, String)>) {
        let mut wanted = wanted(vrrp, account);
        let still = |name: &str, instance: &str| {
            let followers = wanted.get(name).map(|(_, followers)| followers);
            followers.is_some_and(|followers| followers.iter().any(|(follower, _)| follower == instance))
        };
        let mut freed = Vec::new();
        for (name, tracker) in &self.running {
            let followers = tracker.followers.borrow();
            let gone = followers.iter().filter(|(instance, _)| !still(name, instance));
            freed.extend(gone.map(|(instance, _)| (instance.clone(), name.clone())));
        }
        self.running.retain(|name, tracker| {
            let same = wanted.get(name).is_some_and(|(watched, _)| *watched == tracker.watched);
            if same && let Some((_, followers)) = wanted.remove(name) {
                tracker.followers.send_replace(followers);
            }
            same
        });
        let mut begun = Vec::new();
        for (name, (watched, followers)) in wanted {
            let (sender, followers) = watch::channel(followers);
            begun.push(Begun { name: name.clone(), watched: watched.clone(), followers });
            self.running.insert(name, Tracker { watched, followers: sender });
        }
        (begun, freed)
    }

    /// Whether there is one of this name.
    pub(super) fn know(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Has every tracker say again what it has found, for instances that were not there to hear it.
    pub(super) fn tell_again(&self) {
        self.running.values().for_each(|tracker| tracker.followers.send_modify(|_| {}));
    }
}

/// The names of the trackers that an instance waits for: a script says nothing before it has run.
pub(super) fn awaited(vrrp: &Vrrp, instance: &Instance) -> Vec<String> {
    let mut names = Vec::new();
    for (name, _) in tracks(vrrp, instance).iter().flat_map(|(track, _)| &track.scripts) {
        let begins_failed = vrrp.scripts.iter().any(|script| script.name == *name && script.begins_failed);
        let name = script_name(name);
        if !begins_failed && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What an instance tracks itself, and what its groups track for it; of those weights count only where
/// they are asked for.
fn tracks<'a>(vrrp: &'a Vrrp, instance: &'a Instance) -> Vec<(&'a Track, bool)> {
    let groups = vrrp.groups.iter().filter(|group| group.members.contains(&instance.name));
    let groups = groups.map(|group| (&group.track, group.weights_count));
    std::iter::once((&instance.track, true)).chain(groups).collect()
}

fn wanted(vrrp: &Vrrp, account: &Account) -> BTreeMap<String, (Watched, Followers)> {
    let scripts: HashMap<&str, &VrrpScript> =
        vrrp.scripts.iter().map(|script| (script.name.as_str(), script)).collect();
    let processes: HashMap<&str, &TrackProcess> =
        vrrp.processes.iter().map(|process| (process.name.as_str(), process)).collect();
    let files: HashMap<&str, &NumberFile> =
        vrrp.files.iter().map(|file| (file.name.as_str(), &file.file)).collect();
    let mut wanted: BTreeMap<String, (Watched, Followers)> = BTreeMap::new();
    for instance in &vrrp.instances {
        for (track, weights_count) in tracks(vrrp, instance) {
            let mut add = |name: String, watched: Watched, weight: Weight| {
                let weight = if weights_count { weight } else { weight.without_value() };
                let (_, followers) = wanted.entry(name).or_insert_with(|| (watched, Vec::new()));
                followers.push((instance.name.clone(), weight));
            };
            for (name, weight) in &track.scripts {
                let Some(script) = scripts.get(name.as_str()) else { continue };
                let watched = Watched::Script((*script).clone(), account.clone());
                add(script_name(name), watched, weight.unwrap_or(script.weight));
            }
            for (name, weight) in &track.processes {
                let Some(process) = processes.get(name.as_str()) else { continue };
                let watched = Watched::Process((*process).clone());
                add(format!("process {name}"), watched, weight.unwrap_or(process.weight));
            }
            for (name, weight) in &track.files {
                let Some(file) = files.get(name.as_str()) else { continue };
                let own = Weight { value: file.weight, reversed: false };
                add(format!("file {name}"), Watched::File((*file).clone()), weight.unwrap_or(own));
            }
        }
    }
    wanted
}

fn script_name(name: &str) -> String {
    format!("script {name}")
}

impl Begun {
    /// Watches until its [`Tracker`] is dropped.
    pub(super) async fn run(self, sink: Sink) {
        let Begun { name, watched, mut followers } = self;
        let (found, mut findings) = watch::channel(None::<Found>);
        let watching = async {
            match watched {
                Watched::Script(script, account) => watch_script(&script, &account, &found).await,
                Watched::File(file) => watch_file(&file, &found).await,
                Watched::Process(process) => process::watch(&process, &found).await,
            }
        };
        let telling = async {
            loop {
                if let Some(found) = &*findings.borrow_and_update() {
                    for (instance, weight) in &*followers.borrow_and_update() {
                        sink(instance, &name, found.weighed(*weight));
                    }
                }
                tokio::select! {
                    changed = findings.changed() => if changed.is_err() { return },
                    changed = followers.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = telling => {}
        }
    }
}

/// What was found out about something that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Up,
    Down(String),
    Number(i64),
}

impl Found {
    fn weighed(&self, weight: Weight) -> Verdict {
        let added = match self {
            Found::Up => weight.adds(true),
            Found::Down(_) => weight.adds(false),
            Found::Number(number) if weight.value == 0 => weight.adds(*number == 0),
            Found::Number(number) => {
                let product = number.saturating_mul(weight.value);
                let product = if weight.reversed { product.saturating_neg() } else { product };
                (product > FAULT).then_some(product.min(WEIGHT_MAX))
            }
        };
        match (added, self) {
            (Some(added), _) => Verdict::Weight(added as i32),
            (None, Found::Down(why)) => Verdict::Failed(why.clone()),
            (None, Found::Number(number)) => Verdict::Failed(format!("the file says {number}")),
            (None, Found::Up) => Verdict::Failed("it is up, and is reversed".to_owned()),
        }
    }
}

async fn watch_script(script: &VrrpScript, account: &Account, found: &watch::Sender<Option<Found>>) {
    let mut count = Count::new(script);
    if script.begins_failed {
        found.send_replace(Some(Found::Down("it has not passed yet".to_owned())));
    }
    let mut next = Instant::now();
    loop {
        let why = match script::run(&script.script, account, script.timeout).await {
            Ok(Ended::Exit(0)) => None,
            Ok(Ended::Exit(code)) => Some(format!("it exited with {code}")),
            Ok(Ended::Signal(signal)) => Some(format!("it was ended by signal {signal}")),
            Ok(Ended::TimedOut) => Some(format!("it took longer than {:?}", script.timeout)),
            Err(error) => Some(format!("it cannot be run: {error}")),
        };
        match count.take(why.is_none()) {
            Some(true) => {
                info!("script {} passes", script.name);
                found.send_replace(Some(Found::Up));
            }
            Some(false) => {
                let why = why.unwrap_or_default();
                info!("script {} fails: {why}", script.name);
                found.send_replace(Some(Found::Down(why)));
            }
            None => {}
        }
        // From start to start, but never two at a time.
        next = (next + script.interval).max(Instant::now());
        sleep_until(next).await;
    }
}

/// Runs in a row, as keepalived counts them: the first one decides at once.
#[derive(Debug)]
struct Count {
    up: Option<bool>,
    against: u32,
    rise: u32,
    fall: u32,
}

impl Count {
    fn new(script: &VrrpScript) -> Count {
        let up = script.begins_failed.then_some(false);
        Count { up, against: 0, rise: script.rise, fall: script.fall }
    }

    /// Takes in a run; says what is true from now on, if that is news.
    fn take(&mut self, passed: bool) -> Option<bool> {
        let enough = match self.up {
            None => 1,
            Some(up) if up == passed => {
                self.against = 0;
                return None;
            }
            Some(up) => {
                if up {
                    self.fall
                } else {
                    self.rise
                }
            }
        };
        self.against += 1;
        if self.against < enough {
            return None;
        }
        (self.up, self.against) = (Some(passed), 0);
        self.up
    }
}

async fn watch_file(file: &NumberFile, found: &watch::Sender<Option<Found>>) {
    loop {
        let number = number_in(file);
        found.send_if_modified(|known| known.replace(Found::Number(number)) != Some(Found::Number(number)));
        sleep(FILE_PAUSE).await;
    }
}

/// The number that a file begins with; 0 if there is none, as in keepalived.
fn number_in(file: &NumberFile) -> i64 {
    let text = check::file::read(file).unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A sum from here on down is a fault.
const FAULT: i64 = -254;

const WEIGHT_MAX: i64 = 253;

/// How often a file is looked at.
const FILE_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keepalived::model::Script;

    fn script(rise: u32, fall: u32, begins_failed: bool) -> VrrpScript {
        VrrpScript {
            name: "c".to_owned(),
            script: Script { words: vec!["/bin/true".to_owned()], user: None },
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            weight: Weight::default(),
            rise,
            fall,
            begins_failed,
        }
    }

    #[test]
    fn script_counts_when_it_has_passed_or_failed_often_enough() {
        let mut count = Count::new(&script(2, 3, false));
        let runs = [true, false, false, true, false, false, false, true, true];
        let news: Vec<_> = runs.into_iter().map(|passed| count.take(passed)).collect();
        assert_eq!(news, [Some(true), None, None, None, None, None, Some(false), None, Some(true)]);
        assert_eq!(Count::new(&script(5, 5, false)).take(false), Some(false), "the first run decides");
        let mut count = Count::new(&script(2, 1, true));
        assert_eq!([count.take(true), count.take(true)], [None, Some(true)]);
    }

    #[test]
    fn weight_of_zero_makes_a_failure_a_fault_and_others_move_the_priority() {
        let weight = |value| Weight { value, reversed: false };
        let down = Found::Down("x".to_owned());
        assert_eq!(down.weighed(weight(0)), Verdict::Failed("x".to_owned()));
        assert_eq!(down.weighed(weight(-20)), Verdict::Weight(-20));
        assert_eq!(down.weighed(weight(20)), Verdict::Weight(0));
        assert_eq!(Found::Up.weighed(weight(20)), Verdict::Weight(20));
        assert_eq!(Found::Up.weighed(Weight { value: 20, reversed: true }), Verdict::Weight(-20));
        let reversed = Weight { value: 0, reversed: true };
        assert_eq!(Found::Up.weighed(reversed), Verdict::Failed("it is up, and is reversed".to_owned()));
        assert_eq!(down.weighed(reversed), Verdict::Weight(0));
        assert_eq!(Found::Number(0).weighed(reversed), Verdict::Failed("the file says 0".to_owned()));
        assert_eq!(Found::Number(3).weighed(weight(2)), Verdict::Weight(6));
        assert_eq!(Found::Number(1).weighed(weight(0)), Verdict::Failed("the file says 1".to_owned()));
        assert_eq!(Found::Number(-127).weighed(weight(2)), Verdict::Failed("the file says -127".to_owned()));
        assert_eq!(Found::Number(i64::MAX).weighed(weight(i64::MAX)), Verdict::Weight(253));
    }
}
