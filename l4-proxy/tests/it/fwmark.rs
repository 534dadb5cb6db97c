//! Services by firewall mark, which are reached at entrances.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use crate::binary::Director;
use crate::support::{PATIENCE, connect, free_port, is_free};

/// The rules for two servers that take any port.
const RULES: &str = "-A -f 1 -s rr -p 600\n-a -f 1 -r 127.0.1.1:0 -m -w 1\n-a -f 1 -r 127.0.1.2:0 -m -w 1\n";

fn director(rules: &str, entrances: &[String]) -> Director {
    Director::start_with(rules, |program| {
        let mut command = Command::new(program);
        command.args(entrances.iter().flat_map(|entrance| ["--fwmark", entrance]));
        command
    })
}

/// Both servers at this port: each tells its clients its address.
fn serve(port: u16) {
    for last in [1, 2] {
        let address = SocketAddr::from(([127, 0, 1, last], port));
        let listener = TcpListener::bind(address).expect("a free port");
        let datagrams = UdpSocket::bind(address).expect("a free port");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = std::io::Write::write_all(&mut &stream, address.to_string().as_bytes());
            }
        });
        thread::spawn(move || {
            while let Ok((_, from)) = datagrams.recv_from(&mut [0; 16]) {
                let _ = datagrams.send_to(address.to_string().as_bytes(), from);
            }
        });
    }
}

fn over_tcp(entrance: SocketAddr) -> SocketAddr {
    let mut said = String::new();
    connect(entrance).read_to_string(&mut said).expect("served");
    said.parse().expect("an address")
}

fn over_udp(entrance: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("open");
    socket.send_to(&[1], entrance).expect("sent");
    let mut said = [0; 64];
    let len = socket.recv(&mut said).expect("answered");
    String::from_utf8_lossy(&said[..len]).parse().expect("an address")
}

#[test]
fn client_is_with_one_server_at_every_entrance_of_a_mark() {
    let (http, https) = (free_port(), free_port());
    let director = director(RULES, &[format!("1={http},{https},udp:{https}")]);
    serve(http.port());
    serve(https.port());
    let first = over_tcp(http);
    assert_eq!(first.port(), http.port());
    for _ in 0..4 {
        assert_eq!(over_tcp(http), first);
        assert_eq!(over_tcp(https), SocketAddr::new(first.ip(), https.port()));
        assert_eq!(over_udp(https), SocketAddr::new(first.ip(), https.port()));
    }
    let listing = director.ipvsadm("-L -n").stdout;
    assert!(
        listing.contains("FWM  1 rr persistent 600\n  -> 127.0.1.1:0                  Masq"),
        "{listing}"
    );
    let kept = director.ipvsadm("-L -n -c").stdout;
    assert!(kept.contains(&format!("{https} ")) && kept.contains("0.0.0.1:0"), "{kept}");
}

#[test]
fn entrances_open_and_close_with_their_service() {
    let (entrance, other) = (free_port(), free_port());
    let director = director("", &[format!("1={entrance}"), format!("2={other}")]);
    serve(entrance.port());
    assert!(is_free(entrance));
    for rule in RULES.lines() {
        let output = director.ipvsadm(rule);
        assert_eq!((output.stderr.as_str(), output.code), ("", 0), "{rule}");
    }
    over_tcp(entrance);
    assert!(is_free(other));
    assert_eq!(director.ipvsadm("-D -f 1").code, 0);
    assert!(is_free(entrance));
}

#[test]
fn mark_without_an_entrance_is_refused_with_what_to_do() {
    let entrance = free_port();
    let director = director("", &[format!("1={entrance}")]);
    for (words, reason) in [
        ("-A -f 2".to_owned(), "start l4-proxy with --fwmark 2=VIP:PORT (see --fwmark-help)"),
        // Its entrance is of the other family.
        ("-A -f 1 -6".to_owned(), "service FWM 1 IPv6 cannot be served"),
    ] {
        let output = director.ipvsadm(&words);
        assert_eq!(output.code, 255, "{words}");
        assert!(output.stderr.contains(reason), "{}", output.stderr);
    }
    assert_eq!(director.ipvsadm("-A -f 1").code, 0);
    let output = director.ipvsadm(&format!("-A -t {entrance}"));
    assert!(output.stderr.contains("belongs to more than one service"), "{}", output.stderr);
}
