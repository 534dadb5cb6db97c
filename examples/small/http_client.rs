//! A load-balanced hyper client.
//!
//! `cargo run -p examples --example http_client`
//!
//! Three HTTP servers, one of which is slow. Under `ewma` the client reports how long each answer
//! took, and the slow server is asked less and less. The lease is held until the body has ended.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lvs_core::{Algorithm, Config, Director, Event, Flow, ServerConfig, ServiceConfig, ServiceKey, Time};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn Error + Send + Sync>;

/// Sends each request to the server that is expected to answer soonest.
struct Client {
    director: Director,
    pool: ServiceKey,
    began: Instant,
}

impl Client {
    fn new(servers: &[SocketAddr]) -> Result<Client, Fault> {
        let pool = ServiceKey::name("origins");
        let service = ServiceConfig::new(pool.clone(), Algorithm::Ewma);
        let servers = servers.iter().map(|server| ServerConfig::new(*server));
        let director = Director::new();
        director.apply(Config { services: vec![servers.fold(service, ServiceConfig::server)] })?;
        Ok(Client { director, pool, began: Instant::now() })
    }

    fn now(&self) -> Time {
        Time::from_epoch(self.began.elapsed())
    }

    /// Returns the body, and who sent it. Only a server that was not reached is tried around.
    async fn get(&self, path: &str) -> Result<(Bytes, SocketAddr), Fault> {
        // Nobody's request: hashing and persistence would look at the end client's address here.
        let flow = Flow::new(SocketAddr::from(([127, 0, 0, 1], 0))).key(path.as_bytes());
        let mut tried = Vec::new();
        loop {
            let lease = self.director.schedule_except(&self.pool, &flow, &tried, self.now())?;
            let asked = self.now();
            let Ok(stream) = TcpStream::connect(lease.server()).await else {
                let event = Event::ConnectFailed("connect refused".into());
                self.director.report(&lease, event, self.now());
                tried.push(lease.server());
                continue;
            };
            let answer = send(stream, lease.server(), path).await;
            let event = match &answer {
                Ok(_) => Event::Responded { latency: self.now().since(asked) },
                Err(_) => Event::Failed("no answer".into()),
            };
            self.director.report(&lease, event, self.now());
            return Ok((answer?.into_body().collect().await?.to_bytes(), lease.server()));
        }
    }
}

async fn send(stream: TcpStream, server: SocketAddr, path: &str) -> Result<Response<Incoming>, Fault> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header("Host", server.to_string()).body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

/// Answers after this time.
async fn serve(listener: TcpListener, latency: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(move |request: Request<Incoming>| async move {
            tokio::time::sleep(latency).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(request.uri().path().to_owned()))))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let mut servers = Vec::new();
    for latency in [1, 1, 60] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        servers.push(listener.local_addr()?);
        tokio::spawn(serve(listener, Duration::from_millis(latency)));
    }

    let client = Arc::new(Client::new(&servers)?);
    let mut counts = [0; 3];
    for _ in 0..40 {
        let requests = [(); 4].map(|()| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.get("/cart").await })
        });
        for request in requests {
            let (body, server) = request.await??;
            assert_eq!(body, "/cart", "every request has its answer");
            counts[servers.iter().position(|other| *other == server).ok_or("an unknown server")?] += 1;
        }
    }
    println!(
        "of 160 answers {} and {} came from quick servers, {} from the slow one",
        counts[0], counts[1], counts[2]
    );
    assert!(counts[2] < 160 / 6, "the slow server has less than half of an equal share");
    Ok(())
}
