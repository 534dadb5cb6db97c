//! A connection after both sides have agreed on another protocol, such as WebSocket: bytes.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use l4_proxy::relay::{self, Engine, Progress, Tally, Timeouts};
use lvs_core::Lease;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::stream::{Count, Side, Terms, copy};
use crate::transaction::Transaction;
use crate::upstream::{Pool, Transport};
use crate::variable::Completion;

/// What carries on when the answer with status 101 is out.
///
/// It holds the lease to the end of the tunnel: a chat of an hour is an hour of load.
pub(crate) struct Tunnel {
    lease: Lease,
    pool: Rc<Pool>,
    server: Transport,
    /// What the server has sent behind its head: it belongs to the tunnel already.
    answered: Bytes,
    /// How long it may be silent.
    idle: Duration,
    progress: Progress,
    /// The request, until its line is written.
    transaction: Option<Box<Transaction>>,
}

impl Tunnel {
    pub(super) fn new(
        lease: Lease,
        pool: Rc<Pool>,
        server: Transport,
        answered: Bytes,
        idle: Duration,
    ) -> Tunnel {
        Tunnel { lease, pool, server, answered, idle, progress: Progress::default(), transaction: None }
    }

    /// Keeps the request that began it, whose line is written at its end.
    pub(crate) fn keep(&mut self, transaction: Option<Box<Transaction>>) {
        self.transaction = transaction;
    }

    /// Carries bytes until both sides have ended; `received` is what the client has sent behind its
    /// head.
    pub(crate) async fn run(mut self: Box<Self>, mut client: Side, received: Bytes) {
        let mut server = match std::mem::replace(&mut self.server, Transport::Gone) {
            Transport::Plain(server) => Side::Plain(server),
            Transport::Tls(server) => Side::Tls(Box::new(TlsStream::Client(*server))),
            Transport::Gone => return,
        };
        let answered = std::mem::take(&mut self.answered);
        let first = async {
            server.write_all(&received).await?;
            server.flush().await?;
            client.write_all(&answered).await?;
            client.flush().await
        };
        if !matches!(timeout(self.idle, first).await, Ok(Ok(()))) {
            return;
        }
        self.lease.count_to_server(received.len() as u64);
        self.lease.count_to_client(answered.len() as u64);
        let half_closed = self.idle.min(HALF_CLOSED_MAX);
        let carried = match (&mut client, &mut server) {
            (Side::Plain(client), Side::Plain(server)) => {
                let timeouts = Timeouts { idle: self.idle, half_closed };
                relay::relay(client, server, Engine::Auto, &timeouts, &*self).await;
                self.progress.bytes_to_client()
            }
            _ => {
                let terms = Terms { upload: 0, download: 0, idle: self.idle, half_closed };
                let (up, down) = (Count::default(), Count::default());
                copy(&mut client, &mut server, terms, &up, &down).await;
                self.lease.count_to_server(up.bytes.get());
                self.lease.count_to_client(down.bytes.get());
                down.bytes.get()
            }
        };
        let to_client = answered.len() as u64 + carried;
        if let Some(mut transaction) = self.transaction.take() {
            transaction.settle(to_client, Completion::Whole, None);
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.pool.call();
    }
}

impl Tally for Tunnel {
    fn to_server(&self, bytes: u64) {
        self.lease.count_to_server(bytes);
    }

    fn to_client(&self, bytes: u64) {
        self.lease.count_to_client(bytes);
    }

    fn half_closed(&self) {
        self.lease.closing();
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// How long one side may go on after the other has ended.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);
