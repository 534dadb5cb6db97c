//! `listen … multipath`: a socket of Multipath TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use socket2::{Domain, Protocol, Socket, Type};

use crate::peer::{Origin, PATIENCE, Proxy, http};

/// A socket of that kind, or of none where the kernel has none.
#[allow(clippy::print_stderr)] // Whoever reads the test's output must see it.
fn socket() -> Option<Socket> {
    match Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) {
        Ok(socket) => Some(socket),
        Err(error) => {
            eprintln!("no Multipath TCP here: {error}");
            None
        }
    }
}

#[test]
fn clients_of_several_paths_and_of_one_are_served_by_the_same_socket() {
    let Some(socket) = socket() else { return };
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.reply("", &"x".repeat(1_000_000))?;
        }
    });
    let proxy = Proxy::start_workers(
        &http(&format!(
            "server {{ listen 127.0.0.1:1 multipath so_keepalive=on; root html;
             location /app/ {{ proxy_pass http://{}; }} }}",
            origin.addr
        )),
        2,
    );
    proxy.file("html/large", "y".repeat(1_000_000));
    socket.connect(&proxy.addr().into()).unwrap();
    let mut client: TcpStream = socket.into();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for (path, fill) in [("/app/x", b'x'), ("/large", b'y')] {
        write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut received = Vec::new();
        let mut room = [0; 65536];
        let whole = loop {
            match client.read(&mut room) {
                Ok(count) => received.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{path}: {error}"),
            }
            let head = received.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(body) = head.map(|head| &received[head + 4..])
                && body.len() >= 1_000_000
            {
                break body.to_vec();
            }
        };
        assert_eq!((whole.len(), whole.iter().all(|&byte| byte == fill)), (1_000_000, true), "{path}");
        assert_eq!(proxy.get(path).body.len(), 1_000_000);
    }
}
