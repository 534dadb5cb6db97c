//! Giving up the rights of root.
//!
//! The kernel keeps identities and capabilities for each thread, and new threads have those of the
//! one that starts them. So this must be done before there are any others.

use std::fs;
use std::io;

use l4_proxy::users::Names;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Becomes `user`, a name or number, with an optional `:group`, and keeps only the capabilities that a
/// director uses.
///
/// # Errors
/// There is no such user, or this one may not become it.
pub(crate) fn become_user(user: &str) -> Result<(), String> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let read = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mut names = Names::default();
    let found = find_user(&read("/etc/passwd")?, name)
        .or_else(|| names.look_up("passwd", name).and_then(|line| find_user(&line, name)));
    let (uid, own_group) = found.ok_or(format!("there is no user \"{name}\""))?;
    let gid = match group {
        None => own_group.ok_or(format!("user {name} has no group: say {name}:GROUP"))?,
        Some(group) => {
            let found = find_group(&read("/etc/group")?, group)
                .or_else(|| names.look_up("group", group).and_then(|line| find_group(&line, group)));
            found.ok_or(format!("there is no group \"{group}\""))?
        }
    };
    // One who took over from itself is already.
    if rustix::process::geteuid().as_raw() == uid && rustix::process::getegid().as_raw() == gid {
        return restrict().map_err(|error| format!("cannot give up rights: {error}"));
    }
    set(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|error| format!("cannot become {user}: {error}"))
}

fn set(uid: Uid, gid: Gid) -> io::Result<()> {
    set_keep_capabilities(true)?;
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    restrict()?;
    Ok(set_keep_capabilities(false)?)
}

/// Keeps the capabilities that a director uses, and nothing that could win others.
fn restrict() -> io::Result<()> {
    // Raw sockets and addresses are VRRP's too, and so is a thread that load cannot make late.
    let wanted = USED.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    // Some of them may not be there to be kept.
    let kept = wanted & rustix::thread::capabilities(None)?.permitted;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    // No program that is started from here can win anything back.
    set_no_new_privs(true)?;
    Ok(())
}

/// Lets the next program that this thread starts have what this one has, where it runs as somebody else than
/// root: the new version of itself. What other threads start has nothing, unless the process was given ambient
/// capabilities.
pub(crate) fn bequeath() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = sets.permitted;
    let held = sets.permitted;
    set_capabilities(None, sets)?;
    for capability in USED.into_iter().filter(|capability| held.contains(*capability)) {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// What a director uses.
const USED: [CapabilitySet; 4] = [
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::NET_ADMIN,
    CapabilitySet::NET_RAW,
    CapabilitySet::SYS_NICE,
];

/// The numbers of a user and of its group, from the text of `/etc/passwd`.
fn find_user(passwd: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    for entry in entries {
        if let [user, _, uid, gid, ..] = entry[..]
            && (user == name || uid == name)
        {
            return Some((uid.parse().ok()?, gid.parse().ok()));
        }
    }
    // A number need not have a name.
    name.parse().ok().map(|uid| (uid, None))
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    let entries = groups.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?, parts.nth(1)?))
    });
    let found = entries.into_iter().find(|(group, _)| *group == name).map(|(_, gid)| gid);
    found.unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nlvs:x:998:997::/:/usr/sbin/nologin\nbroken\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find_user(PASSWD, "lvs"), Some((998, Some(997))));
        assert_eq!(find_user(PASSWD, "998"), Some((998, Some(997))));
        assert_eq!(find_user(PASSWD, "4000"), Some((4000, None)));
        assert_eq!(find_user(PASSWD, "lv"), None);
    }

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(find_group("root:x:0:\nlvs:x:997:a,b\n", "lvs"), Some(997));
        assert_eq!(find_group("root:x:0:\n", "997"), Some(997));
        assert_eq!(find_group("root:x:0:\n", "lvs"), None);
    }
}
