//! What a director offers to whoever administers it.
//!
//! The command line decides nothing about sockets: it turns words into an [`Edit`] and hands that
//! to a [`Control`], which binds what has to be bound and then commits, or refuses with a reason.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lvs_core::{
    Changes, Config, ConfigError, Director, EditError, Protocol, ServerConfig, ServiceConfig, ServiceKey,
    Time, Weight,
};

use crate::document::{SyncDaemon, VirtualRouter};

/// A director that can be administered while it runs.
///
/// The control socket carries out one command at a time, so none of these methods should wait
/// for more than a socket to be bound.
pub trait Control: Send + Sync {
    /// The director whose table is listed and edited.
    fn director(&self) -> &Director;

    /// The present moment, on the clock that the director is run with.
    fn now(&self) -> Time;

    /// Carries out an edit as a whole, or leaves everything as it is.
    ///
    /// # Errors
    /// The edit does not fit the present configuration, or the director cannot do what it asks.
    fn commit(&self, edit: Edit) -> Result<(), CommitError>;

    /// What putting this configuration in the place of the present one would change; changes nothing.
    ///
    /// # Errors
    /// The configuration contradicts itself, or asks for what the director cannot do.
    fn plan(&self, config: Config) -> Result<Changes, CommitError> {
        Ok(self.director().plan(&config)?)
    }

    /// Brings up to date what is counted only from time to time, before counters are listed.
    fn count(&self) {}

    /// The connections that are open, in the order they are to be listed. Templates of persistent
    /// services are not among them; they are the director's.
    fn connections(&self) -> Vec<Connection>;

    /// How long connections may be idle.
    fn timeouts(&self) -> Timeouts;

    /// Sets how long connections may be idle; the values are whole, none is left out.
    ///
    /// # Errors
    /// The director cannot do that.
    fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), CommitError>;

    /// What shares persistence templates with other directors; nothing, where there are none.
    fn sync_daemons(&self) -> Vec<SyncDaemon> {
        Vec::new()
    }

    /// The VRRP instances that decide who has the virtual addresses; none, where nobody else could.
    fn virtual_routers(&self) -> Vec<VirtualRouter> {
        Vec::new()
    }

    /// Starts its own program anew, which may be another version by now, and has that take its place; `answer`
    /// is told which process serves now, or why none but this one does.
    fn upgrade(&self, answer: &mut dyn FnMut(Result<u32, String>)) {
        answer(Err("This director cannot start itself anew".to_owned()));
    }

    /// Hands over to the process at the other end of `stream`, which takes this one's place, and
    /// returns when that serves; it asked with [`client::ask_for_all`](crate::client::ask_for_all).
    ///
    /// # Errors
    /// The director cannot, or the other one failed; then nothing has changed.
    fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        let _ = stream;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// One change of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Adds a service (`-A`).
    AddService(ServiceConfig),
    /// Replaces what is said about a service and keeps its servers (`-E`).
    EditService(ServiceConfig),
    /// Removes a service and its servers (`-D`).
    DeleteService(ServiceKey),
    /// Adds a server to a service (`-a`).
    AddServer(ServiceKey, ServerConfig),
    /// Replaces what is said about a server (`-e`).
    EditServer(ServiceKey, ServerConfig),
    /// Removes a server from a service (`-d`).
    DeleteServer(ServiceKey, SocketAddr),
    /// Gives a server weight 0, and cuts off at the deadline who is still there (`--drain`).
    Drain {
        /// The service.
        service: ServiceKey,
        /// Its server.
        server: SocketAddr,
        /// When whoever is left is to be cut off: what [`Director::drain`] is told.
        deadline: Time,
    },
    /// Puts another configuration in the place of the present one (`-C`, `-R`).
    Replace(Config),
}

/// Why an edit was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// There is nothing to edit, or already something where one is to be added.
    Edit(EditError),
    /// The result would contradict itself.
    Config(ConfigError),
    /// The director cannot do it; the text says why, in a form to show the operator.
    Refused(String),
}

/// One open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// How long it lives on if nothing more is heard of it.
    pub expires: Duration,
    /// How far it has come.
    pub state: ConnectionState,
    /// Address and port of the client (CIP).
    pub client: SocketAddr,
    /// Address and port that the client asked for (VIP).
    pub virtual_address: SocketAddr,
    /// Address and port of the real server (RIP).
    pub server: SocketAddr,
    /// What it has moved so far, if that is known.
    pub moved: Option<Moved>,
}

/// Bytes that a connection has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client to the server.
    pub to_server: u64,
    /// From the server to the client.
    pub to_client: u64,
}

