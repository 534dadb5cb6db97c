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
    /// A place that a connection takes up.
    type Place: Send;

    /// What is served, for the log.
    fn name(&self) -> impl Display;

    /// The bound that leaves no room for one more connection, if one does.
    fn full(&self) -> Option<usize>;

    /// Takes a place, or says which bound leaves none.
    fn try_place(&self) -> Result<Self::Place, usize>;

    /// Takes a place, whatever the bounds.
    fn place(&self) -> Self::Place;

    /// Takes in a connection from `peer`; to `own`, if all of the listener's are to one address.
    fn take_in(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>, place: Self::Place);
}

/// Whose the clients are that wait in a listener's queue when nobody accepts here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Ours alone: the queue would be reset with the listener.
    Own,
    /// Another process has the listener too, and takes in whom we have no room for.
    Shared,
}

/// Accepts connections until `shutdown` is done; then also those that the kernel had accepted by then.
///
/// Where there is no room it stops accepting until there is: clients wait in the listener's queue. When
/// the process runs out of descriptors it pauses likewise.
pub(crate) async fn accept(
    reception: &impl Reception,
    listener: TcpListener,
    shutdown: impl Future<Output = Queue>,
) {
    tokio::pin!(shutdown);
    // On a listener for one address its connections need not be asked for theirs.
    let own = listener.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    let say_full = |max: usize| warn!(service = %reception.name(), max, "no room for more connections");
    let (mut said_full, mut said_error) = (Rarely::default(), Rarely::default());
    let queue = loop {
        if let Some(max) = reception.full() {
            said_full.say(|| say_full(max));
            tokio::select! {
                queue = &mut shutdown => break queue,
                () = sleep(PAUSE) => continue,
            }
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            queue = &mut shutdown => break queue,
        };
        match accepted {
            Ok((client, peer)) => {
                // The look for room may have been long ago: other workers have taken clients in since.
                let (place, ended) = match reception.try_place() {
                    Ok(place) => (place, None),
                    Err(max) => {
                        said_full.say(|| say_full(max));
                        until_room(reception, &mut shutdown).await
                    }
                };
                reception.take_in(client, peer, own, place);
                if let Some(queue) = ended {
                    break queue;
                }
            }
            Err(error) if listen::is_of_one_connection(&error) => {}
            Err(error) => {
                said_error.say(|| warn!(service = %reception.name(), %error, "cannot accept"));
                sleep(PAUSE).await;
            }
        }
    };
    let mut waiting = listen::queued(listener);
    loop {
        let place = match queue {
            Queue::Own => reception.place(),
            Queue::Shared => match reception.try_place() {
                Ok(place) => place,
                Err(_) => break,
            },
        };
        let Some((client, peer)) = waiting.next() else { break };
        reception.take_in(client, peer, own, place);
    }
}

/// Waits for a place, or until no more are to be accepted: then the one who is here already is the last.
async fn until_room<R: Reception>(
    reception: &R,
    mut shutdown: impl Future<Output = Queue> + Unpin,
) -> (R::Place, Option<Queue>) {
    loop {
        tokio::select! {
            queue = &mut shutdown => return (reception.place(), Some(queue)),
            () = sleep(PAUSE) => {}
        }
        if let Ok(place) = reception.try_place() {
            return (place, None);
        }
    }
}

/// What keeps from accepting: descriptors and room come and go many times a second.
#[derive(Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    fn say(&mut self, say: impl FnOnce()) {
        if self.0.is_none_or(|said| said.elapsed() >= UNSAID) {
            say();
            self.0 = Some(Instant::now());
        }
    }
}

/// How long what keeps from accepting is not said again.
const UNSAID: Duration = Duration::from_secs(10);

/// How long accepting pauses when there is no room.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::ready;

    use super::*;

    /// Has room for two, with those of other workers.
    #[derive(Default)]
    struct Small {
        taken: RefCell<Vec<TcpStream>>,
        others: Cell<usize>,
    }

    impl Reception for Small {
        type Place = ();

        fn name(&self) -> impl Display {
            "small"
        }

        fn full(&self) -> Option<usize> {
            (self.taken.borrow().len() + self.others.get() >= 2).then_some(2)
        }

        fn try_place(&self) -> Result<(), usize> {
            self.full().map_or(Ok(()), Err)
        }

        fn place(&self) {}

        fn take_in(&self, client: TcpStream, _: SocketAddr, _: Option<SocketAddr>, (): ()) {
            self.taken.borrow_mut().push(client);
        }
    }

    /// Five wait when accepting ends; returns how many are taken in, and how many wait on.
    async fn taken(queue: Queue) -> (usize, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let listener = listener.into_std().expect("a listener");
        let other = listener.try_clone().expect("a descriptor");
        let _clients: Vec<_> =
            (0..5).map(|_| std::net::TcpStream::connect(address).expect("it listens")).collect();
        let small = Small::default();
        let listener = TcpListener::from_std(listener).expect("a listener");
        accept(&small, listener, ready(queue)).await;
        let left = std::iter::from_fn(|| other.accept().ok()).count();
        (small.taken.into_inner().len(), left)
    }

    #[tokio::test]
    async fn whoever_waits_is_taken_in_at_the_end_unless_another_process_has_room() {
        assert_eq!(taken(Queue::Own).await, (5, 0));
        assert_eq!(taken(Queue::Shared).await, (2, 3));
    }

    #[tokio::test]
    async fn client_for_whom_there_was_room_before_others_came_waits_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let small = Small::default();
        let taken = || small.taken.borrow().len();
        let outside = async {
            // By now it waits for a client.
            sleep(PAUSE).await;
            small.others.set(2);
            let _client = TcpStream::connect(address).await.expect("it listens");
            sleep(4 * PAUSE).await;
            assert_eq!(taken(), 0, "two are there already");
            small.others.set(1);
            sleep(4 * PAUSE).await;
            assert_eq!(taken(), 1);
            // Whoever has been accepted when no more are to be is not left alone.
            small.others.set(0);
            sleep(4 * PAUSE).await;
            small.others.set(2);
            let _client = TcpStream::connect(address).await.expect("it listens");
            sleep(4 * PAUSE).await;
            assert_eq!(taken(), 1);
            Queue::Shared
        };
        accept(&small, listener, outside).await;
        assert_eq!(taken(), 2);
    }
}
