//! A proxy of one service in front of servers that the test plays.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use l4_proxy::relay::Engine;
use l4_proxy::worker::Workers;
use l4_proxy::{Proxy, Settings};
use lvs_core::{Algorithm, Director, ServerConfig, ServiceConfig, ServiceKey};

use crate::support::{accept, connect, eventually, listener};

pub(crate) const ENGINES: [Engine; 4] = [Engine::Auto, Engine::Copy, Engine::Pooled, Engine::TokioSplice];

/// A proxy on a worker of its own.
pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
    /// The last is the first that `rr` chooses.
    pub(crate) servers: Vec<TcpListener>,
    pub(crate) director: Arc<Director>,
    _worker: Workers,
}

impl Bench {
    pub(crate) fn new(engine: Engine) -> Bench {
        Bench::with(Settings { engine, ..Settings::default() })
    }

    pub(crate) fn with(settings: Settings) -> Bench {
        Bench::with_servers(settings, 1)
    }

    pub(crate) fn with_servers(settings: Settings, count: usize) -> Bench {
        let (servers, addresses): (Vec<_>, Vec<_>) = (0..count).map(|_| listener()).unzip();
        let (entrance, address) = listener();
        entrance.set_nonblocking(true).expect("an open socket");
        let director = Arc::new(Director::new());
        let service = ServiceKey::name("bench");
        let config = addresses
            .into_iter()
            .fold(ServiceConfig::new(service.clone(), Algorithm::Rr), |config, address| {
                config.server(ServerConfig::new(address))
            });
        director.add_service(config).expect("a valid service");
        let proxy = Proxy::new(Arc::clone(&director), service, settings);
        let worker = Workers::start("bench", 1).expect("a thread");
        let serving = proxy.clone();
        worker.run(0, move || async move {
            let entrance = tokio::net::TcpListener::from_std(entrance).expect("a listener");
            serving.serve(entrance, std::future::pending()).await;
        });
        Bench { proxy, address, servers, director, _worker: worker }
    }

    /// A client and the server's end of its connection.
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.address);
        (client, accept(&self.servers[0]))
    }

    /// Waits until no connection is left, and no lease.
    pub(crate) fn ends(&self) {
        eventually("the connection has ended", || self.proxy.connections().count() == 0);
        let load: u64 =
            self.director.stats()[0].servers.iter().map(|server| u64::from(server.load.total())).sum();
        assert_eq!(load, 0, "a lease was kept");
    }
}
