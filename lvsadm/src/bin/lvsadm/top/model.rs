//! What the live view knows: the last document, the order, what the keys have asked for.

use std::cmp::Ordering;

use lvsadm::document::{Counters, Server, Service, Services};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The state of the view.
#[derive(Debug)]
pub(crate) struct Top {
    /// Where the director is.
    pub(crate) place: String,
    pub(crate) column: Column,
    pub(crate) direction: Direction,
    /// Lines that have been scrolled out at the top.
    pub(crate) offset: usize,
    /// Why there is no newer document.
    pub(crate) trouble: Option<String>,
    services: Vec<Service>,
    paused: bool,
}

/// What a key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    Quit,
}

/// What the lines are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// As ipvsadm lists them.
    Address,
    State,
    Weight,
    Active,
    Inactive,
    ConnectionRate,
    RateIn,
    RateOut,
    Connections,
    Availability,
}

/// Which end of the order comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the column is looked at for: the busiest, the worst.
    Usual,
    Reversed,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) address: String,
    /// `None` for a service.
    pub(crate) state: Option<String>,
    pub(crate) weight: Option<u32>,
    pub(crate) active: u64,
    pub(crate) inactive: u64,
    pub(crate) rates: Counters,
    pub(crate) connections: u64,
    pub(crate) availability: Option<f64>,
    pub(crate) reason: String,
}

impl Top {
    pub(crate) fn new(place: String) -> Top {
        Top {
            place,
            column: Column::Address,
            direction: Direction::Usual,
            offset: 0,
            trouble: None,
            services: Vec::new(),
            paused: false,
        }
    }

    /// Takes in a new document; when there is none, the old one stays and the reason is shown.
    pub(crate) fn take(&mut self, answer: Result<Services, String>) {
        match answer {
            Ok(document) => {
                self.services = document.services;
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble.trim_end().replace('\n', " ")),
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn press(&mut self, key: KeyEvent) -> Next {
        let last = self.lines().len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Next::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s' | '>') | KeyCode::Right | KeyCode::Tab => self.column = self.column.next(),
            KeyCode::Char('S' | '<') | KeyCode::Left | KeyCode::BackTab => {
                self.column = self.column.previous()
            }
            KeyCode::Char('r') => self.direction = self.direction.other(),
            KeyCode::Up | KeyCode::Char('k') => self.offset = self.offset.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.offset = (self.offset + 1).min(last),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            KeyCode::PageDown => self.offset = (self.offset + PAGE).min(last),
            KeyCode::Home => self.offset = 0,
            _ => {}
        }
        Next::Stay
    }

    /// The services, each followed by its servers, both in the order asked for.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut groups: Vec<(Line, Vec<Line>)> = self
            .services
            .iter()
            .map(|service| (Line::of_service(service), service.servers.iter().map(Line::of_server).collect()))
            .collect();
        // Both sorts are stable: equals stay in the order of ipvsadm's listing.
        groups.sort_by(|(a, _), (b, _)| self.compare(a, b));
        let mut lines = Vec::new();
        for (service, mut servers) in groups {
            servers.sort_by(|a, b| self.compare(a, b));
            lines.push(service);
            lines.extend(servers);
        }
        lines
    }

    fn compare(&self, a: &Line, b: &Line) -> Ordering {
        let most_first = |value: fn(&Line) -> u64| value(b).cmp(&value(a));
        let order = match self.column {
            Column::Address => Ordering::Equal,
            Column::State => rank(b).cmp(&rank(a)),
            Column::Weight => b.weight.cmp(&a.weight),
            Column::Active => most_first(|line| line.active),
            Column::Inactive => most_first(|line| line.inactive),
            Column::ConnectionRate => most_first(|line| line.rates.connections),
            Column::RateIn => most_first(|line| line.rates.bytes_in),
            Column::RateOut => most_first(|line| line.rates.bytes_out),
            Column::Connections => most_first(|line| line.connections),
            // The worst first; of whom nothing is known yet, last.
            Column::Availability => {
                let share = |line: &Line| line.availability.unwrap_or(2.0);
                share(a).total_cmp(&share(b))
            }
        };
        match self.direction {
            Direction::Usual => order,
            Direction::Reversed => order.reverse(),
        }
    }
}

