//! The name of this machine, in lower case as everywhere in nginx.

use std::sync::LazyLock;

/// Returns the name that the machine had when it was first asked for: `$hostname`.
pub(crate) fn hostname() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase());
    &NAME
}
