//! Programs that a configuration names: checks and notifications.
//!
//! No shell is involved: the words of the command are the program and its arguments. A program
//! runs in a process group of its own, as the user it is meant for, with nothing to read, and ends
//! in time: SIGTERM first, SIGKILL two seconds later, both to the whole group.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use crate::keepalived::model::{Global, Script, User};

/// Whom programs run as that name nobody, and how careful we are with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    user: Option<User>,
    security: bool,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It had to be ended.
    TimedOut,
}

impl Account {
    /// As `global_defs` says: `script_user`, or `keepalived_script` if there is one.
    pub fn of(global: &Global) -> Account {
        Account::new(global.script_user.clone(), global.script_security)
    }

    /// Of this user, or `keepalived_script` if there is one; careful with what root runs, or not.
    pub(crate) fn new(user: Option<User>, security: bool) -> Account {
        let usual = || User { user: USUAL.to_owned(), group: None };
        Account { user: user.or_else(|| ids(&usual()).is_ok().then(usual)), security }
    }

    /// Whom a program is to run as, if not as this process does: only root can choose.
    fn identity(&self, script: &Script) -> io::Result<Option<(u32, u32)>> {
        let user = script.user.as_ref().or(self.user.as_ref());
        user.filter(|_| rustix::process::geteuid().is_root()).map(ids).transpose()
    }

    fn secure(&self, identity: Option<(u32, u32)>, path: &Path) -> io::Result<()> {
        let is_root = identity.map_or_else(|| rustix::process::geteuid().is_root(), |(uid, _)| uid == 0);
        if self.security && is_root { secure(path) } else { Ok(()) }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It is not there, cannot be run, its user does not exist, or it is not safe to run as root.
pub async fn run(script: &Script, account: &Account, patience: Duration) -> io::Result<Ended> {
    let path = find(&script.words[0])?;
    let mut command = Command::new(&path);
    command.args(&script.words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let identity = account.identity(script)?;
    if let Some((uid, gid)) = identity {
        command.uid(uid).gid(gid);
    }
    account.secure(identity, &path)?;
    let mut child = command.spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Ok(status) = timeout(patience, child.wait()).await {
        let status = status?;
        return Ok(match status.code() {
            Some(code) => Ended::Exit(code),
            None => Ended::Signal(status.signal().unwrap_or_default()),
        });
    }
    let end = |signal| group.map(|group| kill_process_group(group, signal));
    // An error means that it has just ended by itself.
    let _ = end(Signal::TERM);
    let ended = timeout(GRACE, child.wait()).await;
    let _ = end(Signal::KILL);
    if ended.is_err() {
        child.wait().await?;
    }
    Ok(Ended::TimedOut)
}

/// Looks whether a program could be run now, without running it. Whether there is its user is another
/// [question](know).
///
/// # Errors
/// It is not there, cannot be run, or it is not safe to run as root.
pub fn look(script: &Script, account: &Account) -> io::Result<()> {
    let path = find(&script.words[0])?;
    let status = fs::metadata(&path)?;
    if !status.is_file() || status.mode() & 0o111 == 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no program"));
    }
    account.identity(script).map_or(Ok(()), |identity| account.secure(identity, &path))
}

/// Looks whether the files of this machine have such a user, and such a group.
///
/// # Errors
/// They have not, be it that a directory service has, or they cannot be read.
pub fn know(user: &User) -> io::Result<()> {
    ids(user).map(drop)
}

/// Looks a program up in `PATH` unless it is named with its folder.
fn find(program: &str) -> io::Result<PathBuf> {
    let path = Path::new(program);
    if program.contains('/') {
        return Ok(path.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found in PATH"))
}

/// Numbers of a user and a group.
fn ids(user: &User) -> io::Result<(u32, u32)> {
    let unknown = |what: &str, name: &str, file: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} {name} in {file}"))
    };
    let passwd = fs::read_to_string(USERS)?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entry.filter(|entry| entry.len() > 3).find(|entry| entry[0] == user.user);
    let (uid, own_group) = match (&entry, user.user.parse()) {
        (Some(entry), _) => (entry[2].parse().ok(), entry[3].parse().ok()),
        (None, Ok(number)) => (Some(number), Some(number)),
        (None, Err(_)) => (None, None),
    };
    let uid = uid.ok_or_else(|| unknown("user", &user.user, USERS))?;
    let gid = match &user.group {
        None => own_group,
        Some(group) => {
            let groups = fs::read_to_string(GROUPS)?;
            let entry = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let entry = entry.filter(|entry| entry.len() > 2).find(|entry| entry[0] == group);
            entry.and_then(|entry| entry[2].parse().ok()).or_else(|| group.parse().ok())
        }
    };
    let group = user.group.as_deref().unwrap_or(&user.user);
    Ok((uid, gid.ok_or_else(|| unknown("group", group, GROUPS))?))
}

/// Refuses a program that somebody other than root could change, and says which part of its path
/// lets them.
fn secure(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    for part in path.ancestors() {
        let status = fs::metadata(part)?;
        let written_by_others = status.mode() & 0o022 != 0;
        // A folder with the sticky bit lets nobody replace what is another's.
        let sticky = status.is_dir() && status.mode() & 0o1000 != 0;
        if status.uid() != 0 || (written_by_others && !sticky) {
            let message = format!("not safe to run as root: others than root can change {}", part.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
    }
    Ok(())
}

/// Whom keepalived runs scripts as if the user exists.
const USUAL: &str = "keepalived_script";

const USERS: &str = "/etc/passwd";

const GROUPS: &str = "/etc/group";

/// Where programs are if the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
