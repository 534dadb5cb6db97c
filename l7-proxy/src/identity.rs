//! Whom workers act as (`user`): the rights with which files are read and servers connected to.
//!
//! The kernel keeps identities for each thread, and libc is what makes a process of them. So workers, and
//! whatever threads they start, give up the rights of root, as nginx's worker processes do, while the
//! thread that reads configurations, binds addresses and opens logs keeps them, as nginx's master does.
//! It is one process all the same: whoever could run code of his own in it would be root.

use std::fs;
use std::io;

use l4_proxy::users::Names;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// A user with the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's number.
    pub user: u32,
    /// The number of its first group.
    pub group: u32,
    /// The other groups that it is in.
    pub groups: Vec<u32>,
}

/// What a worker keeps of the rights that it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    None,
    /// That to speak with servers from addresses that are not this machine's, which is root's otherwise.
    Transparent,
}

/// What neither `/etc` nor the name service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    User,
    Group,
}

impl Identity {
    /// Finds a user and a group by their names; the group is that of the user's own name if there is no word
    /// of it, as in nginx. What the files do not have the name service is asked for.
    pub(crate) fn find(user: &str, group: Option<&str>) -> Result<Identity, Unknown> {
        let mut names = Names::default();
        let mut read = |path, database, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let is_there = text.lines().any(|line| line.split(':').next() == Some(name));
            let other = if is_there { None } else { names.look_up(database, name) };
            text + "\n" + &other.unwrap_or_default()
        };
        let users = read("/etc/passwd", "passwd", user);
        Identity::find_in(&users, &read("/etc/group", "group", group.unwrap_or(user)), user, group)
    }

    fn find_in(users: &str, groups: &str, user: &str, group: Option<&str>) -> Result<Identity, Unknown> {
        let number = |line: &str| line.split(':').nth(2)?.parse().ok();
        let named = |text: &str, name: &str| {
            let mut lines = text.lines();
            lines.find(|line| line.split(':').next() == Some(name)).and_then(number)
        };
        let members = |line: &&str| {
            line.split(':').nth(3).is_some_and(|names| names.split(',').any(|name| name == user))
        };
        Ok(Identity {
            user: named(users, user).ok_or(Unknown::User)?,
            group: named(groups, group.unwrap_or(user)).ok_or(Unknown::Group)?,
            groups: groups.lines().filter(members).filter_map(number).collect(),
        })
    }

    /// Has this thread act as this user, and those that it starts from now on.
    ///
    /// # Errors
    /// This thread may not.
    pub(crate) fn assume(&self, kept: Rights) -> io::Result<()> {
        set_keep_capabilities(kept == Rights::Transparent)?;
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        let groups: Vec<Gid> = [self.group].iter().chain(&self.groups).copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        if kept == Rights::Transparent {
            let (right, none) = (CapabilitySet::NET_RAW, CapabilitySet::empty());
            let sets = CapabilitySets { effective: right, permitted: right, inheritable: none };
            set_capabilities(None, sets)?;
        }
        Ok(())
    }

    /// Finds out whether workers may act as this user.
    ///
    /// # Errors
    /// They may not.
    pub(crate) fn try_out(&self) -> io::Result<()> {
        let tried = std::thread::scope(|scope| scope.spawn(|| self.assume(Rights::None)).join());
        tried.unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:7::/:/bin/false\n";
    const GROUPS: &str = "root:x:0:\nweb:x:34:\napp:x:50:other,web\nweb2:x:51:webber\n";

    #[test]
    fn user_is_in_the_group_of_its_name_and_in_those_that_list_it() {
        let find = |user, group| Identity::find_in(USERS, GROUPS, user, group);
        let identity = Identity { user: 33, group: 34, groups: vec![50] };
        assert_eq!(find("web", None), Ok(identity.clone()));
        assert_eq!(find("web", Some("root")), Ok(Identity { group: 0, ..identity }));
        assert_eq!(find("nobody", None), Err(Unknown::User));
        assert_eq!(find("web", Some("none")), Err(Unknown::Group));
    }
}
