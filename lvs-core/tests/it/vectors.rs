//! The picks of the real kernel.
//!
//! `schedules.json` holds scenarios (servers, edits, packets) and the picks that Linux 6.1 made;
//! those of the schedulers that the crate knows are played against a director.

use std::collections::HashMap;
use std::net::SocketAddr;

use lvs_core::{Algorithm, Flow, Lease, ServerConfig, ServiceConfig, Thresholds, Time, Weight};
use serde_json::Value;

use crate::setup::{director, vip};

/// Scenarios for `rr`, `wrr`, `lc` and `wlc`; grows with the schedulers.
const KNOWN: usize = 19;

#[test]
fn picks_are_those_of_the_kernel() {
    let file: Value = serde_json::from_str(include_str!("schedules.json")).expect("JSON");
    let scenarios = file["scenarios"].as_array().expect("scenarios");
    let mut played = 0;
    for scenario in scenarios {
        if let Ok(algorithm) = text(&scenario["scheduler"]).parse() {
            assert_eq!(play(algorithm, scenario), text(&scenario["picks_str"]), "{}", text(&scenario["id"]));
            played += 1;
        }
    }
    assert_eq!(played, KNOWN);
}

/// Plays a scenario; returns the names of the servers picked, `-` for none.
fn play(algorithm: Algorithm, scenario: &Value) -> String {
    let director = director(ServiceConfig::new(vip(), algorithm));
    let mut servers: HashMap<String, ServerConfig> = HashMap::new();
    let mut leases: HashMap<SocketAddr, Lease> = HashMap::new();
    let mut picks = String::new();
    for added in scenario["add"].as_array().expect("servers") {
        let server = server(added);
        director.add_server(&vip(), server.clone()).expect("a new server");
        servers.insert(text(&added["rs"]).to_owned(), server);
    }
    for step in scenario["steps"].as_array().expect("steps") {
        match text(&step["op"]) {
            "syn" | "open" => {
                let client = client(step);
                match director.schedule(&vip(), &Flow::new(client), Time::ZERO) {
                    Ok(lease) => {
                        let (name, _) = servers
                            .iter()
                            .find(|(_, server)| server.address == lease.server())
                            .expect("a server of the scenario");
                        picks.push_str(name);
                        leases.insert(client, lease);
                    }
                    Err(_) => picks.push('-'),
                }
            }
            "close" => leases[&client(step)].closing(),
            "expire" => drop(leases.remove(&client(step)).expect("an open connection")),
            "add" => {
                let server = server(step);
                director.add_server(&vip(), server.clone()).expect("a new server");
                servers.insert(text(&step["rs"]).to_owned(), server);
            }
            "del" => {
                let server = &servers[text(&step["rs"])];
                director.delete_server(&vip(), server.address).expect("a known server");
            }
            "weight" | "thresholds" => {
                let server = servers.get_mut(text(&step["rs"])).expect("a known server");
                edit(server, step);
                director.edit_server(&vip(), server.clone()).expect("a known server");
            }
            other => panic!("a step that this runner does not know: {other}"),
        }
    }
    picks
}

fn server(added: &Value) -> ServerConfig {
    let port = added["port"].as_u64().unwrap_or(80);
    let address = format!("{}:{port}", text(&added["addr"])).parse().expect("an address");
    let mut server = ServerConfig::new(address);
    edit(&mut server, added);
    server
}

fn edit(server: &mut ServerConfig, wanted: &Value) {
    let number = |key: &str| wanted[key].as_u64().map(|number| u32::try_from(number).expect("32 bits"));
    if let Some(weight) = number("weight") {
        server.weight = Weight::new(weight).expect("a weight");
    }
    if let Some(upper) = number("u") {
        server.thresholds = Thresholds::new(upper, number("l").unwrap_or(0)).expect("thresholds");
    }
}

fn client(step: &Value) -> SocketAddr {
    format!("{}:{}", text(&step["src"]), step["sport"]).parse().expect("an address")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
