//! A real server in a process of its own, so that it can die: it says which one it is, and sends back
//! whatever comes.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says of itself.
    pub(crate) number: u8,
}

impl Server {
    pub(crate) fn start(address: SocketAddr, number: u8) -> Server {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("be-server").arg(address.to_string()).arg(number.to_string());
        let child = command.stdin(Stdio::null()).spawn().expect("it starts");
        Server { child, address, number }
    }

    /// Dies at once, and says goodbye to nobody.
    pub(crate) fn die(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
    }
}

/// Is a server until it is killed.
pub(crate) fn run(address: SocketAddr, number: u8) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let datagrams = UdpSocket::bind(address).await.expect("a free port");
        tokio::spawn(async move {
            let mut bytes = vec![0; 65_536];
            loop {
                if let Ok((len, from)) = datagrams.recv_from(&mut bytes).await {
                    let _ = datagrams.send_to(&bytes[..len], from).await;
                }
            }
        });
        let listener = TcpListener::bind(address).await.expect("a free port");
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, number));
            }
        }
    });
}

/// Buffers only while something is there, so that ten thousand idle connections cost little.
async fn echo(mut stream: TcpStream, number: u8) {
    if stream.write_all(&[number]).await.is_err() {
        return;
    }
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        let mut bytes = vec![0; 16_384];
        match stream.try_read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => {
                if stream.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0]).await;
}