/// How much a state needs to be looked at.
fn rank(line: &Line) -> u8 {
    match line.state.as_deref() {
        Some("down") => 6,
        Some("ejected") => 5,
        Some("full") => 4,
        Some("draining") => 3,
        Some("quiesced") => 2,
        Some("warming") => 1,
        _ => 0,
    }
}

impl Line {
    fn of_service(service: &Service) -> Line {
        let sum = |of: fn(&Server) -> u32| service.servers.iter().map(|server| u64::from(of(server))).sum();
        let refused = match service.refused {
            0 => String::new(),
            refused => format!("{refused} refused"),
        };
        Line {
            address: format!("{} {}", service.service, service.scheduler),
            state: None,
            weight: None,
            active: sum(|server| server.active),
            inactive: sum(|server| server.inactive),
            rates: service.rates,
            connections: service.counters.connections,
            availability: service.history.as_ref().and_then(|past| past.availability),
            reason: refused,
        }
    }

    fn of_server(server: &Server) -> Line {
        Line {
            address: format!("  -> {}", server.address),
            state: Some(server.state.clone()),
            weight: Some(server.weight),
            active: server.active.into(),
            inactive: server.inactive.into(),
            rates: server.rates,
            connections: server.counters.connections,
            availability: server.history.as_ref().and_then(|past| past.availability),
            reason: server.reason.clone(),
        }
    }
}

impl Column {
    pub(crate) const ALL: [Column; 10] = [
        Column::Address,
        Column::State,
        Column::Weight,
        Column::Active,
        Column::Inactive,
        Column::ConnectionRate,
        Column::RateIn,
        Column::RateOut,
        Column::Connections,
        Column::Availability,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Column::Address => "Service / Server",
            Column::State => "State",
            Column::Weight => "Weight",
            Column::Active => "Active",
            Column::Inactive => "Inact",
            Column::ConnectionRate => "Conn/s",
            Column::RateIn => "In B/s",
            Column::RateOut => "Out B/s",
            Column::Connections => "Conns",
            Column::Availability => "Avail",
        }
    }

    fn next(self) -> Column {
        self.step(1)
    }

    fn previous(self) -> Column {
        self.step(Column::ALL.len() - 1)
    }

    fn step(self, by: usize) -> Column {
        Column::ALL[(self as usize + by) % Column::ALL.len()]
    }
}

impl Direction {
    fn other(self) -> Direction {
        match self {
            Direction::Usual => Direction::Reversed,
            Direction::Reversed => Direction::Usual,
        }
    }
}

