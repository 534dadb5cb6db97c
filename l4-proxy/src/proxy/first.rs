//! The time until a server's first byte, for services whose clients are given to another server if
//! theirs fails in it.
//!
//! What the client sends in that time is kept as well as sent. When it is more than may be kept, or
//! the server has said something, the relay takes over.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::relay::Tally;

/// What came of it.
#[derive(Debug)]
pub(super) enum First {
    /// The rest is the relay's; there is no other server for this client any more.
    Begun,
    /// The server ended or failed without a word, and all that the client sent is held.
    ServerGone(io::Error),
    /// The client failed.
    ClientGone(io::Error),
}

/// Passes on what the client sends, what is already held first, until something is decided.
pub(super) async fn until_first_byte<T: Tally>(
    client: &mut TcpStream,
    server: &mut TcpStream,
    held: &mut Vec<u8>,
    max: usize,
    tally: &T,
) -> First {
    if let Err(error) = server.write_all(held).await {
        return First::ServerGone(error);
    }
    count(tally, held.len());
    let mut client_ended = false;
    let mut buffer = [0; 4096];
    while held.len() < max {
        let room = (max - held.len()).min(buffer.len());
        let mut word = [0];
        tokio::select! {
            biased;
            said = server.peek(&mut word) => match said {
                // To a client that has ended, silence may be all there is to say.
                Ok(0) if !client_ended => return First::ServerGone(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return First::Begun,
                Err(error) => return First::ServerGone(error),
            },
            read = client.read(&mut buffer[..room]), if !client_ended => {
                let sent = match read {
                    Ok(0) => {
                        client_ended = true;
                        server.shutdown().await
                    }
                    Ok(read) => {
                        held.extend_from_slice(&buffer[..read]);
                        count(tally, read);
                        server.write_all(&buffer[..read]).await
                    }
                    Err(error) => return First::ClientGone(error),
                };
                if let Err(error) = sent {
                    return First::ServerGone(error);
                }
            }
        }
    }
    First::Begun
}

fn count(tally: &impl Tally, bytes: usize) {
    tally.to_server(bytes as u64);
    tally.progress().moved_to_server(bytes as u64);
}
