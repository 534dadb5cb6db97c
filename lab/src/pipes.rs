//! A user who has almost as many pipes as the system allows him.

use std::fs;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::process::{Uid, geteuid};
use rustix::thread::set_thread_res_uid;

use crate::claim::Claim;
use crate::patience::wait_for;
use crate::peers::skip;

/// Has work done by another user, of nobody else's, who may have so many more pages of pipes (`pipe-user-pages-soft`):
/// what is beyond that is two pages each. `None`, and said so, where this process is not root or nobody is bounded,
/// or only by more than a test should take.
///
/// One test at a time is a user, whatever process it is in: pipes are counted for all of them together. Threads that the work starts are this user's, too; the rest of this process stays who it is.
pub fn with_pages_of_pipes<T: Send>(user: u32, pages: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    let bound = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok();
    let bound = bound.and_then(|pages| pages.trim().parse().ok()).unwrap_or(0);
    if !geteuid().is_root() || !(1..LARGE_MAX * LARGE / PAGE).contains(&bound) {
        skip("root, or a bound on pipes that can be reached");
        return None;
    }
    let _claim = wait_for("nobody else is this user", || Claim::on(&format!("lab pipes of {user}")));
    let as_user = || {
        let user = Uid::from_raw(user);
        set_thread_res_uid(user, user, user).expect("root may");
        let _held = hold(pages);
        work()
    };
    Some(thread::scope(|scope| scope.spawn(as_user).join()).expect("done"))
}

/// Pipes that leave room for so many pages.
fn hold(pages: usize) -> Vec<Pipe> {
    let mut held: Vec<Pipe> = Vec::new();
    // Most of it in large ones, for the sake of descriptors.
    loop {
        let pipe = pipe();
        if fcntl_setpipe_size(&pipe.0, LARGE).is_err() {
            break;
        }
        held.push(pipe);
        assert!(held.len() < LARGE_MAX, "no end of pipes");
    }
    if pages > 0 {
        assert!(pages < LARGE / PAGE, "less than a large pipe");
        held.pop();
        held.extend((0..(LARGE / PAGE - pages) / USUAL).map(|_| pipe()));
    } else {
        loop {
            let pipe = pipe();
            if fcntl_getpipe_size(&pipe.0).is_ok_and(|size| size < USUAL * PAGE) {
                break;
            }
            held.push(pipe);
        }
    }
    held
}

/// Its two ends.
type Pipe = (OwnedFd, OwnedFd);

fn pipe() -> Pipe {
    pipe_with(PipeFlags::CLOEXEC).expect("a pipe, be it a small one")
}

const PAGE: usize = 4096;

/// What anybody may ask for (`pipe-max-size`).
const LARGE: usize = 1 << 20;

const LARGE_MAX: usize = 256;

/// Pages of a pipe for which nothing was asked.
const USUAL: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::patience::throughout;

    #[test]
    fn user_does_one_work_at_a_time() {
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let number = begun.fetch_add(1, Ordering::SeqCst);
            throughout(Duration::from_millis(100), "the other one waits", || {
                begun.load(Ordering::SeqCst) == number + 1 && ended.load(Ordering::SeqCst) == number
            });
            ended.fetch_add(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| with_pages_of_pipes(54_021, 0, work));
            }
        });
        assert_eq!(begun.into_inner(), ended.into_inner());
    }
}