/// How far a connection has come, named as IPVS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Nothing is known.
    None,
    /// Both sides speak.
    Established,
    /// The server has opened.
    SynSent,
    /// The client has opened.
    SynReceived,
    /// The server has ended its half.
    FinWait,
    /// Both halves have ended.
    TimeWait,
    /// It was reset.
    Close,
    /// The client has ended its half.
    CloseWait,
    /// The last acknowledgement is awaited.
    LastAck,
    /// It listens.
    Listen,
    /// The server has accepted, the client has not confirmed.
    SynAck,
    /// A flow of datagrams, which has no states.
    Udp,
}

/// How long a connection may be idle (`ipvsadm --set`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A TCP connection on which both sides may speak.
    pub tcp: Duration,
    /// A TCP connection of which one half has ended.
    pub tcp_fin: Duration,
    /// A UDP flow.
    pub udp: Duration,
}

impl Edit {
    /// Makes the edit in a configuration, which has no place for the deadline of a drain.
    ///
    /// # Errors
    /// It does not fit; then the configuration is unchanged.
    pub fn apply_to(&self, config: &mut Config) -> Result<(), EditError> {
        match self {
            Edit::AddService(service) => config.add_service(service.clone()),
            Edit::EditService(service) => config.edit_service(service.clone()),
            Edit::DeleteService(service) => config.delete_service(service),
            Edit::AddServer(service, server) => config.add_server(service, server.clone()),
            Edit::EditServer(service, server) => config.edit_server(service, server.clone()),
            Edit::DeleteServer(service, server) => config.delete_server(service, *server),
            Edit::Drain { service, server, .. } => {
                let found = config.service(service).ok_or(EditError::NoService)?;
                let found = found.servers.iter().find(|other| other.address == *server);
                let quiesced = found.ok_or(EditError::NoServer)?.clone().weight(Weight::ZERO);
                config.edit_server(service, quiesced)
            }
            Edit::Replace(whole) => {
                config.clone_from(whole);
                Ok(())
            }
        }
    }
}

impl ConnectionState {
    /// The state of that name in IPVS's list of connections.
    pub fn named(name: &str) -> Option<ConnectionState> {
        ConnectionState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Every state.
    const ALL: [ConnectionState; 12] = [
        ConnectionState::None,
        ConnectionState::Established,
        ConnectionState::SynSent,
        ConnectionState::SynReceived,
        ConnectionState::FinWait,
        ConnectionState::TimeWait,
        ConnectionState::Close,
        ConnectionState::CloseWait,
        ConnectionState::LastAck,
        ConnectionState::Listen,
        ConnectionState::SynAck,
        ConnectionState::Udp,
    ];

    /// The name in IPVS's list of connections.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::None => "NONE",
            ConnectionState::Established => "ESTABLISHED",
            ConnectionState::SynSent => "SYN_SENT",
            ConnectionState::SynReceived => "SYN_RECV",
            ConnectionState::FinWait => "FIN_WAIT",
            ConnectionState::TimeWait => "TIME_WAIT",
            ConnectionState::Close => "CLOSE",
            ConnectionState::CloseWait => "CLOSE_WAIT",
            ConnectionState::LastAck => "LAST_ACK",
            ConnectionState::Listen => "LISTEN",
            ConnectionState::SynAck => "SYNACK",
            ConnectionState::Udp => "UDP",
        }
    }
}

/// IPVS's: 15 minutes, 2 minutes, 5 minutes.
impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts { tcp: seconds(900), tcp_fin: seconds(120), udp: seconds(300) }
    }
}

impl From<EditError> for CommitError {
    fn from(error: EditError) -> CommitError {
        CommitError::Edit(error)
    }
}

impl From<ConfigError> for CommitError {
    fn from(error: ConfigError) -> CommitError {
        CommitError::Config(error)
    }
}

impl From<lvs_core::Rejected> for CommitError {
    fn from(error: lvs_core::Rejected) -> CommitError {
        match error {
            lvs_core::Rejected::Edit(error) => CommitError::Edit(error),
            lvs_core::Rejected::Config(error) => CommitError::Config(error),
            other => CommitError::Refused(other.to_string()),
        }
    }
}

impl std::fmt::Display for CommitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CommitError::Edit(error) => error.fmt(f),
            CommitError::Config(error) => error.fmt(f),
            CommitError::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommitError::Edit(error) => Some(error),
            CommitError::Config(error) => Some(error),
            CommitError::Refused(_) => None,
        }
    }
}
