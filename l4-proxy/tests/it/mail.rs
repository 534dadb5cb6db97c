//! Operators are told of changes by mail and through FIFOs, by the whole program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::binary::Director;
use crate::support::{eventually, free_port};

/// A mail server that takes everything. What it was told, line by line.
fn mail_server() -> (SocketAddr, Arc<Mutex<String>>) {
    let address = free_port();
    let listener = TcpListener::bind(address).expect("a free port");
    let told = Arc::new(Mutex::new(String::new()));
    let taken = Arc::clone(&told);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            take(&stream, &taken);
        }
    });
    (address, told)
}

fn take(stream: &TcpStream, told: &Mutex<String>) {
    let answer = |line: &str| (&mut &*stream).write_all(format!("{line}\r\n").as_bytes()).is_ok();
    let mut in_text = false;
    let mut greeted = answer("220-mail\r\n220 ready");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        told.lock().expect("whole").push_str(&format!("{line}\n"));
        greeted = greeted
            && match (in_text, line.split([' ', ':']).next()) {
                (true, _) if line == "." => {
                    in_text = false;
                    answer("250 taken")
                }
                (true, _) => true,
                (_, Some("DATA")) => {
                    in_text = true;
                    answer("354 go on")
                }
                (_, Some("QUIT")) => answer("221 bye"),
                _ => answer("250-yes\r\n250 fine"),
            };
    }
    assert!(greeted, "the director has not listened");
}

/// A virtual server whose only server is checked ten times a second.
fn config(mail: &str, fifo: &str, vip: SocketAddr, server: SocketAddr) -> String {
    let spaced = |address: SocketAddr| format!("{} {}", address.ip(), address.port());
    format!(
        "global_defs {{\nrouter_id lb1\nlvs_notify_fifo {fifo}\nnotification_email {{\nops@example.org\n\"Two <two@example.org>\"\n}}\n\
         notification_email_from lb@example.org\nsmtp_server {mail}\nsmtp_helo_name lb1.example.org\nsmtp_connect_timeout 1\n}}\n\
         virtual_server {} {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\ndelay_loop 0.1\nwarmup 0\nsmtp_alert\n\
         real_server {} {{\nTCP_CHECK {{\nconnect_timeout 1\nretry 0\n}}\n}}\n}}\n",
        spaced(vip),
        spaced(server)
    )
}

/// A director with such a configuration, in its folder.
fn director(mail: &str, vip: SocketAddr, server: SocketAddr) -> (tempfile::TempDir, File, Director) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keepalived.conf");
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    // What is written while nobody has it open is lost.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = fs::OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&fifo);
    let reader = opened.expect("a FIFO");
    let fifo = fifo.display().to_string();
    fs::write(&path, config(mail, &fifo, vip, server)).expect("a file");
    let director = Director::start_with("", |program| {
        let mut command = std::process::Command::new(program);
        command.arg("--config").arg(&path);
        command
    });
    (folder, reader, director)
}

#[test]
fn server_and_quorum_that_change_are_told_by_mail_and_through_the_fifo() {
    let (mail, told) = mail_server();
    let (vip, server) = (free_port(), free_port());
    let spaced = format!("{} {}", mail.ip(), mail.port());
    let (_folder, fifo, director) = director(&spaced, vip, server);
    let says = |what: &str| eventually(what, || told.lock().expect("whole").contains(what));
    let name = |address: SocketAddr| format!("[{}]:tcp:{}", address.ip(), address.port());
    let (service, real) = (name(vip), name(server));
    says(&format!("Subject: [lb1] Realserver {real} of virtual server {service} - DOWN\n"));
    says(&format!("Subject: [lb1] Virtualserver {service} - DOWN\n"));
    says("=> Lost quorum: weight 0, wanted 1 <=\n");
    let first = told.lock().expect("whole").clone();
    let envelope = "HELO lb1.example.org\nMAIL FROM:<lb@example.org>\nRCPT TO:<ops@example.org>\nRCPT TO:<two@example.org>\nDATA\nDate: ";
    assert!(first.starts_with(envelope), "{first}");
    assert!(first.contains("\nFrom: lb@example.org\n"), "{first}");
    assert!(first.contains("\nTo: ops@example.org, Two <two@example.org>\n"), "{first}");
    assert!(first.contains("=> CHECK failed on service : TCP_CHECK"), "{first}");

    let _listening = TcpListener::bind(server).expect("a free port");
    says(&format!("Subject: [lb1] Realserver {real} of virtual server {service} - UP\n"));
    says(&format!("Subject: [lb1] Virtualserver {service} - UP\n"));

    eventually("it is logged", || director.log().matches("mail was sent").count() == 4);
    // It ends where it would block.
    let lines: Vec<String> = BufReader::new(fifo).lines().map_while(Result::ok).collect();
    let wanted = [
        format!("RS {real} {service} DOWN"),
        format!("VS {service} DOWN"),
        format!("RS {real} {service} UP"),
        format!("VS {service} UP"),
    ];
    assert_eq!(lines, wanted, "{}", director.log());
}

#[test]
fn mail_server_that_says_nothing_delays_mail_alone() {
    let silent = free_port();
    let _silence = TcpListener::bind(silent).expect("a free port");
    let (vip, server) = (free_port(), free_port());
    let (_folder, _fifo, director) = director(&format!("{} {}", silent.ip(), silent.port()), vip, server);
    let logged = |what: &str| eventually(what, || director.log().contains(what));
    logged("server is down");
    let began = std::time::Instant::now();
    let _listening = TcpListener::bind(server).expect("a free port");
    logged("server is up");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    logged("mail cannot be sent");
    assert!(director.log().contains("timed out"), "{}", director.log());
}
