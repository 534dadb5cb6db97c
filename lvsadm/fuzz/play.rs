//! What arbitrary bytes must not break: as a file of rules, and on the control socket.

#![allow(dead_code, reason = "a target plays one of them")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use lvs_core::{Config, Director, Time};
use lvsadm::{CommitError, Connection, Control, Edit, Naming, Timeouts};

/// Reads them as rules: they are refused with their line, or mean the same when they are saved.
pub(crate) fn rules(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match lvsadm::rules::read("file", &text, |_| Ok(())) {
        Ok(rules) => {
            let save =
                |config: &Config| lvsadm::rules::save_full(config, Timeouts::default(), Naming::Numeric);
            let saved = save(&rules.config);
            let again = lvsadm::rules::read("file", &saved, |_| Ok(())).expect(&saved);
            assert_eq!(save(&again.config), saved, "{text}");
        }
        Err(error) => {
            let said = error.to_string();
            let line = said.strip_prefix("file:").and_then(|rest| rest.split(':').next());
            let line: usize = line.and_then(|line| line.parse().ok()).expect(&said);
            assert!((1..=text.split('\n').count()).contains(&line), "{said} in {text:?}");
        }
    }
}

/// Sends them to a control socket: there is an answer, and the table is sound after it. Says whether
/// there was.
pub(crate) fn frames(bytes: &[u8]) -> bool {
    // Half of what the socket holds, so that nobody has to read while this one writes.
    let bytes = &bytes[..bytes.len().min(64 << 10)];
    let rules = "-A -t 192.0.2.1:80 -s rr -p 60\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n-A -f 7\n";
    let director = Director::new();
    director.apply(lvsadm::rules::parse("file", rules).expect("rules")).expect("valid rules");
    let control = Table { director, timeouts: Mutex::default() };
    let (mut here, there) = UnixStream::pair().expect("sockets");
    here.write_all(bytes).expect("room for them");
    here.shutdown(Shutdown::Write).expect("open");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lvsadm::answer(&there, &control);
            // What was not read must not reset the answer.
            let _ = there.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        here.read_to_end(&mut answer).expect("an end");
        control.director.config().check().expect("a sound table");
        answer.starts_with(b"LVSA")
    })
}

/// A table and nothing behind it.
struct Table {
    director: Director,
    timeouts: Mutex<Timeouts>,
}

impl Control for Table {
    fn director(&self) -> &Director {
        &self.director
    }

    fn now(&self) -> Time {
        Time::ZERO
    }

    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        if let Edit::Drain { service, server, deadline } = &edit {
            self.director.drain(service, *server, *deadline)?;
            return Ok(());
        }
        let mut config = self.director.config();
        edit.apply_to(&mut config)?;
        self.director.apply(config)?;
        Ok(())
    }

    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock().expect("whole")
    }

    fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), CommitError> {
        *self.timeouts.lock().expect("whole") = timeouts;
        Ok(())
    }
}
