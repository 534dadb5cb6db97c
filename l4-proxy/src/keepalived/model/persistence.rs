//! How clients of a `virtual_server` stay on their server.

use std::time::Duration;

use lvs_core::{Persistence, PersistenceEngine, Protocol};

use super::build::{Build, duration};
use super::lvs::Member;
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

impl Build<'_> {
    pub(super) fn persistence(
        &mut self,
        node: &Node,
        members: &[Member],
        protocol: Protocol,
    ) -> Option<Persistence> {
        let timeout = node.child("persistence_timeout");
        let granularity = node.child("persistence_granularity");
        let portless =
            members.iter().any(|member| matches!(member, Member::Address(address) if address.port() == 0));
        if portless && timeout.is_none() && granularity.is_none() {
            let message =
                "a virtual server without a port has to be persistent: persistence_timeout 360 is taken";
            self.complain(node.blame(message).only_warns());
        }
        let engine = node.child("persistence_engine");
        if timeout.is_none() && granularity.is_none() && !portless {
            if let Some(engine) = engine {
                let message = "persistence_engine has no effect without persistence_timeout";
                self.complain(engine.blame(message).only_warns());
            }
            return None;
        }
        let timeout = timeout.and_then(duration).unwrap_or(PERSISTENCE);
        let mut persistence = Persistence::new(timeout).ok()?;
        let by_mark = members.iter().all(|member| matches!(member, Member::Mark(..)));
        if let Some(node) = engine {
            match node.text(1).and_then(PersistenceEngine::of_name) {
                Some(engine) if protocol == Protocol::Udp || by_mark => {
                    persistence = persistence.engine(engine)
                }
                Some(_) => self.complain(node.blame("the persistence engine sip reads UDP only")),
                None => self.complain(node.words[1].blame("unknown persistence engine: there is sip")),
            }
        }
        let Some(granularity) = granularity else { return Some(persistence) };
        let length = granularity.text(1).and_then(schema::mask)?;
        let v6 = members.iter().any(|member| matches!(member, Member::Address(address) if address.is_ipv6()));
        if v6 {
            persistence = persistence.prefix(length).ok()?;
        } else if length <= 32 {
            let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            persistence = persistence.mask(bits.into());
        } else {
            self.complain(granularity.words[1].blame("an IPv4 netmask has up to 32 bits"));
        }
        Some(persistence)
    }
}

/// keepalived's, where persistence is asked for without a time.
const PERSISTENCE: Duration = Duration::from_secs(360);
