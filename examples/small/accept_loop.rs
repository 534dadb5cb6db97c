//! An accept loop of one's own: a TCP balancer in one function.
//!
//! `cargo run -p examples --example accept_loop`
//!
//! Three servers, one of which does not listen. The loop schedules, connects, tries another server
//! while the client waits, and reports what it saw; the director ejects the dead one by itself.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use lvs_core::{
    Algorithm, Config, Director, Event, Flow, Lease, ServerConfig, ServiceConfig, ServiceKey, Time,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const CLIENTS: usize = 60;

/// The clock of this program: wall time, so that reports print times of day.
fn now() -> Time {
    Time::from_epoch(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// Connects a client to a server that takes it, which is tried around those that do not.
async fn connect(director: &Director, web: &ServiceKey, flow: &Flow) -> Option<(Lease, TcpStream)> {
    let mut tried = Vec::new();
    loop {
        let lease = director.schedule_except(web, flow, &tried, now()).ok()?;
        match TcpStream::connect(lease.target(flow)).await {
            Ok(server) => {
                director.report(&lease, Event::Succeeded, now());
                return Some((lease, server));
            }
            Err(error) => {
                let cause = error.kind().to_string().into();
                if let Some(change) = director.report(&lease, Event::ConnectFailed(cause), now()) {
                    println!("{}: {}", lease.server(), change.condition);
                }
                tried.push(lease.server());
            }
        }
    }
}

async fn balance(listener: TcpListener, director: Arc<Director>, web: ServiceKey) {
    while let Ok((mut client, peer)) = listener.accept().await {
        let (director, web) = (Arc::clone(&director), web.clone());
        tokio::spawn(async move {
            if let Some((lease, mut server)) = connect(&director, &web, &Flow::new(peer)).await
                && let Ok((up, down)) = copy_bidirectional(&mut client, &mut server).await
            {
                lease.count_to_server(up);
                lease.count_to_client(down);
            }
        });
    }
}

/// Tells everybody who it is.
async fn serve(listener: TcpListener, me: SocketAddr) {
    while let Ok((mut client, _)) = listener.accept().await {
        // A client that has gone is none of its business.
        let _ = client.write_all(me.to_string().as_bytes()).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let front = TcpListener::bind("127.0.0.1:0").await?;
    let vip = front.local_addr()?;
    let web = ServiceKey::tcp(vip);
    let mut service = ServiceConfig::new(web.clone(), Algorithm::Rr);
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let me = listener.local_addr()?;
        service = service.server(ServerConfig::new(me));
        tokio::spawn(serve(listener, me));
    }
    // Bound, but nobody listens: the port stays taken and refuses.
    let dead = tokio::net::TcpSocket::new_v4()?;
    dead.bind("127.0.0.1:0".parse()?)?;
    service = service.server(ServerConfig::new(dead.local_addr()?));
    let director = Arc::new(Director::new());
    director.apply(Config { services: vec![service] })?;
    tokio::spawn(balance(front, Arc::clone(&director), web));

    let mut answers = BTreeMap::new();
    for _ in 0..CLIENTS {
        let mut answer = String::new();
        TcpStream::connect(vip).await?.read_to_string(&mut answer).await?;
        *answers.entry(answer).or_insert(0) += 1;
    }
    for (server, count) in &answers {
        println!("{server} answered {count} clients");
    }
    assert_eq!(answers.values().sum::<usize>(), CLIENTS, "every client had an answer");
    assert_eq!(answers.len(), 2, "both living servers answered");
    assert!(answers.values().all(|count| *count >= CLIENTS / 3), "and shared the clients");
    Ok(())
}
