//! The director, in a process of its own, which answers each line of its input with what it holds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use l4_proxy::daemon::{Daemon, Options};
use l4_proxy::probe::Schedule;
use lvs_core::Config;

use crate::counting;

/// What a director holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) connections: usize,
    pub(crate) flows: usize,
    /// Without those of pipes.
    pub(crate) descriptors: usize,
    pub(crate) pipes: usize,
    pub(crate) tasks: usize,
    pub(crate) heap: isize,
}

/// A director that runs.
pub(crate) struct Director {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    control: String,
}

/// Is the director until its input ends. What it has is said on its output.
pub(crate) fn run(control: &Path, connections_max: usize) {
    // Patient, since a machine that is busy with all of this is slow to answer.
    let probes = Some(Schedule { interval: Duration::from_secs(1), timeout: Duration::from_secs(5) });
    let options = Options {
        workers: 2,
        probes,
        connections_max,
        control: Some(control.to_owned()),
        ..Options::default()
    };
    let daemon = Daemon::start(options, Config::default()).expect("it starts");
    let mut output = std::io::stdout().lock();
    let mut line = String::new();
    loop {
        let (connections, flows) = (daemon.connections().count(), daemon.flows().count());
        let (descriptors, pipes) = descriptors();
        let (tasks, heap) = (daemon.tasks(), counting::in_use());
        write!(output, "{connections} {flows} {descriptors} {pipes} {tasks} {heap}")
            .expect("somebody listens");
        if line.trim() == "blocks" {
            for (size, count) in counting::blocks() {
                write!(output, " {size} {count}").expect("somebody listens");
            }
        }
        writeln!(output).expect("somebody listens");
        output.flush().expect("somebody listens");
        line.clear();
        if std::io::stdin().read_line(&mut line).expect("its input") == 0 {
            return;
        }
    }
}

/// How many descriptors there are, without those of pipes, and how many pipes.
fn descriptors() -> (usize, usize) {
    let links = std::fs::read_dir("/proc/self/fd").expect("there is /proc").flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let (pipes, others): (Vec<_>, Vec<_>) =
        targets.partition(|target| target.to_string_lossy().starts_with("pipe:"));
    (others.len(), pipes.len() / 2)
}

impl Director {
    pub(crate) fn start(control: &Path, connections_max: usize) -> Director {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("be-director").arg(control).arg(connections_max.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut director = Director { child, input, output, control: control.display().to_string() };
        director.read();
        director
    }

    pub(crate) fn held(&mut self) -> Held {
        writeln!(self.input, "?").expect("it runs");
        self.read().0
    }

    /// How many blocks of memory of about which size it has.
    pub(crate) fn blocks(&mut self) -> BTreeMap<usize, isize> {
        writeln!(self.input, "blocks").expect("it runs");
        self.read().1
    }

    fn read(&mut self) -> (Held, BTreeMap<usize, isize>) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it runs");
        let numbers: Vec<isize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [connections, flows, descriptors, pipes, tasks, heap, ref blocks @ ..] = numbers[..] else {
            panic!("the director is gone: {line:?}");
        };
        let [connections, flows, descriptors, pipes, tasks] =
            [connections, flows, descriptors, pipes, tasks].map(isize::cast_unsigned);
        let blocks = blocks.chunks_exact(2).map(|block| (block[0].cast_unsigned(), block[1])).collect();
        (Held { connections, flows, descriptors, pipes, tasks, heap }, blocks)
    }

    /// Says something in the words of ipvsadm.
    pub(crate) fn ipvsadm(&self, words: &str, input: &str) {
        let words = words.split(' ').map(str::to_owned).collect();
        let output = lvsadm::client::run("ipvsadm", words, Some(self.control.clone()), input.as_bytes());
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
