//! A director without sockets, for the command line to administer.

use std::net::SocketAddr;
use std::sync::Mutex;

use lvs_core::{Director, Flow, Forwarding, Lease, ServiceKey, Time};
use lvsadm::{CommitError, Connection, Control, Edit, Output, Timeouts};

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) director: Director,
    pub(crate) connections: Mutex<Vec<Connection>>,
    pub(crate) timeouts: Mutex<Timeouts>,
    pub(crate) now: Mutex<Time>,
    /// How often something was committed.
    pub(crate) commits: Mutex<u32>,
    /// Refuses what a proxy cannot do, as l4-proxy does.
    pub(crate) only_masquerades: bool,
}

impl Control for Fake {
    fn director(&self) -> &Director {
        &self.director
    }

    fn now(&self) -> Time {
        *self.now.lock().unwrap()
    }

    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        if let Edit::Drain { service, server, deadline } = &edit {
            self.director.drain(service, *server, *deadline)?;
            return Ok(());
        }
        let mut config = self.director.config();
        edit.apply_to(&mut config)?;
        let mut servers = config.services.iter().flat_map(|service| &service.servers);
        if self.only_masquerades && servers.any(|server| server.forwarding != Forwarding::Masquerading) {
            return Err(CommitError::Refused("this director forwards by masquerading only".to_owned()));
        }
        self.director.apply(config)?;
        *self.commits.lock().unwrap() += 1;
        Ok(())
    }

    fn connections(&self) -> Vec<Connection> {
        self.connections.lock().unwrap().clone()
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock().unwrap()
    }

    fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), CommitError> {
        *self.timeouts.lock().unwrap() = timeouts;
        Ok(())
    }
}

impl Fake {
    /// A director with these rules, in the order of the lines.
    #[track_caller]
    pub(crate) fn with(rules: &str) -> Fake {
        let fake = Fake::default();
        fake.director.apply(lvsadm::rules::parse("test", rules).unwrap()).unwrap();
        fake
    }

    /// Lets the clock of the director stand at this second.
    pub(crate) fn tick(&self, second: u64) {
        let now = Time::from_epoch(std::time::Duration::from_secs(second));
        *self.now.lock().unwrap() = now;
        self.director.tick(now);
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.run_with(line, "")
    }

    pub(crate) fn run_with(&self, line: &str, stdin: &str) -> Output {
        lvsadm::run(&words(line), stdin, self)
    }

    /// What a command prints that does what it should.
    #[track_caller]
    pub(crate) fn stdout(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!((output.stderr.as_str(), output.code), ("", 0), "{line}");
        output.stdout
    }

    /// Takes connections to one server: so many active, so many inactive.
    pub(crate) fn take(
        &self,
        service: &ServiceKey,
        server: &str,
        active: usize,
        inactive: usize,
    ) -> Vec<Lease> {
        let leases: Vec<Lease> =
            (0..active + inactive).map(|client| self.lease(service, server, client)).collect();
        leases.iter().take(inactive).for_each(Lease::closing);
        leases
    }

    pub(crate) fn lease(&self, service: &ServiceKey, server: &str, client: usize) -> Lease {
        let server: SocketAddr = server.parse().unwrap();
        let config = self.director.config();
        let servers = config.service(service).unwrap().servers.iter().map(|server| server.address);
        let others: Vec<SocketAddr> = servers.filter(|other| *other != server).collect();
        let client = SocketAddr::new([198, 51, 100, 7].into(), u16::try_from(client % 60_000 + 1).unwrap());
        self.director.schedule_except(service, &Flow::new(client), &others, Time::ZERO).unwrap()
    }
}

pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn tcp(address: &str) -> ServiceKey {
    ServiceKey::tcp(address.parse().unwrap())
}

pub(crate) fn udp(address: &str) -> ServiceKey {
    ServiceKey::udp(address.parse().unwrap())
}
