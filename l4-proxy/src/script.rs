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
use crate::users::Names;

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

/// Finds a user and a group by whatever this machine asks for names. One that its files have stays as it is, one
/// that they have not is given by numbers, so that nobody is asked again when a program is run.
///
/// # Errors
/// There is none, or the files cannot be read.
pub fn know(user: &User, names: &mut Names) -> io::Result<User> {
    let Err(error) = ids(user) else { return Ok(user.clone()) };
    // Nobody else could run anything as somebody else.
    if !rustix::process::geteuid().is_root() {
        let message = format!("{error} in the files of this machine; only root asks further");
        return Err(io::Error::new(error.kind(), message));
    }
    let mut with_others = |file: &str, database: &'static str, name: &str| -> io::Result<String> {
        let text = fs::read_to_string(file)?;
        let is_known = name.parse::<u32>().is_ok() || entry(&text, name).is_some();
        let other = if is_known { None } else { names.look_up(database, name) };
        Ok(text + "\n" + &other.unwrap_or_default())
    };
    let passwd = with_others(USERS, "passwd", &user.user)?;
    let groups =
        user.group.as_ref().map_or(Ok(String::new()), |group| with_others(GROUPS, "group", group))?;
    let (uid, gid) = ids_in(user, &passwd, &groups)?;
    Ok(User { user: uid.to_string(), group: Some(gid.to_string()) })
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

/// Numbers of a user and a group, by the files of this machine.
fn ids(user: &User) -> io::Result<(u32, u32)> {
    let groups = user.group.as_ref().map_or(Ok(String::new()), |_| fs::read_to_string(GROUPS))?;
    ids_in(user, &fs::read_to_string(USERS)?, &groups)
}

fn ids_in(user: &User, passwd: &str, groups: &str) -> io::Result<(u32, u32)> {
    let unknown = |what: &str, name: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} {name}"))
    };
    let (uid, own_group) = match (entry(passwd, &user.user).as_deref(), user.user.parse()) {
        (Some([_, _, uid, gid, ..]), _) => (uid.parse().ok(), gid.parse().ok()),
        (_, Ok(number)) => (Some(number), Some(number)),
        (_, Err(_)) => (None, None),
    };
    let uid = uid.ok_or_else(|| unknown("user", &user.user))?;
    let gid = match &user.group {
        None => own_group,
        Some(group) => match entry(groups, group).as_deref() {
            Some([_, _, gid, ..]) => gid.parse().ok(),
            _ => group.parse().ok(),
        },
    };
    let group = user.group.as_deref().unwrap_or(&user.user);
    Ok((uid, gid.ok_or_else(|| unknown("group", group))?))
}

/// What a file of users or groups says of a name, field by field.
fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| entry[0] == name)
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
