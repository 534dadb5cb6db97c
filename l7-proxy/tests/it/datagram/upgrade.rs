//! What becomes of datagrams when the binary is changed under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::{Server, Talker};
use crate::peer::eventually;
use crate::program::Site;
use crate::upgrade::Heir;

fn site(server: &Server, more: &str) -> Site {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes 2; events {{}}
         stream {{ server {{ listen {} udp; proxy_pass {}; {more} }} }}",
        site.addr, server.addr
    ));
    site
}

/// Half of the clients go on with one session, the others begin one after the other.
#[test]
fn every_datagram_is_answered_while_the_binary_changes() {
    let server = Server::named("app");
    let site = site(&server, "proxy_responses 1;");
    let mut running = site.start();
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (over, addr) = (Arc::clone(&over), site.addr);
            std::thread::spawn(move || {
                let (mut talker, mut count) = (Talker::new(addr), 0);
                while !over.load(Ordering::SeqCst) {
                    let words = format!("{number}.{count}");
                    assert_eq!(talker.ask(&words), format!("app {words}"));
                    count += 1;
                    if number % 2 == 0 {
                        talker = Talker::new(addr);
                    }
                }
                count
            })
        })
        .collect();
    let some_more = || {
        let before = server.heard();
        eventually("datagrams go on", || server.heard() > before + 20);
    };
    some_more();
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    some_more();
    running.signal(Signal::QUIT);
    some_more();
    assert_eq!(running.end(), 0);
    some_more();
    over.store(true, Ordering::SeqCst);
    let asked: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(asked, server.heard());
    assert!(heir.is_alive());
}

#[test]
fn answer_that_is_on_its_way_when_the_old_binary_is_told_to_end_arrives() {
    let server = Server::start(|words, _| {
        std::thread::sleep(Duration::from_millis(300));
        vec![words.to_owned()]
    });
    let site = site(&server, "proxy_responses 1;");
    let mut running = site.start();
    let talker = Talker::new(site.addr);
    talker.send("slow");
    eventually("it is at the server", || server.heard() == 1);
    running.signal(Signal::USR2);
    let _heir = Heir::of(&site, running.child.id());
    running.signal(Signal::QUIT);
    assert_eq!(talker.hear(), "slow");
    assert_eq!(running.end(), 0);
    assert_eq!(talker.ask("again"), "again");
}
