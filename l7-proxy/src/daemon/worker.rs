//! What runs on each worker thread: the HTTP proxy's share, its listeners, and a tick per second.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::Notice;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::listen::{Endpoint, Listener};
use crate::embed::{self, Job};
use crate::error_log::Errno;
use crate::identity::Rights;
use crate::model::Identity;
use crate::moment::Moment;
use crate::server::{Proxy, Shared};
use crate::site::Site;
use crate::stream::{self, Door, Inlet};
use crate::unix::Acceptor;

/// What a worker is told. It answers when it has been done.
pub(super) enum Command {
    /// Serve this from now on.
    Switch(Switch, std::sync::mpsc::Sender<()>),
    /// Accept no more, and end connections as they come to an end of their own.
    Rest,
    /// Let go of log files that others have taken the place of.
    LookAtLogs,
    /// Accept at these addresses again.
    Resume(Vec<(Endpoint, Listener, Serves)>),
    /// Accept no more, and end when the last client connection has ended.
    Finish(oneshot::Sender<()>),
}

/// A change of what is served, as one step.
pub(super) struct Switch {
    /// Addresses to stop listening at, before anything else changes.
    pub(super) stop: Vec<Endpoint>,
    /// The HTTP side from now on.
    pub(super) site: Arc<Site>,
    /// Addresses of datagrams that go on, and what serves new clients there.
    pub(super) lead: Vec<(Endpoint, Arc<Door>)>,
    /// Addresses to listen at, after everything else has changed.
    pub(super) start: Vec<(Endpoint, Listener, Serves)>,
    /// After this time connections are cut that are still answered by the configuration before.
    pub(super) cut_after: Option<Duration>,
}

/// Who gets the connections of a listener.
#[derive(Clone)]
pub(super) enum Serves {
    Http,
    Stream(Arc<Door>),
    Datagrams(Arc<Door>),
}

/// Whether this worker also keeps the time of what workers share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Clock,
    None,
}

/// A listener at work, or what takes the program's requests.
struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Where datagrams come in, if they do.
    inlet: Option<Rc<Inlet>>,
}

/// Serves until the commands end.
pub(super) async fn run(
    site: Arc<Site>,
    shared: Shared,
    duty: Duty,
    identity: Option<(Identity, Rights)>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    requests: mpsc::Receiver<Job>,
) {
    if let Some(Err(error)) = identity.map(|(identity, kept)| identity.assume(kept)) {
        error!("cannot become the user ({}): a worker ends", Errno(&error));
        return;
    }
    let director = Arc::clone(&shared.director);
    let proxy = Proxy::with_shared(site, shared);
    let mut listening: HashMap<Endpoint, Vec<Listening>> = HashMap::new();
    let mut from_program = Some(take(&proxy, requests));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = tick.tick() => {
                proxy.tick();
                if duty == Duty::Clock {
                    director.tick(Moment::now().as_time()).iter().for_each(tell);
                }
                continue;
            }
            () = proxy.writers().flush_when_due() => continue,
        };
        match command {
            Some(Command::Switch(switch, done)) => {
                stop(
                    switch.stop.iter().filter_map(|endpoint| listening.remove(endpoint)).flatten().collect(),
                )
                .await;
                proxy.replace(switch.site);
                proxy.writers().look_again();
                if let Some(time) = switch.cut_after {
                    let proxy = proxy.clone();
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(time).await;
                        proxy.cut_left_behind();
                    });
                }
                for (endpoint, door) in switch.lead {
                    let inlets = listening.get(&endpoint).into_iter().flatten();
                    inlets.filter_map(|one| one.inlet.as_ref()).for_each(|inlet| inlet.lead_to(door.clone()));
                }
                start_all(&proxy, switch.start, &mut listening);
                // Nobody waits if the daemon is going.
                let _ = done.send(());
            }
            Some(Command::LookAtLogs) => proxy.writers().look_again(),
            Some(Command::Rest) => {
                stop(listening.drain().flat_map(|(_, listening)| listening).collect()).await;
                proxy.finish();
                proxy.writers().flush();
            }
            Some(Command::Resume(sockets)) => {
                proxy.resume();
                start_all(&proxy, sockets, &mut listening);
            }
            Some(Command::Finish(done)) => {
                let sockets = listening.drain().flat_map(|(_, listening)| listening);
                stop(sockets.chain(from_program.take()).collect()).await;
                proxy.finish();
                let proxy = proxy.clone();
                tokio::task::spawn_local(async move {
                    proxy.finished().await;
                    proxy.writers().flush();
                    let _ = done.send(());
                });
            }
            None => return,
        }
    }
}

fn start_all(
    proxy: &Proxy,
    sockets: Vec<(Endpoint, Listener, Serves)>,
    listening: &mut HashMap<Endpoint, Vec<Listening>>,
) {
    for (endpoint, socket, serves) in sockets {
        match start(proxy, endpoint, socket, serves) {
            Ok(started) => listening.entry(endpoint).or_default().push(started),
            Err(error) => error!("cannot watch a listening socket ({})", Errno(&error)),
        }
    }
}

fn start(proxy: &Proxy, endpoint: Endpoint, socket: Listener, serves: Serves) -> io::Result<Listening> {
    let (stop, stopped) = oneshot::channel();
    // That the sender is gone is as good a reason to stop as its word.
    let stopped = async { stopped.await.unwrap_or_default() };
    let proxy = proxy.clone();
    let (task, inlet) = match (serves, socket) {
        (Serves::Http, Listener::Tcp(socket)) => {
            let acceptor = Acceptor::new(socket, endpoint.addr)?;
            let serving = async move { proxy.serve_all(acceptor, stopped).await };
            (tokio::task::spawn_local(serving), None)
        }
        (Serves::Stream(door), Listener::Tcp(socket)) => {
            let acceptor = Acceptor::new(socket, endpoint.addr)?;
            (tokio::task::spawn_local(stream::serve(proxy, door, acceptor, stopped)), None)
        }
        (Serves::Datagrams(door), Listener::Udp(socket)) => {
            let inlet = Inlet::new(proxy, door, socket)?;
            (tokio::task::spawn_local(Rc::clone(&inlet).serve(stopped)), Some(inlet))
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(Listening { stop, task, inlet })
}

/// Takes the program's requests.
fn take(proxy: &Proxy, requests: mpsc::Receiver<Job>) -> Listening {
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap_or_default() };
    let task = tokio::task::spawn_local(embed::serve(proxy.clone(), requests, stopped));
    Listening { stop, task, inlet: None }
}

/// Stops listeners, and waits until what was in their queues has been accepted.
async fn stop(listening: Vec<Listening>) {
    let mut tasks = Vec::with_capacity(listening.len());
    for Listening { stop, task, .. } in listening {
        let _ = stop.send(());
        tasks.push(task);
    }
    for task in tasks {
        if let Err(error) = task.await {
            error!("a listener's task failed ({error})");
        }
    }
}

/// Says what happened to a server by itself.
fn tell(notice: &Notice) {
    match notice {
        Notice::Turned { service, server, transition } => {
            info!("upstream server {server} of \"{service}\" is {}", transition.condition);
        }
        Notice::Drained { service, server, load } => {
            let left = load.total();
            info!("upstream server {server} of \"{service}\" is drained, requests left: {left}");
        }
        _ => {}
    }
}

/// How often logs are written, idle connections looked at, and ejections ended.
const TICK: Duration = Duration::from_secs(1);
