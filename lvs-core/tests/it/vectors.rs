//! The picks of the real kernel.
//!
//! `schedules.json` holds scenarios (servers, edits, packets) and the picks that Linux 6.1 made;
//! they are played against a director.

use std::collections::HashMap;
use std::net::SocketAddr;

use lvs_core::{Flow, Lease, SchedulerFlags, ServerConfig, ServiceConfig, Thresholds, Time, Weight};
use serde_json::Value;

use crate::setup::{director, vip};

#[test]
fn picks_are_those_of_the_kernel() {
    let file: Value = serde_json::from_str(include_str!("schedules.json")).expect("JSON");
    let scenarios = file["scenarios"].as_array().expect("scenarios");
    for scenario in scenarios {
        assert_eq!(play(scenario), text(&scenario["picks_str"]), "{}", text(&scenario["id"]));
    }
    assert_eq!(scenarios.len(), 37);
}

/// Plays a scenario; returns the names of the servers picked, `-` for none.
fn play(scenario: &Value) -> String {
    let algorithm = text(&scenario["scheduler"]).parse().expect("a scheduler");
    let mut service = ServiceConfig::new(vip(), algorithm);
    for flag in scenario["flags"].as_array().expect("flags") {
        service.flags = service.flags.with(match text(flag) {
            "sh-fallback" | "mh-fallback" => SchedulerFlags::FIRST,
            "sh-port" | "mh-port" => SchedulerFlags::SECOND,
            other => panic!("a flag that this runner does not know: {other}"),
        });
    }
    let director = director(service);
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
                match director.schedule(&vip(), &flow(step), Time::ZERO) {
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

fn flow(step: &Value) -> Flow {
    let mut flow = Flow::new(client(step));
    if let Some(destination) = step["dst"].as_str() {
        flow = flow.to(format!("{destination}:80").parse().expect("an address"));
    }
    if let (Some(first), Some(second)) = (step["r1"].as_u64(), step["r2"].as_u64()) {
        flow = flow.draws(first, second);
    }
    flow
}

fn client(step: &Value) -> SocketAddr {
    format!("{}:{}", text(&step["src"]), step["sport"]).parse().expect("an address")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
