//! Which certificate a client of TLS is shown, and what is known of its offers.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use l4_proxy::proxy_protocol::{Header, Parsed, parse};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::peer::{Client, Origin, Proxy, eventually, http};
use crate::secure::{anonymous, connect};

/// A file that was made for these tests.
fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

/// The certificate that is shown to who asks for this name, which may be for another name; none where
/// the handshake fails.
fn shown(addr: SocketAddr, name: &str) -> Option<CertificateDer<'static>> {
    let mut client = connect(addr, name, &trusting());
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    client.read_exact(&mut [0]).ok()?;
    Some(client.conn.peer_certificates()?.first()?.clone().into_owned())
}

/// A client that takes any certificate.
fn trusting() -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&anonymous());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    config.dangerous().set_certificate_verifier(Arc::new(l4_proxy::tls::AnyServer::new(&provider)));
    Arc::new(config)
}

fn certificate(name: &str) -> Option<CertificateDer<'static>> {
    Some(CertificateDer::from_pem_file(pem(name)).unwrap())
}

#[test]
fn certificate_that_a_variable_names_is_read_at_the_handshake() {
    let folder = pem("").display().to_string();
    let lines = format!(
        "map $ssl_server_name $name {{ a.example server; b.example other; default missing; }}
         server {{ listen 127.0.0.1:1 ssl; ssl_certificate {folder}$name.pem;
           ssl_certificate_key {folder}$name.key; return"
    );
    let https = Proxy::start(&http(&format!("{lines} 200 a; }}")));
    let stream = Proxy::start(&format!("events {{}} stream {{ {lines} a; }} }}"));
    for proxy in [&https, &stream] {
        assert_eq!(shown(proxy.addr(), "a.example"), certificate("server.pem"));
        assert_eq!(shown(proxy.addr(), "b.example"), certificate("other.pem"));
        assert_eq!(shown(proxy.addr(), "c.example"), None);
    }
}

#[test]
fn certificate_may_stand_in_the_file_and_in_a_variable() {
    let text = |name: &str| std::fs::read_to_string(pem(name)).unwrap();
    let (certificate_text, key) = (text("server.pem"), text("server.key"));
    let proxy = Proxy::start(&http(&format!(
        "map $ssl_server_name $pem {{ default '{certificate_text}'; }}
         server {{ listen 127.0.0.1:1 ssl; ssl_certificate data:$pem; ssl_certificate_key 'data:{key}'; return 200 a; }}"
    )));
    assert_eq!(shown(proxy.addr(), "a.example"), certificate("server.pem"));
}

#[test]
fn sealed_key_is_opened_with_the_password_of_the_file() {
    let proxy = |passwords: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwords");
        std::fs::write(&file, passwords).unwrap();
        let chain = pem("chain");
        Proxy::start(&http(&format!(
            "server {{ listen 127.0.0.1:1 ssl; ssl_password_file {}; ssl_certificate {};
               ssl_certificate_key {}; return 200 a; }}",
            file.display(),
            chain.join("root.pem").display(),
            chain.join("old-aes256.key").display(),
        )))
    };
    assert_eq!(shown(proxy("wrong\nsecret\n").addr(), "a.example"), certificate("chain/root.pem"));
}

#[test]
fn offers_of_a_client_are_shown_in_words() {
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; ssl_certificate {}; ssl_certificate_key {};
           ssl_ecdh_curve secp384r1; return 200 \"<$ssl_curve $ssl_curves $ssl_sigalgs\"; }}",
        pem("server.pem").display(),
        pem("server.key").display(),
    )));
    let mut client = connect(proxy.addr(), "a.example", &anonymous());
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (_, said) = answer.split_once('<').unwrap();
    let words: Vec<&str> = said.split(' ').collect();
    assert_eq!(words[..2], ["secp384r1", "X25519:prime256v1:secp384r1"]);
    assert!(words[2].split(':').any(|scheme| scheme == "rsa_pss_rsae_sha256"), "{said}");
    assert!(words[2].split(':').any(|scheme| scheme == "ecdsa_secp256r1_sha256"), "{said}");
}

#[test]
fn server_may_have_a_certificate_of_version_1() {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let origin = Proxy::start(&http(&format!(
            "server {{ listen 127.0.0.1:1 ssl; http2 on; ssl_protocols {version}; {} return 200 ok; }}",
            crate::secure::certificate("version1"),
        )));
        let (addr, own, stranger) = (origin.addr(), pem("version1.pem"), pem("ca.pem"));
        let (own, stranger) = (own.display(), stranger.display());
        // Nobody gets to a server before its check has passed, over TLS as well.
        let proxy = Proxy::start(&http(&format!(
            "upstream app {{ zone app 64k; server {addr}; }}
             server {{ listen 127.0.0.1:1;
               location /any {{ proxy_pass https://app; health_check mandatory interval=50ms; }}
               location /grpc {{ grpc_pass grpcs://app; }}
               location /trusted {{ proxy_pass https://{addr}; proxy_ssl_verify on;
                 proxy_ssl_name a.example; proxy_ssl_trusted_certificate {own}; }}
               location /strange {{ proxy_pass https://{addr}; proxy_ssl_verify on;
                 proxy_ssl_name a.example; proxy_ssl_trusted_certificate {stranger}; }} }}"
        )));
        eventually("its check has passed", || proxy.get("/any").status == 200);
        for (path, status) in [("/any", 200), ("/grpc", 200), ("/trusted", 200), ("/strange", 502)] {
            assert_eq!(proxy.get(path).status, status, "{version} {path}");
        }
        let stream = Proxy::start(&format!(
            "events {{}} stream {{ server {{ listen 127.0.0.1:1; proxy_ssl on; proxy_pass {addr}; }} }}"
        ));
        let mut client = Client::connect(stream.addr());
        client.send("GET / HTTP/1.0\r\n\r\n");
        let answer = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(answer.ends_with("\r\n\r\nok"), "{version} {answer}");
    }
}

#[test]
fn server_of_a_stream_is_told_the_client_in_the_version_that_is_wanted() {
    for (word, binary) in [("on", false), ("v2", true)] {
        let origin = Origin::start(|visit| {
            let all = visit.peer.rest()?;
            visit.write(all)
        });
        let proxy = Proxy::start(&format!(
            "events {{}} stream {{ server {{ listen 127.0.0.1:1; proxy_protocol {word}; proxy_pass {}; }} }}",
            origin.addr
        ));
        let mut client = Client::connect(proxy.addr());
        let own = client.stream.local_addr().unwrap();
        client.finish();
        let seen = client.rest().unwrap();
        assert_eq!(parse(&seen), Ok(Parsed::Whole(Header::tcp(own, proxy.addr()), seen.len())), "{word}");
        assert_eq!(seen.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), binary, "{word}");
    }
}
