//! Who has an address, looked at all the time.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::hosts::Hosts;

/// Looks every ten milliseconds which of two hosts have an address, until it is told to stop.
pub struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Whether each of them had the address.
    pub has: [bool; 2],
}

impl Watch {
    /// Begins to look.
    pub fn new(hosts: &Hosts, both: [usize; 2], address: Ipv4Addr) -> Watch {
        // A file of a network namespace stays one of that namespace, whoever reads it.
        let open = || File::open("/proc/thread-self/net/fib_trie").expect("a list of addresses");
        let mut files = both.map(|host| hosts.within(host, open));
        let wanted = format!("-- {address}\n");
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let at = Instant::now();
                let has = files.each_mut().map(|file| {
                    let mut text = String::new();
                    file.rewind().expect("rewound");
                    file.read_to_string(&mut text).expect("read");
                    text.contains(&wanted)
                });
                seen.push(Seen { at, has });
                thread::sleep(INTERVAL.saturating_sub(at.elapsed()));
            }
            seen
        });
        Watch { ends, thread }
    }

    /// All that was seen.
    pub fn end(self) -> Vec<Seen> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("watched")
    }
}

const INTERVAL: Duration = Duration::from_millis(10);
