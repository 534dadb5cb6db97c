//! The file's format, read into types. What is not understood is a fault that names its place.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_core::{Algorithm, SchedulerFlags, Thresholds, Weight};
use serde_json::{Map, Value};

use crate::Fault;

/// One recorded history of a service.
pub(crate) struct Scenario {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) flags: SchedulerFlags,
    pub(crate) datagrams: Datagrams,
    /// Servers that are there from the beginning, in the order they were added.
    pub(crate) servers: Vec<Added>,
    pub(crate) steps: Vec<Step>,
    /// The server that each connection got, in their order.
    pub(crate) picks: Vec<Option<String>>,
}

/// Whether the clients send datagrams, which count as inactive.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Datagrams {
    Yes,
    No,
}

/// A server that is added.
pub(crate) struct Added {
    pub(crate) name: String,
    /// May be left out for one that was there before.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) edit: Edit,
}

/// What is said of a server; what is not said stays.
pub(crate) struct Edit {
    pub(crate) weight: Option<Weight>,
    pub(crate) thresholds: Option<Thresholds>,
}

pub(crate) enum Step {
    /// A SYN, and the client's ACK after it if it is an `open`.
    Connect {
        connection: Connection,
        draws: Option<[u64; 2]>,
        established: bool,
    },
    /// A FIN of the client.
    Close(Connection),
    /// A FIN, and the entry leaves the table.
    Expire(Connection),
    Add(Added),
    Edit(String, Edit),
    Delete(String),
    /// Time passes.
    Wait(Duration),
    /// Time passes until so long after the beginning.
    Until(Duration),
}

/// What identifies a connection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) destination: Option<SocketAddr>,
}

/// The scenarios of a file, which are its `scenarios` or the whole of it.
pub(crate) fn all(json: &Value) -> Result<Vec<Scenario>, Fault> {
    let scenarios = match json {
        Value::Array(scenarios) => scenarios,
        Value::Object(file) => {
            if file.get("format").is_some_and(|format| format.as_u64() != Some(1)) {
                return Err(Fault("a format other than 1".to_owned()));
            }
            let scenarios = file.get("scenarios").and_then(Value::as_array);
            scenarios.ok_or_else(|| Fault("no list of scenarios".to_owned()))?
        }
        _ => return Err(Fault("neither scenarios nor a list of them".to_owned())),
    };
    let read = |(place, json): (usize, &Value)| {
        let id =
            json.get("id").and_then(Value::as_str).map_or(format!("number {}", place + 1), str::to_owned);
        scenario(&id, json).map_err(|fault| fault.within(format!("scenario {id}")))
    };
    scenarios.iter().enumerate().map(read).collect()
}

