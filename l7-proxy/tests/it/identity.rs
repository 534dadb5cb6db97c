//! The certificate that we show to servers where variables name it, and OpenSSL's own commands.

use std::path::Path;
use std::process::Command;

use crate::peer::{Proxy, eventually, http};
use crate::secure;
use crate::support::load_in;

fn folder() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/").display().to_string()
}

/// Says who has come: the name in the client's certificate, how the session began, and who may answer.
fn origin() -> Proxy {
    Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; ssl_verify_client optional_no_ca; {}
           return 200 \"$ssl_client_s_dn $ssl_session_reused $ssl_protocol $ssl_cipher\"; }}",
        secure::certificate("server")
    )))
}

#[test]
fn server_is_shown_the_certificate_that_variables_name() {
    let (origin, folder) = (origin(), folder());
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; keepalive 8; }}
         server {{ listen 127.0.0.1:1; proxy_ssl_certificate $arg_cert; proxy_ssl_certificate_key $arg_key;
           proxy_ssl_session_reuse off;
           location / {{ proxy_pass https://app; }}
           location /cached {{ proxy_ssl_certificate_cache max=2 inactive=1m; proxy_pass https://app; }} }}",
        origin.addr()
    )));
    let ask = |path: &str, name: &str| {
        let files = format!("{path}?cert={folder}{name}.pem&key={folder}{name}.key");
        let answer = proxy.get(&files);
        (answer.status, answer.text().split(' ').next().unwrap_or_default().to_owned())
    };
    for path in ["/", "/cached"] {
        // A kept connection is no one else's, whoever was asked for in between.
        for (name, expected) in
            [("client", "CN=client,O=Test"), ("stranger", "CN=stranger"), ("client", "CN=client,O=Test")]
        {
            assert_eq!(ask(path, name), (200, expected.to_owned()), "{path}");
        }
        assert_eq!(ask(path, "missing").0, 500, "{path}");
    }
    // An empty name shows none.
    assert_eq!(proxy.get("/?cert=&key=").text().split(' ').next(), Some(""));
}

#[test]
fn session_goes_on_only_with_the_certificate_that_it_began_with() {
    let (origin, folder) = (origin(), folder());
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; proxy_ssl_certificate {folder}$arg_name.pem; proxy_set_header Connection close;
           proxy_ssl_certificate_key {folder}$arg_name.key; location / {{ proxy_pass https://{}; }} }}",
        origin.addr()
    )));
    let ask = |name: &str| proxy.get(&format!("/?name={name}")).text().to_owned();
    assert!(ask("client").starts_with("CN=client,O=Test . "));
    eventually("the session goes on", || ask("client").starts_with("CN=client,O=Test r "));
    assert!(ask("stranger").starts_with("CN=stranger . "));
}

#[test]
fn stream_shows_the_certificate_that_variables_name() {
    let (origin, folder) = (origin(), folder());
    let proxy = Proxy::start(&format!(
        "events {{}} stream {{ map $remote_addr $name {{ default client; }}
           server {{ listen 127.0.0.1:1; proxy_pass {}; proxy_ssl on;
             proxy_ssl_certificate {folder}$name.pem; proxy_ssl_certificate_key {folder}$name.key; }} }}",
        origin.addr()
    ));
    assert!(proxy.get("/").text().starts_with("CN=client,O=Test "));
}

#[test]
fn commands_hold_over_directives() {
    let origin = origin();
    let proxy = |commands: &str| {
        Proxy::start(&http(&format!(
            "server {{ listen 127.0.0.1:1; {commands} location / {{ proxy_pass https://{}; }} }}",
            origin.addr()
        )))
    };
    for (commands, expected) in [
        (
            "proxy_ssl_conf_command MaxProtocol TLSv1.2; proxy_ssl_conf_command CipherString CHACHA20;",
            "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ("proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;", "TLSv1.3 TLS_AES_128_GCM_SHA256"),
        ("proxy_ssl_protocols TLSv1.2; proxy_ssl_conf_command Protocol -ALL,TLSv1.3;", "TLSv1.3 "),
    ] {
        let answer = proxy(commands);
        let answer = answer.get("/");
        assert!(answer.text().contains(expected), "{commands}: {}", answer.text());
    }
}

/// What openssl agrees on with a server of these lines: its version, and its suite.
fn agreed(lines: &str, offer: &[&str]) -> Option<String> {
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} {lines} return 204; }}",
        secure::certificate("server")
    )));
    let address = proxy.addr().to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-brief"])
        .args(offer)
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let after = |what: &str| Some(said.split_once(what)?.1.lines().next()?.trim().to_owned());
    Some(format!("{} {}", after("Protocol version: ")?, after("Ciphersuite: ")?))
}

