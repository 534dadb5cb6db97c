//! Processes that have to be there (`vrrp_track_process`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Found;
use crate::keepalived::model::{Arguments, TrackProcess};

/// Looks again and again whether there are as many as there should be.
pub(super) async fn watch(process: &TrackProcess, found: &watch::Sender<Option<Found>>) {
    let mut steady = Steady::new(process);
    loop {
        let now = judge(count(process), process);
        if steady.take(now == Found::Up, Instant::now()) {
            found.send_if_modified(|known| known.replace(now.clone()) != Some(now));
        }
        sleep(PAUSE).await;
    }
}

fn judge(count: usize, process: &TrackProcess) -> Found {
    if count < process.quorum as usize {
        Found::Down(format!("{count} of {} processes are there", process.quorum))
    } else if count > process.quorum_max as usize {
        Found::Down(format!("{count} processes are there, and {} may be", process.quorum_max))
    } else {
        Found::Up
    }
}

/// What is found counts once it has been so for a while.
struct Steady {
    up: Option<bool>,
    /// Since when it has been otherwise.
    turned: Option<Instant>,
    up_after: Duration,
    down_after: Duration,
}

impl Steady {
    fn new(process: &TrackProcess) -> Steady {
        Steady { up: None, turned: None, up_after: process.up_after, down_after: process.down_after }
    }

    /// Takes in what was found; says whether it counts.
    fn take(&mut self, up: bool, now: Instant) -> bool {
        if self.up.is_none_or(|known| known == up) {
            (self.up, self.turned) = (Some(up), None);
            return true;
        }
        let since = *self.turned.get_or_insert(now);
        let enough = if up { self.up_after } else { self.down_after };
        let counts = now.duration_since(since) >= enough;
        if counts {
            (self.up, self.turned) = (Some(up), None);
        }
        counts
    }
}

fn count(process: &TrackProcess) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_process =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    folders.filter(is_process).filter(|folder| is_meant(folder, process)).count()
}

/// Whether the process of a folder of `/proc` has the name, and the arguments where they are compared.
fn is_meant(folder: &Path, process: &TrackProcess) -> bool {
    let Some((name, arguments)) = process.command.split_first() else { return false };
    if !process.full_command && arguments.is_empty() && process.arguments == Arguments::AsGiven {
        // The kernel keeps 15 bytes.
        let name = name.rsplit('/').next().unwrap_or_default();
        return kernel_name(folder).is_some_and(|known| known == name.as_bytes()[..name.len().min(15)]);
    }
    let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let mut words = line.strip_suffix(&[0]).unwrap_or(&line).split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let base = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let same = if process.full_command {
        program == name.as_bytes()
    } else {
        base(program) == base(name.as_bytes())
    };
    same && are_meant(&words.collect::<Vec<_>>(), arguments, process.arguments)
}

/// What the kernel calls a process, if it has not ended: nobody may have waited for it yet.
fn kernel_name(folder: &Path) -> Option<Vec<u8>> {
    let stat = std::fs::read(folder.join("stat")).ok()?;
    // `PID (NAME) STATE …`, and the name may contain brackets.
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let ended = stat.get(end + 2) == Some(&b'Z');
    (!ended).then(|| stat.get(begin..end).map(<[u8]>::to_vec))?
}