fn scenario(id: &str, json: &Value) -> Result<Scenario, Fault> {
    let known = [
        "id",
        "scheduler",
        "flags",
        "note",
        "add",
        "list_order",
        "steps",
        "picks",
        "picks_str",
        "protocol",
        "verified",
    ];
    let fields = Fields::new(json, &known)?;
    let algorithm =
        fields.text("scheduler")?.parse::<Algorithm>().map_err(|error| Fault(error.to_string()))?;
    let mut flags = SchedulerFlags::default();
    for flag in fields.list("flags")? {
        flags = flags.with(match flag.as_str() {
            Some("sh-fallback" | "mh-fallback" | "flag-1") => SchedulerFlags::FIRST,
            Some("sh-port" | "mh-port" | "flag-2") => SchedulerFlags::SECOND,
            Some("flag-3") => SchedulerFlags::THIRD,
            _ => return Err(Fault(format!("unknown flag {flag}"))),
        });
    }
    let datagrams = match fields.get("protocol").map(|protocol| protocol.as_str().unwrap_or_default()) {
        None => Datagrams::No,
        Some(name) if name.eq_ignore_ascii_case("tcp") => Datagrams::No,
        Some(name) if name.eq_ignore_ascii_case("udp") => Datagrams::Yes,
        Some(other) => return Err(Fault(format!("unknown protocol \"{other}\""))),
    };
    let numbered = |what: &'static str, list: &'static str| {
        let values = fields.list(list)?;
        Ok::<_, Fault>(
            values.iter().enumerate().map(move |(place, value)| (format!("{what} {}", place + 1), value)),
        )
    };
    let servers = numbered("server", "add")?
        .map(|(place, json)| {
            let fields = Fields::new(json, &["rs", "addr", "port", "weight", "u", "l"]);
            fields.and_then(|fields| added(&fields)).map_err(|fault| fault.within(place))
        })
        .collect::<Result<Vec<Added>, Fault>>()?;
    let steps = numbered("step", "steps")?
        .map(|(place, json)| step(json).map_err(|fault| fault.within(place)))
        .collect::<Result<Vec<Step>, Fault>>()?;
    if fields.get("list_order").is_some() {
        let newest_first = servers.iter().rev().map(|server| server.name.as_str());
        if !fields.list("list_order")?.iter().map(|name| name.as_str().unwrap_or_default()).eq(newest_first) {
            return Err(Fault("list_order is not the servers of add, the last one first".to_owned()));
        }
    }
    let picks = picks(&fields)?;
    let connections = steps.iter().filter(|step| matches!(step, Step::Connect { .. })).count();
    if picks.len() != connections {
        return Err(Fault(format!("{} picks for {connections} connections", picks.len())));
    }
    Ok(Scenario { id: id.to_owned(), algorithm, flags, datagrams, servers, steps, picks })
}

/// The recorded picks: a list of names, or a text of names that are one letter each.
fn picks(fields: &Fields<'_>) -> Result<Vec<Option<String>>, Fault> {
    let named = |name: &str| (name != "-").then(|| name.to_owned());
    if fields.get("picks").is_none() {
        return Ok(fields.text("picks_str")?.chars().map(|letter| named(&letter.to_string())).collect());
    }
    let picks = fields.list("picks")?.iter().map(|pick| match pick {
        Value::Null => Ok(None),
        Value::String(name) => Ok(named(name)),
        other => Err(Fault(format!("picks: {other} is not a server"))),
    });
    picks.collect()
}

fn step(json: &Value) -> Result<Step, Fault> {
    let op = json.get("op").and_then(Value::as_str).ok_or_else(|| Fault("no \"op\"".to_owned()))?;
    let with = |known: &'static [&'static str]| Fields::new(json, known).map_err(|fault| fault.within(op));
    let step = match op {
        "syn" | "open" => {
            let fields = with(&["op", "src", "sport", "dst", "dport", "r1", "r2", "note"])?;
            let draws = match (fields.number("r1")?, fields.number("r2")?) {
                (Some(first), Some(second)) => Some([first, second]),
                (None, None) => None,
                _ => return Err(Fault(format!("{op}: one of r1 and r2 without the other"))),
            };
            Step::Connect { connection: connection(&fields)?, draws, established: op == "open" }
        }
        "close" => Step::Close(connection(&with(&["op", "src", "sport", "dst", "dport", "note"])?)?),
        "expire" => Step::Expire(connection(&with(&["op", "src", "sport", "dst", "dport", "note"])?)?),
        "add" => Step::Add(added(&with(&["op", "rs", "addr", "port", "weight", "u", "l", "note"])?)?),
        "del" | "delete" => Step::Delete(with(&["op", "rs", "note"])?.text("rs")?.to_owned()),
        "weight" | "thresholds" | "edit" => {
            let fields = with(&["op", "rs", "weight", "u", "l", "note"])?;
            let edit = edit(&fields)?;
            if edit.weight.is_none() && op == "weight" {
                return Err(Fault("weight: no \"weight\"".to_owned()));
            }
            if edit.thresholds.is_none() && op == "thresholds" {
                return Err(Fault("thresholds: no \"u\"".to_owned()));
            }
            Step::Edit(fields.text("rs")?.to_owned(), edit)
        }
        "time" | "sleep" | "advance" | "wait" => {
            let known = ["op", "seconds", "secs", "sec", "s", "by", "ms", "at", "to", "note"];
            let fields = Fields::new(json, &known).map_err(|fault| fault.within(op))?;
            time(&fields).map_err(|fault| fault.within(op))?
        }
        other => return Err(Fault(format!("unknown op \"{other}\""))),
    };
    Ok(step)
}

