//! A name server that says what a test has told it, and remembers what it was asked.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A name server; it lasts as long as the test.
pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    names: HashMap<String, Says>,
    asked: Vec<(String, u16)>,
}

/// What it says of a name.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// It is another name.
    Alias(&'static str),
    /// Servers of a service: priority, weight, port and name of each.
    Services(Vec<(u16, u16, u16, &'static str)>),
    /// One thing of addresses of IPv4, another of those of IPv6.
    Families(Box<Says>, Box<Says>),
    /// Nothing but this code.
    Code(u8),
    /// Nothing at all.
    Silence,
    /// Something, after a while.
    Later(Duration, Box<Says>),
}

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
const SRV: u16 = 33;

impl NameServer {
    /// One that knows no name.
    pub(crate) fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let told: Arc<Mutex<Told>> = Arc::default();
        let shared = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut datagram = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                let question = datagram[..length].to_vec();
                let (name, kind) = asked(&question);
                let says = {
                    let mut told = shared.lock().unwrap();
                    told.asked.push((name.clone(), kind));
                    told.names.get(&name).or_else(|| told.names.get("*")).cloned().unwrap_or(Says::Code(3))
                };
                let says = match says {
                    Says::Families(_, six) if kind == AAAA => *six,
                    Says::Families(four, _) => *four,
                    says => says,
                };
                let (pause, says) = match says {
                    Says::Later(pause, says) => (pause, *says),
                    says => (Duration::ZERO, says),
                };
                if matches!(says, Says::Silence) {
                    continue;
                }
                let answer = answer(question, kind, &says);
                if pause.is_zero() {
                    socket.send_to(&answer, from).unwrap();
                } else {
                    let socket = socket.try_clone().unwrap();
                    std::thread::spawn(move || {
                        std::thread::sleep(pause);
                        let _ = socket.send_to(&answer, from);
                    });
                }
            }
        });
        NameServer { addr, told }
    }

    /// Lets it say this of a name; `*` is any that it was not told of.
    pub(crate) fn tell(&self, name: &str, says: Says) {
        self.told.lock().unwrap().names.insert(name.to_owned(), says);
    }

    /// A name server that says this of a name.
    pub(crate) fn of(name: &str, says: Says) -> NameServer {
        let server = NameServer::start();
        server.tell(name, says);
        server
    }

    /// The kinds of records that it was asked for under a name, in order.
    pub(crate) fn asked(&self, name: &str) -> Vec<u16> {
        let told = self.told.lock().unwrap();
        told.asked.iter().filter(|(asked, _)| asked == name).map(|(_, kind)| *kind).collect()
    }

    /// How many names it was asked for.
    pub(crate) fn names(&self) -> usize {
        let told = self.told.lock().unwrap();
        told.asked.iter().map(|(asked, _)| asked).collect::<HashSet<_>>().len()
    }
}

/// These addresses of this machine, for an hour.
pub(crate) fn local<const N: usize>(lasts: [u8; N]) -> Says {
    Says::Addresses(lasts.iter().map(|&last| IpAddr::from([127, 0, 0, last])).collect(), 3600)
}

fn asked(question: &[u8]) -> (String, u16) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).into_owned());
        at = end;
    }
    (labels.join("."), u16::from_be_bytes([question[at + 1], question[at + 2]]))
}

/// Makes an answer of a question.
fn answer(mut bytes: Vec<u8>, kind: u16, says: &Says) -> Vec<u8> {
    let (code, records) = match says {
        Says::Code(code) => (*code, Vec::new()),
        Says::Addresses(addresses, ttl) => {
            let records = addresses.iter().filter_map(|address| match (address, kind) {
                (IpAddr::V4(ip), A) => Some((A, *ttl, ip.octets().to_vec())),
                (IpAddr::V6(ip), AAAA) => Some((AAAA, *ttl, ip.octets().to_vec())),
                _ => None,
            });
            (0, records.collect())
        }
        Says::Alias(name) => (0, vec![(5, 3600, encoded(name))]),
        Says::Services(services) => {
            let record = |(priority, weight, port, name): &(u16, u16, u16, &str)| {
                let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
                (SRV, 3600, [numbers, encoded(name)].concat())
            };
            (0, services.iter().map(record).collect())
        }
        Says::Silence | Says::Later(..) | Says::Families(..) => unreachable!("it is no answer"),
    };
    bytes[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    for (kind, ttl, data) in records {
        let kind: u16 = kind;
        // Of the name in the question, of the Internet.
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(u32::to_be_bytes(ttl));
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}
