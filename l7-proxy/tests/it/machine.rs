//! What the program has of the machine: limits, processors, its clock, sockets to servers.

use std::fs;
use std::process::Command;

use crate::peer::{Client, Origin, Proxy, eventually, forwarding, http, server};
use crate::program::{Running, Site};
use crate::secure::has;

/// Starts the program with these directives in front, on the clock of a zone.
fn start(site: &Site, directives: &str, zone: &str) -> Running {
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes 2; {directives} events {{}}
         http {{ log_format t '$time_local $time_iso8601'; access_log access.log t;
                 server {{ listen {}; return 200 ok; }} }}",
        site.addr
    ));
    let child = site.command(&[]).env("TZ", zone).spawn().unwrap();
    eventually("the pid file is written", || site.read("l7.pid").trim() == child.id().to_string());
    Running { child }
}

#[test]
fn workers_have_the_limits_and_processors_of_the_file() {
    let site = Site::new("");
    let running = start(&site, "worker_rlimit_nofile 4321; worker_cpu_affinity 1;", "");
    let process = format!("/proc/{}", running.child.id());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["4321", "4321"]);
    let allowed = |task: &str| {
        let status = fs::read_to_string(format!("{task}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // A thread of a worker settles when it begins to serve, which the pid file does not wait for.
    eventually("both workers are on the first processor", || {
        let tasks = fs::read_dir(format!("{process}/task")).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path().to_str().unwrap().to_owned());
        let is_worker = |task: &String| {
            let name = fs::read_to_string(format!("{task}/comm")).unwrap();
            ["worker-0\n", "worker-1\n"].contains(&&*name)
        };
        tasks.filter(is_worker).filter(|task| allowed(task) == "0").count() == 2
    });
}

#[test]
fn logs_show_the_time_of_the_machine() {
    let site = Site::new("");
    let running = start(&site, "", "ABC-3:30");
    assert_eq!(site.get(), "ok");
    eventually("the request is logged", || site.read("access.log").ends_with('\n'));
    let line = site.read("access.log");
    assert!(line.contains(" +0330 ") && line.ends_with("+03:30\n"), "{line}");
    // 23/Nov/2026:14:39:38 and 2026/11/23 14:39:38 are of one clock.
    let (of_access, of_error) = (&line[12..14], site.read("error.log"));
    let of_error = &of_error[11..13];
    let apart = (of_access.parse::<u8>().unwrap() + 24 - of_error.parse::<u8>().unwrap()) % 24;
    assert!(apart <= 1, "{of_access} {of_error}");
    drop(running);
}

#[test]
fn kernel_tells_of_the_way_to_the_client() {
    let text =
        "location / { return 200 '$tcpinfo_rtt $tcpinfo_rttvar $tcpinfo_snd_cwnd $tcpinfo_rcv_space'; }";
    let proxy = Proxy::start(&server(text));
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.get("/");
        let numbers: Vec<u32> = answer.text().split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 4 && numbers[2] > 0 && numbers[3] > 0, "{numbers:?}");
    }
    // The end of the connection is not kept from the client.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.response();
    assert!(client.is_closed());
}

#[test]
fn kernel_looks_after_a_server_where_it_is_told_to() {
    for (directive, expected) in [("", "00"), ("proxy_socket_keepalive on;", "02")] {
        let (looked, told) = std::sync::mpsc::channel::<()>();
        let told = std::sync::Mutex::new(told);
        let origin = Origin::start(move |visit| {
            visit.request()?;
            // Until the test has looked, or has failed.
            let _ = told.lock().unwrap().recv();
            visit.reply("", "ok")
        });
        let proxy = Proxy::start(&forwarding(&[&origin], directive));
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the server is asked", || !origin.requests().is_empty());
        let remote = format!("0100007F:{:04X}", origin.addr.port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // An established connection to the server, and which timer is running for it.
        let found = lines.find(|line| line[2] == remote && line[3] == "01").unwrap();
        assert_eq!(&found[5][..2], expected);
        drop(looked);
        client.response();
    }
}

#[test]
fn server_sees_the_address_that_it_is_to_see() {
    let addr = |proxy: &Proxy| proxy.get("/").text().to_owned();
    let origin = Proxy::start(&server("location / { return 200 $remote_addr; }"));
    let to = origin.addr();
    let proxy = Proxy::start(&server(&format!(
        "location / {{ proxy_bind 127.0.0.9 transparent; proxy_pass http://{to}; }}"
    )));
    // Without the right to it nobody is asked.
    assert_eq!(addr(&proxy) == "127.0.0.9", rustix::process::geteuid().is_root());
}

/// What the system says of our end of a client's connection.
fn seen(proxy: &Proxy, client: &Client) -> String {
    let local = client.stream.local_addr().unwrap();
    let filter = format!("sport = :{} and dport = :{}", proxy.addr().port(), local.port());
    let listed = Command::new("ss").args(["-tnom", "state", "established", &filter]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn sockets_of_clients_are_what_listen_says() {
    if !has("ss") {
        return;
    }
    let begun = |parameters: &str| {
        let proxy =
            Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1 {parameters}; return 200 ok; }}")));
        let mut client = proxy.client();
        client.get("/");
        seen(&proxy, &client)
    };
    // The kernel doubles what it is asked for, for what it keeps beside the bytes.
    let sized = begun("rcvbuf=30k sndbuf=20k");
    assert!(sized.contains(",rb61440,") && sized.contains(",tb40960,"), "{sized}");
    assert!(!sized.contains("keepalive"), "{sized}");
    let looked_after = begun("so_keepalive=2m:5:3");
    assert!(
        looked_after.contains("timer:(keepalive,1min") || looked_after.contains("timer:(keepalive,2min"),
        "{looked_after}"
    );
    // As long as the system says, which is hours.
    let by_default = begun("so_keepalive=on");
    assert!(by_default.contains("timer:(keepalive,"), "{by_default}");
}
