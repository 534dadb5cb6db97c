//! Options of the sockets of connections to servers, of `http {}` and of `stream {}` alike.

/// What a socket to a server is set to; by default all is as the system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerSocket {
    /// Whether it may come from an address that is not this machine's (`transparent` of `proxy_bind`).
    pub transparent: bool,
    /// Whether the kernel looks after a silent server (`proxy_socket_keepalive`).
    pub keepalive: bool,
    /// Size of the receive buffer (`proxy_socket_rcvbuf`).
    pub receive: Option<u64>,
    /// Size of the send buffer (`proxy_socket_sndbuf`).
    pub send: Option<u64>,
}