fn are_meant(found: &[&[u8]], wanted: &[String], compared: Arguments) -> bool {
    let Some((last, first)) = wanted.split_last() else {
        return compared != Arguments::Exact || found.is_empty();
    };
    let Some(at_last) = found.get(first.len()) else { return false };
    let same_last = match compared {
        Arguments::Initial => at_last.starts_with(last.as_bytes()),
        Arguments::Partial => *at_last == last.as_bytes(),
        Arguments::AsGiven | Arguments::Exact => *at_last == last.as_bytes() && found.len() == wanted.len(),
    };
    same_last && found.iter().zip(first).all(|(found, wanted)| *found == wanted.as_bytes())
}

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keepalived::model::Weight;

    fn process(words: &[&str]) -> TrackProcess {
        TrackProcess {
            name: "p".to_owned(),
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            weight: Weight::default(),
            arguments: Arguments::AsGiven,
            quorum: 1,
            quorum_max: u32::MAX,
            up_after: Duration::ZERO,
            down_after: Duration::ZERO,
            full_command: false,
        }
    }

    #[test]
    fn processes_are_counted_by_name_and_arguments() {
        let mut child = std::process::Command::new("sleep").arg("61.25").spawn().expect("sleep");
        let folder = PathBuf::from(format!("/proc/{}", child.id()));
        // Until it has become another program, the new process looks like this one.
        let began = std::time::Instant::now();
        while !is_meant(&folder, &process(&["sleep"])) || !is_meant(&folder, &process(&["sleep", "61.25"])) {
            assert!(began.elapsed() < Duration::from_secs(10), "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(is_meant(&folder, &process(&["/bin/sleep", "61.25"])));
        assert!(!is_meant(&folder, &process(&["sleep", "61"])));
        assert!(!is_meant(&folder, &process(&["sleeping"])));
        let initial = TrackProcess { arguments: Arguments::Initial, ..process(&["sleep", "61"]) };
        assert!(is_meant(&folder, &initial));
        let any = TrackProcess { arguments: Arguments::Partial, ..process(&["sleep"]) };
        assert!(is_meant(&folder, &any));
        let none = TrackProcess { arguments: Arguments::Exact, ..process(&["sleep"]) };
        assert!(!is_meant(&folder, &none), "it has one");
        let path = TrackProcess { full_command: true, ..process(&["sleep"]) };
        assert!(is_meant(&folder, &path), "no argument is asked for");
        assert!(count(&process(&["sleep", "61.25"])) >= 1);
        child.kill().expect("it runs");
        lab::eventually("a process that has ended counts no more", || {
            !is_meant(&folder, &process(&["sleep"]))
        });
        child.wait().expect("it ends");
    }

    #[test]
    fn arguments_are_compared_whole_in_part_or_by_their_beginning() {
        let check = |found: &[&str], wanted: &[&str], compared, expected: bool| {
            let bytes: Vec<&[u8]> = found.iter().map(|word| word.as_bytes()).collect();
            let words: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(are_meant(&bytes, &words, compared), expected, "{found:?} {wanted:?} {compared:?}");
        };
        for (compared, same, longer, more, any) in [
            (Arguments::AsGiven, true, false, false, true),
            (Arguments::Exact, true, false, false, false),
            (Arguments::Partial, true, false, true, true),
            (Arguments::Initial, true, true, true, true),
        ] {
            check(&["-c", "one.conf"], &["-c", "one.conf"], compared, same);
            check(&["-c", "one.conf.d"], &["-c", "one.conf"], compared, longer);
            check(&["-c", "one.conf", "-v"], &["-c", "one.conf"], compared, more);
            check(&["-c", "two.conf"], &["-c", "one.conf"], compared, false);
            check(&["-c"], &["-c", "one.conf"], compared, false);
            check(&["-cc", "one.conf"], &["-c", "one.conf"], compared, false);
            check(&[], &[], compared, true);
            check(&["-v"], &[], compared, any);
        }
    }

    #[test]
    fn processes_are_neither_fewer_than_the_quorum_nor_more_than_its_maximum() {
        let check = |quorum, quorum_max, up: &[usize]| {
            let process = TrackProcess { quorum, quorum_max, ..process(&["x"]) };
            let found: Vec<usize> = (0..5).filter(|count| judge(*count, &process) == Found::Up).collect();
            assert_eq!(found, up, "{quorum} to {quorum_max}");
        };
        check(1, u32::MAX, &[1, 2, 3, 4]);
        check(2, 3, &[2, 3]);
        check(0, 0, &[0]);
    }

    #[test]
    fn what_is_found_counts_when_it_has_been_so_for_long_enough() {
        let second = Duration::from_secs(1);
        let delayed = TrackProcess { up_after: second, down_after: 2 * second, ..process(&["x"]) };
        let mut steady = Steady::new(&delayed);
        let began = Instant::now();
        let mut take = |at: u32, up| steady.take(up, began + at * second / 2);
        assert!(take(0, true), "the first look decides");
        assert!(!take(1, false));
        assert!(!take(4, false));
        assert!(take(4, true), "it came back");
        assert!(!take(5, false), "and the time begins anew");
        assert!(take(9, false));
        assert!(!take(10, true));
        assert!(take(12, true));
    }
}
