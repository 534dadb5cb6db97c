//! Accepting: from a listener to whoever takes a connection in.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::listen;

/// Takes in what a listener accepts.
pub(crate) trait Reception {
    /// What is served, for the log.
    fn name(&self) -> impl Display;

    /// The bound that leaves no room for one more connection, if one does.
    fn full(&self) -> Option<usize>;

    /// Takes in a connection from `peer`; to `own`, if all of the listener's are to one address.
    fn take_in(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>);
}

/// Accepts connections until `shutdown` is done; then also those that the kernel had accepted by then.
///
/// Where there is no room it stops accepting until there is: clients wait in the listener's queue. When
/// the process runs out of descriptors it pauses likewise.
pub(crate) async fn accept(
    reception: &impl Reception,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    // On a listener for one address its connections need not be asked for theirs.
    let own = listener.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    let mut crowded = false;
    let mut said: Option<Instant> = None;
    loop {
        if let Some(max) = reception.full() {
            if !crowded {
                warn!(service = %reception.name(), max, "no room for more connections");
            }
            crowded = true;
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(PAUSE) => continue,
            }
        }
        crowded = false;
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((client, peer)) => reception.take_in(client, peer, own),
            Err(error) if listen::is_of_one_connection(&error) => {}
            Err(error) => {
                // Descriptors come and go many times a second.
                if said.is_none_or(|said| said.elapsed() >= UNSAID) {
                    warn!(service = %reception.name(), %error, "cannot accept");
                    said = Some(Instant::now());
                }
                sleep(PAUSE).await;
            }
        }
    }
    // What is in the queue would be reset with the listener.
    for (client, peer) in listen::queued(listener) {
        reception.take_in(client, peer, own);
    }
}

/// How long what keeps from accepting is not said again.
const UNSAID: Duration = Duration::from_secs(10);

/// How long accepting pauses when there is no room.
const PAUSE: Duration = Duration::from_millis(50);
