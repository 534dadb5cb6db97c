//! The listeners of a director's services: one on each worker, bound before anything changes and
//! emptied before they close.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use lvs_core::ServiceKey;
use lvsadm::CommitError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Shared;
use super::administered::relay_timeouts;
use crate::listen;
use crate::proxy::Proxy;

/// A service's listeners, one on each worker.
pub(super) struct Listening {
    pub(super) proxy: Proxy,
    stop: watch::Sender<bool>,
    /// Closed when every worker has stopped; nothing is ever sent.
    stopped: Receiver<()>,
}

impl Shared {
    pub(super) fn open(&self, address: SocketAddr) -> Result<Vec<std::net::TcpListener>, CommitError> {
        listen::group(address, self.workers.count()).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrNotAvailable => {
                    " (the virtual address must be on an interface of this host)"
                }
                _ => "",
            };
            CommitError::Refused(format!("cannot listen on {address}: {error}{hint}"))
        })
    }

    /// Hands each worker its listener.
    pub(super) fn listen(
        &self,
        service: ServiceKey,
        listeners: Vec<std::net::TcpListener>,
        timeouts: lvsadm::Timeouts,
    ) -> Listening {
        let proxy = Proxy::with_connections(
            Arc::clone(&self.director),
            service,
            self.options.settings,
            Arc::clone(&self.connections),
        );
        proxy.set_timeouts(relay_timeouts(timeouts));
        let (stop, stopping) = watch::channel(false);
        let (done, stopped) = channel();
        for (worker, listener) in listeners.into_iter().enumerate() {
            let (proxy, stopping, done) = (proxy.clone(), stopping.clone(), done.clone());
            self.workers.run(worker, move || serve(proxy, listener, stopping, done));
        }
        Listening { proxy, stop, stopped }
    }
}

async fn serve(
    proxy: Proxy,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
    done: Sender<()>,
) {
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            let stopped = async move {
                // An error means that the other end is gone, which stops the listener as well.
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            proxy.serve(listener, stopped).await;
        }
        Err(error) => warn!(service = %proxy.service(), %error, "cannot listen"),
    }
    drop(done);
}

/// Stops accepting on these, and waits until each worker has taken what was in its queue.
pub(super) fn stop(listening: Vec<Listening>) {
    for Listening { stop, .. } in &listening {
        let _ = stop.send(true);
    }
    let until = Instant::now() + STOP_WAIT;
    for Listening { proxy, stopped, .. } in listening {
        // Ends when the last worker has let go of its sender.
        let _ = stopped.recv_timeout(until.saturating_duration_since(Instant::now()));
        info!(service = %proxy.service(), "no longer listening");
    }
}

/// How long a change waits for workers to empty the queue of a listener that goes.
const STOP_WAIT: Duration = Duration::from_secs(2);
