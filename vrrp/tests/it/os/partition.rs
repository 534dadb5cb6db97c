//! Two directors with etcd between them, whatever parts them or stops them: the address is never in two
//! places, looked at every ten milliseconds, and soon in one again.

use std::thread;
use std::time::{Duration, Instant};

use lab::{Cluster, Protection, Watch, eventually, eventually_or, throughout};
use rustix::process::Signal;

use super::lab::{Lab, Program, VIP};

const SECOND: Duration = Duration::from_secs(1);

/// Host 1 is preferred to host 2; host 3 has etcd.
const ETCD: usize = 3;

struct Site {
    lab: Lab,
    cluster: Cluster,
    directors: [Program; 2],
    watch: Watch,
}

impl Site {
    /// Both directors at work, and the address with one of them; these words are for both.
    fn new(words: &[&str]) -> Option<Site> {
        let lab = Lab::new(ETCD)?;
        let cluster =
            lab.within(ETCD, || Cluster::start_at([10, 8, 0, ETCD as u8].into(), 1, Protection::None))?;
        let etcd = &cluster.endpoints()[0];
        let director = |host, priority| {
            let own = ["--address", VIP, "--priority", priority, "--etcd", etcd];
            lab.program(host, &[&own, words].concat())
        };
        let directors = [director(1, "150"), director(2, "100")];
        let watch = watch(&lab);
        let site = Site { lab, cluster, directors, watch };
        eventually("somebody holds the address", || site.holder().is_some());
        Some(site)
    }

    fn holder(&self) -> Option<usize> {
        (1..=2).find(|host| self.lab.has(*host, VIP))
    }

    #[track_caller]
    fn is_held_by(&self, host: usize) {
        eventually_or(
            || format!("host {host} holds the address\n{}", self.logs()),
            || self.holder() == Some(host),
        );
    }

    fn logs(&self) -> String {
        format!("{}\n--\n{}", self.directors[0].log(), self.directors[1].log())
    }

    fn times_master(&self) -> usize {
        self.logs().matches("is MASTER now").count()
    }

    /// Ends it; the address was never in two places.
    fn check(self) {
        let logs = self.logs();
        let (one, both) = times(self.watch);
        assert!(one > 100, "seen {one} times only");
        assert_eq!(both, 0, "{one} times it was in one place\n{logs}");
    }
}

fn watch(lab: &Lab) -> Watch {
    Watch::new(lab, [1, 2], VIP.parse().expect("an address"))
}

/// How often one of them had the address, and how often both.
fn times(watch: Watch) -> (usize, usize) {
    let seen = watch.end();
    let held_by =
        |count| seen.iter().filter(|seen| seen.has.iter().filter(|has| **has).count() == count).count();
    (held_by(1), held_by(2))
}

fn parted(time: Duration) {
    let Some(site) = Site::new(&[]) else { return };
    site.is_held_by(1);
    site.lab.cable(1, "down");
    let cut = Instant::now();
    site.is_held_by(2);
    thread::sleep(time.saturating_sub(cut.elapsed()));
    site.lab.cable(1, "up");
    // The first one is preferred; it has to claim what the second one has the consent for.
    site.is_held_by(1);
    let before = site.times_master();
    assert!((3..=4).contains(&before), "it changed hands too often: {}", site.logs());
    throughout(SECOND * 6, "host 1 holds the address", || site.holder() == Some(1));
    assert_eq!(site.times_master(), before, "{}", site.logs());
    site.check();
}

#[test]
fn address_changes_sides_in_a_partition_without_ever_being_on_both() {
    parted(SECOND * 12);
}

#[test]
#[ignore = "takes more than a minute"]
fn address_changes_sides_in_a_long_partition_without_ever_being_on_both() {
    parted(SECOND * 60);
}

#[test]
fn directors_that_do_not_hear_each_other_never_both_hold_the_address() {
    let Some(site) = Site::new(&["--peer", "10.8.0.99"]) else { return };
    let holder = site.holder();
    throughout(SECOND * 8, "the same one holds it", || site.holder() == holder);
    site.check();
}

#[test]
fn kernel_takes_the_address_from_a_master_that_is_stopped_and_it_does_not_come_back() {
    let Some(site) = Site::new(&[]) else { return };
    site.is_held_by(1);
    site.directors[0].signal(Signal::STOP);
    site.is_held_by(2);
    throughout(SECOND * 3, "host 2 holds the address", || site.holder() == Some(2));
    site.directors[0].signal(Signal::CONT);
    eventually("it notices", || site.directors[0].log().contains("the arbiter's consent ran out"));
    // It is preferred, and gets the address back in an orderly way.
    site.is_held_by(1);
    assert!(!site.directors[0].log().contains("put back"), "{}", site.logs());
    site.check();
}

#[test]
fn address_that_a_killed_master_leaves_behind_is_gone_before_another_one_has_it() {
    let Some(site) = Site::new(&[]) else { return };
    site.is_held_by(1);
    let Site { lab, cluster, directors: [first, second], watch } = site;
    first.kill();
    assert!(lab.has(1, VIP), "the kernel has it still");
    eventually("host 2 holds the address", || lab.has(2, VIP));
    assert!(!lab.has(1, VIP));
    assert_eq!(times(watch).1, 0, "{}", second.log());
    drop(cluster);
}

#[test]
fn address_goes_with_an_arbiter_that_is_gone_and_comes_back_with_it() {
    let Some(site) = Site::new(&[]) else { return };
    site.is_held_by(1);
    site.cluster.signal(0, Signal::STOP);
    eventually("nobody holds the address", || site.holder().is_none());
    throughout(SECOND * 5, "nobody holds the address", || site.holder().is_none());
    site.cluster.signal(0, Signal::CONT);
    eventually("somebody holds the address", || site.holder().is_some());
    site.check();
}

#[test]
fn director_that_does_not_reach_the_gateway_gives_way_to_the_one_that_does() {
    let Some(lab) = Lab::new(3) else { return };
    let director =
        |host, priority| lab.program(host, &["--address", VIP, "--priority", priority, "--ping", "10.8.0.3"]);
    let directors = [director(1, "150"), director(2, "100")];
    let watch = watch(&lab);
    eventually("host 1 holds the address", || lab.has(1, VIP));
    lab.cable(1, "down");
    // That its cable is cut is not what it sees: the bridge's end of it is down, not its own.
    eventually("host 1 has let go", || !lab.has(1, VIP));
    eventually("host 2 holds the address", || lab.has(2, VIP));
    assert!(directors[1].log().contains("is MASTER now"));
    lab.cable(1, "up");
    eventually("host 1 holds the address again", || lab.has(1, VIP) && !lab.has(2, VIP));
    let _ = watch.end();
}

#[test]
fn address_that_is_to_be_kept_outlives_the_arbiter() {
    let Some(site) = Site::new(&["--keep"]) else { return };
    site.is_held_by(1);
    site.cluster.signal(0, Signal::STOP);
    throughout(SECOND * 12, "host 1 holds the address", || site.holder() == Some(1));
    assert!(site.directors[0].log().contains("the addresses are kept"), "{}", site.logs());
    site.cluster.signal(0, Signal::CONT);
    eventually("it is found", || site.directors[0].log().contains("the arbiter answers again"));
    throughout(SECOND * 3, "host 1 holds the address", || site.holder() == Some(1));
    site.check();
}
