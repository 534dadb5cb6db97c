//! What the process may use of the system, where the configuration says it: `worker_rlimit_nofile`,
//! `worker_rlimit_core`, `worker_priority`.
//!
//! They are the program's and not the library's, since they hold for all of a process. As in nginx what the
//! system does not allow is said, and changes nothing else.

use std::fmt::Display;

use l7_proxy::error_log::Errno;
use l7_proxy::model::Process;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use tracing::error;

/// Sets what holds for threads that are started from now on, and cannot be changed once they run.
pub(crate) fn begin(process: &Process) {
    if let Some(priority) = process.priority {
        // The kernel keeps it for each thread; others get it from the one that starts them.
        tell(setpriority_process(None, priority), &format_args!("setpriority({priority})"));
    }
    set(process);
}

/// Sets what a new configuration may change.
pub(crate) fn set(process: &Process) {
    let limit = |resource, name: &str, most: Option<u64>| {
        if let Some(most) = most {
            let new = Rlimit { current: Some(most), maximum: Some(most) };
            tell(setrlimit(resource, new), &format_args!("setrlimit({name}, {most})"));
        }
    };
    limit(Resource::Nofile, "RLIMIT_NOFILE", process.open_files);
    limit(Resource::Core, "RLIMIT_CORE", process.core_size);
}

fn tell(outcome: rustix::io::Result<()>, what: &dyn Display) {
    if let Err(error) = outcome {
        error!("{what} failed ({})", Errno(&error.into()));
    }
}
