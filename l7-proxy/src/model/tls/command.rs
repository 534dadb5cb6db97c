//! What `ssl_conf_command` and `proxy_ssl_conf_command` say: OpenSSL's own commands, as far as they
//! mean something here.

use super::{Curve, TlsClient, TlsServer, TlsVersions};

/// One command. Commands hold over the directives of the same meaning, as in nginx.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsCommand {
    /// The suites of TLS 1.3, as OpenSSL names them (`Ciphersuites`).
    Suites(String),
    /// The suites of TLS 1.2 (`CipherString`), as in `ssl_ciphers`.
    Ciphers(String),
    /// The curves that keys are exchanged over, best first (`Curves`, `Groups`).
    Curves(Vec<Curve>),
    /// The versions that are spoken (`Protocol`).
    Versions(TlsVersions),
    /// The oldest version that is spoken (`MinProtocol`).
    Oldest(TlsVersion),
    /// The newest version that is spoken (`MaxProtocol`).
    Newest(TlsVersion),
    /// Whether the order of suites is the server's (`Options ServerPreference`).
    ServerPreference(bool),
    /// Whether sessions are given to the other side to keep (`Options SessionTicket`).
    SessionTicket(bool),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersions {
    fn limit(&mut self, command: &TlsCommand) {
        match command {
            TlsCommand::Versions(versions) => *self = *versions,
            TlsCommand::Oldest(oldest) => self.tls12 &= *oldest == TlsVersion::Tls12,
            TlsCommand::Newest(newest) => self.tls13 &= *newest == TlsVersion::Tls13,
            _ => {}
        }
    }
}

impl TlsServer {
    /// Returns what holds when the commands are followed.
    pub(crate) fn commanded(&self) -> TlsServer {
        let mut tls = self.clone();
        for command in std::mem::take(&mut tls.commands) {
            tls.versions.limit(&command);
            match command {
                TlsCommand::Suites(suites) => tls.suites = Some(suites),
                TlsCommand::Ciphers(ciphers) => tls.ciphers = Some(ciphers),
                TlsCommand::Curves(curves) => tls.curves = curves,
                TlsCommand::ServerPreference(on) => tls.prefer_server_ciphers = on,
                TlsCommand::SessionTicket(on) => tls.session_tickets = on,
                TlsCommand::Versions(_) | TlsCommand::Oldest(_) | TlsCommand::Newest(_) => {}
            }
        }
        tls
    }
}

impl TlsClient {
    /// Returns what holds when the commands are followed.
    pub(crate) fn commanded(&self) -> TlsClient {
        let mut tls = self.clone();
        let mut versions = TlsVersions { tls12: tls.tls12, tls13: tls.tls13 };
        for command in std::mem::take(&mut tls.commands) {
            versions.limit(&command);
            match command {
                TlsCommand::Suites(suites) => tls.suites = Some(suites),
                TlsCommand::Ciphers(ciphers) => tls.ciphers = Some(ciphers),
                TlsCommand::Curves(curves) => tls.curves = curves,
                // It is the server's to say; rustls keeps sessions with tickets and without.
                TlsCommand::ServerPreference(_) | TlsCommand::SessionTicket(_) => {}
                TlsCommand::Versions(_) | TlsCommand::Oldest(_) | TlsCommand::Newest(_) => {}
            }
        }
        (tls.tls12, tls.tls13) = (versions.tls12, versions.tls13);
        tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_command_narrows_what_the_earlier_one_left() {
        let commands = vec![
            TlsCommand::Versions(TlsVersions { tls12: true, tls13: true }),
            TlsCommand::Newest(TlsVersion::Tls12),
            TlsCommand::Ciphers("a".to_owned()),
            TlsCommand::Ciphers("b".to_owned()),
        ];
        let server = TlsServer { commands: commands.clone(), ..TlsServer::default() }.commanded();
        assert_eq!(server.versions, TlsVersions { tls12: true, tls13: false });
        assert_eq!(server.ciphers.as_deref(), Some("b"));
        let client = TlsClient { commands, tls12: false, ..TlsClient::default() }.commanded();
        assert_eq!((client.tls12, client.tls13), (true, false));
    }

    #[test]
    fn version_that_is_not_spoken_is_not_spoken_for_being_the_oldest() {
        let versions = TlsVersions { tls12: false, tls13: true };
        let commands = vec![TlsCommand::Oldest(TlsVersion::Tls12)];
        let server = TlsServer { versions, commands, ..TlsServer::default() }.commanded();
        assert_eq!(server.versions, versions);
    }
}
