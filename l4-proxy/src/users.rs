//! Users and groups that the machine's files do not have: those of a directory service, of systemd's
//! `DynamicUser=`, of whatever else the name service switch asks.
//!
//! Only libc can ask it, by modules that it loads into the process and that may wait for a network. So the
//! program that comes with libc for that, getent(1), is asked, while a configuration is read, and not for long.

use std::collections::HashMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Looks names up for one read of a configuration: each is asked for once, and the waiting is bounded for all of
/// them together.
///
/// What this process has found before holds where it is not found now. A directory that is down while a
/// configuration is read again would change whom checks run as, and take their servers down.
#[derive(Debug)]
pub struct Names {
    /// How long there may be waited yet.
    patience: Duration,
    answers: HashMap<Key, Option<String>>,
}

/// A database and a name in it.
type Key = (&'static str, String);

impl Default for Names {
    fn default() -> Names {
        Names { patience: PATIENCE, answers: HashMap::new() }
    }
}

impl Names {
    /// Returns the line of `passwd` or `group` for this name, with the name as it was asked for: a directory may
    /// write it in another way. Nothing if there is none, or none in time.
    pub fn look_up(&mut self, database: &'static str, name: &str) -> Option<String> {
        let mut command = Command::new("getent");
        command.args([database, name]);
        self.look_up_by(command, database, name)
    }

    fn look_up_by(&mut self, command: Command, database: &'static str, name: &str) -> Option<String> {
        if name.starts_with('-') {
            return None;
        }
        let key = (database, name.to_owned());
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        let began = Instant::now();
        let line = if self.patience.is_zero() { None } else { ask(command, self.patience) };
        self.patience = self.patience.saturating_sub(began.elapsed());
        let fields = line.as_deref().and_then(|line| line.lines().next()?.split_once(':'));
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match fields {
            Some((_, rest)) => {
                let line = format!("{name}:{rest}");
                found.insert(key.clone(), line.clone());
                Some(line)
            }
            None => found.get(&key).cloned(),
        };
        self.answers.insert(key, answer.clone());
        answer
    }
}

/// What a program says that ends well, and in time.
fn ask(mut command: Command, patience: Duration) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + patience;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => thread::sleep(PAUSE),
            _ => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let pipe = child.stdout?;
    // All of it is in the pipe: a longer one would have kept the program from ending. The end of the pipe may
    // be long in coming, if others have it, too.
    let bytes = rustix::io::ioctl_fionread(&pipe).ok()?;
    let mut line = String::new();
    pipe.take(bytes).read_to_string(&mut line).ok().filter(|_| ended.success())?;
    Some(line)
}

/// What was found in the life of this process.
static FOUND: LazyLock<Mutex<HashMap<Key, String>>> = LazyLock::new(Mutex::default);

/// Longest wait for all answers together.
const PATIENCE: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(names: &mut Names, script: &str, name: &str) -> Option<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        names.look_up_by(command, "passwd", name)
    }

    #[test]
    fn name_that_was_found_stays_so_while_the_directory_is_down() {
        let line = Some("of-ldap:*:42:43::/:/bin/sh".to_owned());
        let found = look_up(&mut Names::default(), "echo 'DOMAIN\\Of-LDAP:*:42:43::/:/bin/sh'", "of-ldap");
        assert_eq!(found, line);
        assert_eq!(look_up(&mut Names::default(), "exit 2", "of-ldap"), line);
        assert_eq!(look_up(&mut Names::default(), "exit 2", "another"), None);
    }

    #[test]
    fn all_names_together_wait_no_longer_than_one_and_each_is_asked_for_once() {
        let began = Instant::now();
        let mut names = Names { patience: PATIENCE / 10, ..Names::default() };
        for name in ["a1", "a2", "a3", "a1", "a2", "a3"] {
            assert_eq!(look_up(&mut names, "exec sleep 60", name), None);
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }

    #[test]
    fn answer_is_not_waited_for_longer_than_the_program_that_gives_it() {
        let began = Instant::now();
        let found = look_up(&mut Names::default(), "sleep 20 & echo b:x:1:2", "b");
        assert_eq!(found.as_deref(), Some("b:x:1:2"));
        assert!(began.elapsed() < 5 * PATIENCE, "{:?}", began.elapsed());
    }
}