const PAGE: usize = 10;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two services: the first with three servers, of which the last works most and the first is
    /// down; the second busier than the first.
    pub(crate) fn sample() -> Services {
        let server = |address: &str, state: &str, active: u32, rate: u64, reason: &str| {
            serde_json::json!({
                "address": address, "forwarding": "masquerading", "tunnel": null, "weight": 1, "backup": false,
                "upper_threshold": 0, "lower_threshold": 0, "active": active, "inactive": 0, "templates": 0,
                "counters": Counters { connections: rate * 100, ..Counters::default() },
                "rates": Counters { connections: rate, bytes_out: rate * 10_000, ..Counters::default() },
                "state": state, "reason": reason, "cut_off_seconds": null,
                "history": { "up_seconds": 99.0, "down_seconds": 1.0, "planned_seconds": 0.0, "failures": 1,
                             "availability": if state == "down" { 0.5 } else { 1.0 }, "since_seconds": 1.0 }
            })
        };
        let service = |name: &str, rate: u64, servers: Vec<serde_json::Value>| {
            serde_json::json!({
                "service": name, "protocol": "tcp", "address": null, "mark": null, "family": null, "pool": null,
                "scheduler": "wlc", "flags": [], "persistence": null, "one_packet": false, "refused": 3,
                "counters": Counters::default(),
                "rates": Counters { connections: rate, ..Counters::default() },
                "history": null, "servers": servers
            })
        };
        serde_json::from_value(serde_json::json!({
            "version": 1,
            "services": [
                service("TCP 192.0.2.1:80", 9, vec![
                    server("10.0.0.1:80", "down", 0, 0, "2 × connect refused"),
                    server("10.0.0.2:80", "up", 2, 3, ""),
                    server("10.0.0.3:80", "up", 7, 6, ""),
                ]),
                service("TCP 192.0.2.2:80", 90, vec![server("10.0.0.4:80", "up", 1, 90, "")]),
            ]
        }))
        .unwrap()
    }

    fn top() -> Top {
        let mut top = Top::new("/run/l4-proxy.sock".to_owned());
        top.take(Ok(sample()));
        top
    }

    fn press(top: &mut Top, code: KeyCode) -> Next {
        top.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// The last numbers of the addresses, services by a letter.
    fn order(top: &Top) -> String {
        let of = |line: &Line| match line.address.as_str() {
            "TCP 192.0.2.1:80 wlc" => 'A',
            "TCP 192.0.2.2:80 wlc" => 'B',
            server => server.trim_end_matches(":80").chars().last().unwrap(),
        };
        top.lines().iter().map(of).collect()
    }

    #[test]
    fn lines_are_sorted_by_the_column_that_was_asked_for() {
        let mut top = top();
        for (column, sorted) in [
            (Column::Address, "A123B4"),
            (Column::State, "A123B4"),
            (Column::Weight, "A123B4"),
            (Column::Active, "A321B4"),
            (Column::Inactive, "A123B4"),
            (Column::ConnectionRate, "B4A321"),
            (Column::RateIn, "A123B4"),
            (Column::RateOut, "A321B4"),
            (Column::Connections, "A321B4"),
            (Column::Availability, "A123B4"),
        ] {
            assert_eq!((top.column, order(&top).as_str()), (column, sorted));
            press(&mut top, KeyCode::Char('s'));
        }
        assert_eq!(top.column, Column::Address, "after the last comes the first");
        press(&mut top, KeyCode::Char('S'));
        press(&mut top, KeyCode::Char('r'));
        assert_eq!((top.column, order(&top).as_str()), (Column::Availability, "A231B4"));
    }

    #[test]
    fn keys_quit_pause_and_scroll() {
        let mut top = top();
        assert_eq!(press(&mut top, KeyCode::Char('p')), Next::Stay);
        assert!(top.is_paused());
        press(&mut top, KeyCode::Char(' '));
        assert!(!top.is_paused());
        press(&mut top, KeyCode::Up);
        assert_eq!(top.offset, 0);
        press(&mut top, KeyCode::PageDown);
        assert_eq!(top.offset, 5, "the last line stays in sight");
        press(&mut top, KeyCode::Home);
        assert_eq!((top.offset, press(&mut top, KeyCode::Char('x'))), (0, Next::Stay));
        assert_eq!(press(&mut top, KeyCode::Char('q')), Next::Quit);
        assert_eq!(press(&mut top, KeyCode::Esc), Next::Quit);
        assert_eq!(top.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::Quit);
    }

    #[test]
    fn trouble_leaves_the_last_document_in_sight_until_the_next() {
        let mut top = top();
        top.take(Err("No answer\nfrom the director\n".to_owned()));
        assert_eq!((top.trouble.as_deref(), order(&top).len()), (Some("No answer from the director"), 6));
        top.take(Ok(sample()));
        assert_eq!(top.trouble, None);
    }
}
