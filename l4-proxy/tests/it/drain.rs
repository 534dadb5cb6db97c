//! Servers that go while they are at work.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use l4_proxy::daemon::{Daemon, Options};
use lvs_core::{Algorithm, Config, ServerConfig, ServiceConfig, ServiceKey};

use crate::support::{accept, connect, eventually, free_port, listener};

/// A director with one service and two servers, and a connection to each.
struct Scene {
    daemon: Daemon,
    key: ServiceKey,
    servers: Vec<(TcpListener, SocketAddr)>,
    /// Client's end and server's end.
    connections: Vec<(TcpStream, TcpStream)>,
}

impl Scene {
    fn new(change: impl FnOnce(&mut ServiceConfig)) -> Scene {
        let servers = vec![listener(), listener()];
        let key = ServiceKey::tcp(free_port());
        let mut service = ServiceConfig::new(key.clone(), Algorithm::Rr);
        // The last added is the first in turn.
        for (_, address) in servers.iter().rev() {
            service = service.server(ServerConfig::new(*address));
        }
        change(&mut service);
        let options = Options { workers: 1, probes: None, ..Options::default() };
        let daemon = Daemon::start(options, Config { services: vec![service] }).expect("free addresses");
        let mut scene = Scene { daemon, key, servers, connections: Vec::new() };
        for place in 0..2 {
            let client = connect(scene.key.address().expect("an address"));
            let server = accept(&scene.servers[place].0);
            scene.connections.push((client, server));
            scene.assert_talks(place);
        }
        scene
    }

    fn run(&self, line: String) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let output = lvsadm::run(&words, "", &*self.daemon.control());
        assert_eq!((output.stderr.as_str(), output.code), ("", 0), "{line}");
    }

    fn assert_talks(&self, connection: usize) {
        let (mut client, mut server) = (&self.connections[connection].0, &self.connections[connection].1);
        let mut got = [0; 4];
        client.write_all(b"ping").expect("an open connection");
        server.read_exact(&mut got).expect("an open connection");
        server.write_all(b"pong").expect("an open connection");
        client.read_exact(&mut got).expect("an open connection");
        assert_eq!(&got, b"pong");
    }

    fn assert_is_cut(&self, connection: usize) {
        let (mut client, mut server) = (&self.connections[connection].0, &self.connections[connection].1);
        for mut end in [&mut client, &mut server] {
            let error = Read::read(&mut end, &mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        eventually("the entry is gone", || self.daemon.connections().count() == 1);
    }
}

#[test]
fn idle_connection_of_a_server_that_drains_is_cut_at_the_deadline_and_no_other() {
    let scene = Scene::new(|_| {});
    scene.run(format!("--drain {} --deadline 1", scene.servers[0].1));
    scene.assert_talks(0);
    scene.assert_is_cut(0);
    scene.assert_talks(1);
}

#[test]
fn drain_without_a_deadline_cuts_nobody_and_ends_when_the_last_has_gone() {
    let mut scene = Scene::new(|_| {});
    scene.run(format!("--drain {}", scene.servers[0].1));
    let director = scene.daemon.director().clone();
    director.tick(l4_proxy::clock::now());
    scene.assert_talks(0);
    assert_eq!(director.draining().len(), 1);
    drop(scene.connections.remove(0));
    eventually("the drain ends", || director.draining().is_empty());
}

#[test]
fn connections_of_a_deleted_server_go_on_unless_the_service_wants_them_cut() {
    let scene = Scene::new(|_| {});
    let address = scene.key.address().expect("an address");
    scene.run(format!("-d -t {address} -r {}", scene.servers[0].1));
    scene.assert_talks(0);

    let scene = Scene::new(|service| service.expire_nodest_conn = true);
    let address = scene.key.address().expect("an address");
    scene.run(format!("-d -t {address} -r {}", scene.servers[0].1));
    scene.assert_is_cut(0);
    scene.assert_talks(1);
}