#[test]
fn server_speaks_what_its_commands_and_lists_leave() {
    if !secure::has("openssl") {
        return;
    }
    let all = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";
    for (lines, offer, expected) in [
        (
            "ssl_conf_command Ciphersuites TLS_CHACHA20_POLY1305_SHA256;",
            &[][..],
            Some("TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"),
        ),
        ("ssl_conf_command MaxProtocol TLSv1.2;", &["-tls1_3"], None),
        ("ssl_ciphers HIGH:!AES256:!CHACHA20;", &["-tls1_2"], Some("TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256")),
        // The client's order, or ours: that of the list.
        ("", &["-tls1_2", "-cipher", all], Some("TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256")),
        (
            "ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305:HIGH; ssl_conf_command Options ServerPreference;",
            &["-tls1_2", "-cipher", all],
            Some("TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305"),
        ),
    ] {
        assert_eq!(agreed(lines, offer).as_deref(), expected, "{lines}");
    }
}

#[test]
fn signature_of_a_handshake_is_shown() {
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} return 200 \"[$ssl_sigalg]\"; }}",
        secure::certificate("server")
    )));
    let config = secure::anonymous();
    let answer = secure::ask(proxy.addr(), "localhost", &config).unwrap();
    assert!(
        answer.ends_with("[rsa_pss_rsae_sha512]") || answer.ends_with("[ecdsa_secp256r1_sha256]"),
        "{answer}"
    );
}

/// What is wrong with a configuration, or what is noted of it.
fn said(directive: &str) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let text = http(&format!("server {{ listen 127.0.0.1:1; {directive} }}"));
    let loaded = load_in(folder.path(), &text).map_err(|error| error.to_string())?;
    Ok(loaded.notes.into_iter().map(|note| note.message).collect())
}

#[test]
fn command_that_cannot_be_followed_is_an_error_that_names_it() {
    for (directive, expected) in [
        (
            "ssl_conf_command Options KTLS;",
            "SSL_CONF_cmd(\"Options\", \"KTLS\") is not supported by l7-proxy",
        ),
        ("ssl_conf_command Nonsense x;", "SSL_CONF_cmd(\"Nonsense\", \"x\") is not supported by l7-proxy"),
        ("ssl_conf_command MaxProtocol TLSv1.1;", "is not supported by l7-proxy"),
        ("proxy_ssl_conf_command Options -ExtendedMasterSecret;", "is not supported by l7-proxy"),
        ("grpc_ssl_conf_command VerifyMode Once;", "is not supported by l7-proxy"),
        ("ssl_conf_command Ciphersuites;", "invalid number of arguments"),
        (
            "ssl_certificate_cache valid=1m;",
            "\"ssl_certificate_cache\" directive must have the \"max\" parameter",
        ),
        ("proxy_ssl_certificate_cache max=0;", "invalid parameter \"max=0\""),
        ("proxy_ssl_certificate_cache max=1 x=1;", "invalid parameter \"x=1\""),
    ] {
        let error = said(directive).expect_err(directive);
        assert!(error.contains(expected), "{directive}: {error}");
    }
    for directive in [
        "ssl_conf_command Options -SessionTicket,NoRenegotiation,ServerPreference;",
        "ssl_conf_command MinProtocol TLSv1;",
        "ssl_certificate_cache max=10 valid=1m inactive=5s;",
        "ssl_certificate_cache off;",
        "grpc_ssl_certificate_cache max=10;",
    ] {
        assert_eq!(said(directive), Ok(Vec::new()), "{directive}");
    }
}

#[test]
fn early_data_is_noted_as_not_taken() {
    let notes = said("ssl_early_data on;").unwrap();
    assert_eq!(notes, ["\"ssl_early_data\" is not supported by l7-proxy, ignored"]);
    assert_eq!(said("ssl_early_data off;"), Ok(Vec::new()));
}