fn time(fields: &Fields<'_>) -> Result<Step, Fault> {
    let span = |key: &str, unit: f64| {
        let seconds = fields.get(key).map(|value| value.as_f64().map(|number| number * unit));
        let span = seconds.map(|number| Duration::try_from_secs_f64(number.unwrap_or(-1.0)));
        span.transpose().map_err(|_| Fault(format!("\"{key}\" is not a time")))
    };
    for key in ["at", "to"] {
        if let Some(moment) = span(key, 1.0)? {
            return Ok(Step::Until(moment));
        }
    }
    for (key, unit) in [("seconds", 1.0), ("secs", 1.0), ("sec", 1.0), ("s", 1.0), ("by", 1.0), ("ms", 0.001)]
    {
        if let Some(span) = span(key, unit)? {
            return Ok(Step::Wait(span));
        }
    }
    Err(Fault("no \"seconds\"".to_owned()))
}

fn added(fields: &Fields<'_>) -> Result<Added, Fault> {
    let name = fields.text("rs")?.to_owned();
    let address = match fields.get("addr") {
        None => None,
        Some(_) => Some(SocketAddr::new(fields.address("addr")?, fields.port("port")?.unwrap_or(80))),
    };
    Ok(Added { name, address, edit: edit(fields)? })
}

fn edit(fields: &Fields<'_>) -> Result<Edit, Fault> {
    let number = |key: &str| {
        let number = fields.number(key)?.map(u32::try_from).transpose();
        number.map_err(|_| Fault(format!("\"{key}\" is out of range")))
    };
    let weight = number("weight")?.map(Weight::new).transpose();
    let thresholds = match (number("u")?, number("l")?) {
        (None, None) => Ok(None),
        (upper, lower) => Thresholds::new(upper.unwrap_or(0), lower.unwrap_or(0)).map(Some),
    };
    let refused = |error: lvs_core::ConfigError| Fault(error.to_string());
    Ok(Edit { weight: weight.map_err(refused)?, thresholds: thresholds.map_err(refused)? })
}

fn connection(fields: &Fields<'_>) -> Result<Connection, Fault> {
    let port = fields.port("sport")?.ok_or_else(|| Fault("no \"sport\"".to_owned()))?;
    let destination = match fields.get("dst") {
        None => None,
        Some(_) => Some(SocketAddr::new(fields.address("dst")?, fields.port("dport")?.unwrap_or(80))),
    };
    Ok(Connection { client: SocketAddr::new(fields.address("src")?, port), destination })
}

/// An object of which all keys are known.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn new(json: &'a Value, known: &[&str]) -> Result<Fields<'a>, Fault> {
        let fields = json.as_object().ok_or_else(|| Fault(format!("{json} is not an object")))?;
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(Fault(format!("unknown key \"{unknown}\""))),
            None => Ok(Fields(fields)),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<&'a str, Fault> {
        self.get(key).and_then(Value::as_str).ok_or_else(|| Fault(format!("no \"{key}\" that is a text")))
    }

    fn list(&self, key: &str) -> Result<&'a [Value], Fault> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(Fault(format!("\"{key}\" is not a list"))),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Fault> {
        let number = self.get(key).map(|value| value.as_u64().ok_or(value)).transpose();
        number.map_err(|value| Fault(format!("\"{key}\" is {value}, which is not a number from 0")))
    }

    fn port(&self, key: &str) -> Result<Option<u16>, Fault> {
        let port = self.number(key)?.map(u16::try_from).transpose();
        port.map_err(|_| Fault(format!("\"{key}\" is not a port")))
    }

    fn address(&self, key: &str) -> Result<IpAddr, Fault> {
        let text = self.text(key)?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_err(|_| Fault(format!("\"{key}\" is \"{text}\", which is not an address")))
    }
}
