//! What systemd gives to a service and wants to know of it: sockets, and its state.
//!
//! Without systemd there is nothing to take and nobody to tell, and nothing happens.

use std::os::fd::OwnedFd;

use l4_proxy::inherit::Inherited;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::debug;

/// The sockets of socket activation (`LISTEN_FDS`).
///
/// # Errors
/// There is one that a director can do nothing with.
pub(crate) fn sockets() -> Result<Inherited, String> {
    let mut given = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..given.len() {
        let socket = match given.take_tcp_listener(index) {
            Ok(listener) => listener.map(OwnedFd::from),
            Err(_) => given
                .take_udp_socket(index)
                .map_err(|_| format!("socket {index} of LISTEN_FDS is neither for TCP nor for UDP"))?
                .map(OwnedFd::from),
        };
        if let Some(socket) = socket {
            inherited.add(socket).map_err(|error| format!("socket {index} of LISTEN_FDS: {error}"))?;
        }
    }
    Ok(inherited)
}

/// The service serves, and this process is it.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id()), NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] follows in any case.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The service drains and will end.
pub(crate) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "cannot tell the service manager");
    }
}
