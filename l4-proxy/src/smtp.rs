//! The little of SMTP that a check and a notification need: lines go out, answers with codes come back.

use lvs_core::Cause;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::cause;

/// A conversation with a mail server.
pub(crate) struct Dialogue {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Dialogue {
    /// Waits for the server to greet.
    pub(crate) async fn begin(stream: TcpStream) -> Result<Dialogue, Cause> {
        let mut dialogue = Dialogue { stream, unread: Vec::new() };
        dialogue.expect("the greeting", "220").await?;
        Ok(dialogue)
    }

    /// Says a line, and waits for an answer with this code.
    pub(crate) async fn say(&mut self, line: &str, code: &str) -> Result<(), Cause> {
        let sent = self.stream.write_all(format!("{line}\r\n").as_bytes()).await;
        sent.map_err(|error| cause(&error))?;
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        self.expect(verb, code).await
    }

    /// Sends a text that ends with a line of its own, and waits for an answer with this code.
    pub(crate) async fn send(&mut self, text: &str, code: &str) -> Result<(), Cause> {
        self.stream.write_all(text.as_bytes()).await.map_err(|error| cause(&error))?;
        self.expect("the text", code).await
    }

    /// Reads an answer, of which each line but the last has a `-` after its code.
    async fn expect(&mut self, to: &str, code: &str) -> Result<(), Cause> {
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end();
                match (line.strip_prefix(code), line.as_bytes().get(3)) {
                    (Some(_), Some(b'-')) => {}
                    (Some(_), _) => return Ok(()),
                    (None, _) => {
                        let shown: String =
                            line.chars().filter(|character| !character.is_control()).take(80).collect();
                        return Err(Cause::from(format!("{to} was answered with \"{shown}\"")));
                    }
                }
            }
            if self.unread.len() > LINE_MAX {
                return Err(Cause::from(format!("the answer to {to} has no end")));
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) => return Err(Cause::from(format!("closed instead of answering {to}"))),
                Ok(_) => {}
                Err(error) => return Err(cause(&error)),
            }
        }
    }
}

/// RFC 5321 allows 512 bytes; some servers write more.
const LINE_MAX: usize = 4096;
