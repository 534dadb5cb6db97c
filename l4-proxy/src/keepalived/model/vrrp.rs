//! `vrrp_*` blocks: read and checked here, run by whoever speaks VRRP.

use std::time::Duration;

use super::build::{Build, address, count, duration, switched_on, text};
use super::router::{
    Address, Arguments, Authentication, Instance, Notify, Peer, State, SyncGroup, Track, TrackFile,
    TrackProcess, Vrrp, VrrpScript, Weight,
};
use super::wire::{UNFIT, WIRE_WORDS};
use super::{Global, Mail, idle};
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

impl Build<'_> {
    pub(super) fn vrrp(&mut self, global: &Global) -> Vrrp {
        let files = self.number_files_again();
        let mut vrrp = Vrrp { files, ..Vrrp::default() };
        for node in self.unique_blocks("vrrp_script") {
            vrrp.scripts.extend(self.vrrp_script(node, global));
        }
        for node in self.unique_blocks("vrrp_track_process") {
            vrrp.processes.extend(self.track_process(node));
        }
        for node in self.unique_blocks("vrrp_instance") {
            vrrp.instances.extend(self.instance(node, &vrrp));
        }
        let mut routers: Vec<(&str, u8, bool, &str)> = Vec::new();
        let mut clashes = Vec::new();
        for instance in &vrrp.instances {
            let Some(interface) = &instance.interface else { continue };
            let v6 = instance.addresses.first().is_some_and(|first| first.address.is_ipv6());
            let router = (interface.as_str(), instance.router_id, v6);
            match routers.iter().find(|(interface, id, six, _)| (*interface, *id, *six) == router) {
                Some((.., other)) if instance.peers.is_empty() => {
                    clashes.push((instance.name.clone(), (*other).to_owned()));
                }
                _ => routers.push((router.0, router.1, router.2, &instance.name)),
            }
        }
        for (name, other) in clashes {
            if let Some(node) =
                self.blocks("vrrp_instance").into_iter().find(|node| node.text(1) == Some(&name))
            {
                let message = format!("{name} has the virtual_router_id and interface of {other}");
                self.complain(node.child("virtual_router_id").unwrap_or(node).blame(message));
            }
        }
        for node in self.unique_blocks("vrrp_sync_group") {
            vrrp.groups.extend(self.sync_group(node, &vrrp));
        }
        vrrp.link_delays = self.link_delays(&vrrp.instances);
        [vrrp.startup_delay, vrrp.boot_delay] = self.delays();
        vrrp
    }

    /// The files, whose faults the services' part has complained of.
    fn number_files_again(&mut self) -> Vec<TrackFile> {
        let before = self.complaints.len();
        let files = self.number_files();
        self.complaints.truncate(before);
        for name in ["track_file", "vrrp_track_file"] {
            for node in self.blocks(name).into_iter().flat_map(Node::children) {
                self.tell_idle(node, &idle::TRACK_FILE);
            }
        }
        files.into_iter().map(|(name, file)| TrackFile { name, file }).collect()
    }

    fn vrrp_script(&mut self, node: &Node, global: &Global) -> Option<VrrpScript> {
        let Some(command) = node.child("script") else {
            self.complain(node.blame("the vrrp_script has no script"));
            return None;
        };
        let name = text(node)?;
        let own_user = node.child("user").and_then(|child| self.user(child, 1));
        let script = self.script_of(command, own_user.or_else(|| global.script_user.clone()))?;
        let interval = node.child("interval").and_then(duration).unwrap_or(Duration::from_secs(1));
        Some(VrrpScript {
            name,
            script,
            interval,
            timeout: node.child("timeout").and_then(duration).unwrap_or(interval),
            weight: node.child("weight").map_or(Weight::default(), weight_of),
            rise: node.child("rise").and_then(|child| count(child, 1)).unwrap_or(1),
            fall: node.child("fall").and_then(|child| count(child, 1)).unwrap_or(1),
            begins_failed: node.child("init_fail").is_some(),
        })
    }

    fn track_process(&mut self, node: &Node) -> Option<TrackProcess> {
        let Some(process) = node.child("process") else {
            self.complain(node.blame("the vrrp_track_process names no process"));
            return None;
        };
        let delay = |name: &str| node.child(name).or_else(|| node.child("delay")).and_then(duration);
        let arguments = match node.child("param_match").map(|child| child.text(1)) {
            None => Arguments::AsGiven,
            Some(None) => Arguments::Exact,
            Some(Some(word)) if word.eq_ignore_ascii_case("partial") => Arguments::Partial,
            Some(Some(_)) => Arguments::Initial,
        };
        let number = |name: &str| node.child(name).and_then(|child| count(child, 1));
        // "There must be none" takes a quorum of one away, as in keepalived.
        let quorum = match (number("quorum"), number("quorum_max")) {
            (None | Some(1), Some(0)) => 0,
            (own, _) => own.unwrap_or(1),
        };
        let quorum_max = number("quorum_max").filter(|most| *most >= quorum);
        if let (Some(word), None) = (node.child("quorum_max"), quorum_max) {
            self.complain(word.blame("quorum_max is below quorum: it is left out").only_warns());
        }
        Some(TrackProcess {
            name: text(node)?,
            arguments,
            quorum_max: quorum_max.unwrap_or(u32::MAX),
            up_after: delay("fork_delay").unwrap_or_default(),
            down_after: delay("terminate_delay").unwrap_or_default(),
            command: process.words[1..].iter().map(|word| word.text.clone()).collect(),
            weight: node.child("weight").map_or(Weight::default(), weight_of),
            quorum,
            full_command: node.child("full_command").is_some(),
        })
    }

    fn instance(&mut self, node: &Node, vrrp: &Vrrp) -> Option<Instance> {
        let name = text(node)?;
        let Some(router_id) = node.child("virtual_router_id").and_then(|child| count(child, 1)) else {
            if !node.mentions("virtual_router_id") {
                self.complain(node.blame(format!("{name} has no virtual_router_id")));
            }
            return None;
        };
        let global_version =
            self.blocks("global_defs").into_iter().find_map(|block| block.child("vrrp_version"));
        let version = node.child("version").or(global_version).and_then(|child| count(child, 1)).unwrap_or(2);
        let owner = node
            .child("state")
            .and_then(|child| child.text(1))
            .is_some_and(|state| state.eq_ignore_ascii_case("MASTER"));
        let mut instance = Instance {
            name,
            state: if owner { State::Master } else { State::Backup },
            interface: None,
            router_id: router_id as u8,
            priority: 100,
            advertisement: Duration::from_secs(1),
            version: version as u8,
            authentication: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            peers: Vec::new(),
            source: None,
            no_preempt: false,
            preempt_delay: Duration::ZERO,
            accept: true,
            vmac: None,
            track: Track::default(),
            ignores_interface: false,
            arbiter: None,
            notify: Notify::default(),
            wire: self.wire(node),
            announcing: self.announcing(node),
            further: Vec::new(),
        };
        for child in node.children() {
            self.instance_word(child, vrrp, &mut instance);
        }
        self.check_instance(node, &mut instance);
        Some(instance)
    }

    fn instance_word(&mut self, node: &Node, vrrp: &Vrrp, instance: &mut Instance) {
        match node.name() {
            "state" | "virtual_router_id" | "version" => {}
            "interface" => instance.interface = text(node),
            "priority" => instance.priority = count(node, 1).unwrap_or(100) as u8,
            "advert_int" => instance.advertisement = duration(node).unwrap_or(Duration::from_secs(1)),
            "authentication" => instance.authentication = self.authentication(node),
            "virtual_ipaddress" => instance.addresses.extend(self.addresses(node)),
            "virtual_ipaddress_excluded" => instance.excluded.extend(self.addresses(node)),
            "virtual_routes" | "virtual_rules" => {
                let list =
                    if node.name() == "virtual_rules" { &mut instance.rules } else { &mut instance.routes };
                list.extend(node.children().iter().map(words));
                let message = format!(
                    "{} are not put in place by this director: notify_master and notify_backup can run ip(8)",
                    node.name()
                );
                self.unfit.push(node.blame(message));
            }
            "unicast_peer" => {
                for peer in node.children() {
                    instance.peers.extend(self.peer(peer));
                }
            }
            "mcast_src_ip" | "unicast_src_ip" => instance.source = address(node, 1),
            "nopreempt" => instance.no_preempt = true,
            "preempt" => instance.no_preempt = false,
            "preempt_delay" => instance.preempt_delay = duration(node).unwrap_or_default(),
            "accept" => instance.accept = true,
            "no_accept" => {
                instance.accept = false;
                let message = "no_accept has no effect here: a proxy takes in what comes to the addresses";
                self.unfit.push(node.blame(message).only_warns());
            }
            "use_vmac" => instance.vmac = Some(text(node)),
            "dont_track_primary" => instance.ignores_interface = true,
            "arbiter" => instance.arbiter = self.arbiter(node, &instance.name),
            _ if self.track(node, vrrp, &mut instance.track) => {}
            _ if self.notify(node, &mut instance.notify) => {}
            word if WIRE_WORDS.contains(&word) => {}
            word => {
                if let Some((_, why)) = UNFIT.iter().find(|(unfit, _)| *unfit == word) {
                    self.unfit.push(node.blame(format!("{word}: {why}")));
                }
                self.tell_idle(node, &idle::INSTANCE);
                if word == "old_unicast_checksum" && node.text(1).is_none() {
                    let message = "old_unicast_checksum: adverts have the checksum of RFC 5798 alone";
                    self.unfit.push(node.blame(message));
                }
                instance.further.push(words(node));
            }
        }
    }

    fn check_instance(&mut self, node: &Node, instance: &mut Instance) {
        let name = &instance.name;
        if instance.interface.is_none() && instance.peers.is_empty() {
            self.complaints.push(node.blame(format!("{name} has neither an interface nor unicast peers")));
        }
        if instance.addresses.is_empty() && node.child("no_virtual_ipaddress").is_none() {
            self.complaints.push(node.blame(format!("{name} has no virtual_ipaddress")).only_warns());
        }
        let families = instance.addresses.iter().map(|address| address.address.is_ipv6());
        let v6 = families.clone().any(|v6| v6);
        if v6 && families.clone().any(|v6| !v6) {
            let block = node.child("virtual_ipaddress").unwrap_or(node);
            let message =
                "IPv4 and IPv6 addresses together: put those of one family into virtual_ipaddress_excluded";
            self.complaints.push(block.blame(message));
        }
        if v6 {
            instance.version = 3;
        } else if let Some(word) = node.child("native_ipv6").filter(|_| !instance.addresses.is_empty()) {
            self.complaints.push(word.blame("native_ipv6 needs IPv6 addresses in virtual_ipaddress"));
        }
        self.check_reach(node, instance, v6);
        let authentication = node.child("authentication");
        if let (Some(block), 3) = (authentication, instance.version) {
            self.complaints
                .push(block.blame("VRRP version 3 has no authentication: it is left out").only_warns());
            instance.authentication = None;
        }
        let longest =
            if instance.version == 3 { Duration::from_millis(40_950) } else { Duration::from_secs(255) };
        let whole = instance.version == 3 || instance.advertisement.subsec_nanos() == 0;
        if let Some(interval) =
            node.child("advert_int").filter(|_| instance.advertisement > longest || !whole)
        {
            let message = "wanted whole seconds up to 255 with version 2, up to 40.95 seconds with version 3";
            self.complaints.push(interval.blame(message));
        }
        if let Some(preempt) = node.child("nopreempt").filter(|_| instance.state == State::Master) {
            let message = "nopreempt needs state BACKUP: it is taken to begin as BACKUP";
            self.complaints.push(preempt.blame(message).only_warns());
            instance.state = State::Backup;
        }
        if let (Some(block), Some(Authentication::Header(_)), State::Master) =
            (authentication, &instance.authentication, instance.state)
        {
            let message = "an authentication header needs state BACKUP: it is taken to begin as BACKUP";
            self.complaints.push(block.blame(message).only_warns());
            instance.state = State::Backup;
        }
    }

    /// What makes no sense together of how adverts and addresses travel, those of IPv6 or of IPv4.
    fn check_reach(&mut self, node: &Node, instance: &Instance, v6: bool) {
        let mut warn = |word: &str, message: &str| {
            self.complaints.extend(node.child(word).map(|child| child.blame(message).only_warns()));
        };
        if instance.peers.is_empty() {
            for word in ["unicast_src_ip", "unicast_ttl", "check_unicast_src"] {
                warn(word, &format!("{word} without a unicast_peer: adverts go to the multicast group"));
            }
        }
        if instance.vmac.is_none() {
            warn("vmac_xmit_base", "vmac_xmit_base has no effect without use_vmac");
        }
        if let Some(word) = node.child("unicast_fault_no_peer").filter(|_| instance.peers.is_empty()) {
            self.complaints
                .push(word.blame("there is no unicast_peer: the instance would be in fault for good"));
        }
        if let Some(word) = node.child("mcast_dst_ip") {
            // Without addresses the family is its own.
            let own = address(word, 1).is_some_and(|group| group.is_ipv6());
            self.check_group(word, if instance.addresses.is_empty() { own } else { v6 });
        }
        let elsewhere = |address: &&Address| {
            address.address.is_ipv6() != v6
                || address.device.is_some() && address.device != instance.interface
        };
        let apart = instance.addresses.iter().chain(&instance.excluded).any(|address| elsewhere(&address));
        if let Some(word) = node.child("use_vmac_addr").filter(|_| apart) {
            let message = "use_vmac_addr: this director gives no address a virtual MAC of its own";
            self.unfit.push(word.blame(message));
        }
    }

    fn authentication(&mut self, node: &Node) -> Option<Authentication> {
        let Some(mut password) = node.child("auth_pass").and_then(text) else {
            self.complain(node.blame("the authentication has no auth_pass"));
            return None;
        };
        if password.len() > 8 {
            let child = node.child("auth_pass").unwrap_or(node);
            self.complain(child.blame("only the first 8 bytes of auth_pass count").only_warns());
            while password.len() > 8 {
                password.pop();
            }
        }
        let header = node
            .child("auth_type")
            .and_then(|child| child.text(1))
            .is_some_and(|kind| kind.eq_ignore_ascii_case("AH"));
        Some(if header { Authentication::Header(password) } else { Authentication::Password(password) })
    }

    fn addresses(&mut self, block: &Node) -> Vec<Address> {
        let mut addresses = Vec::new();
        for node in block.children() {
            let Some((ip, prefix)) = schema::network(node.name()) else { continue };
            let mut found = Address { address: ip, prefix, device: None, label: None, options: Vec::new() };
            let mut words = node.words[1..].iter();
            while let Some(word) = words.next() {
                let takes_value = !SINGLE_OPTIONS.contains(&word.text.as_str());
                if takes_value && !VALUED_OPTIONS.contains(&word.text.as_str()) {
                    self.complain(word.blame(format!("unknown option \"{}\" of an address", word.text)));
                    break;
                }
                let value = if takes_value { words.next() } else { None };
                match (word.text.as_str(), value) {
                    ("scope", Some(value)) if !is_scope(&value.text) => {
                        self.complain(
                            value.blame("wanted global, site, link, host, nowhere or a number from 0 to 255"),
                        );
                    }
                    ("peer" | "to", Some(value)) if schema::network(&value.text).is_none() => {
                        self.complain(value.blame("wanted an IP address"));
                    }
                    ("dev", Some(value)) => found.device = Some(value.text.clone()),
                    ("label", Some(value)) => found.label = Some(value.text.clone()),
                    (_, None) if takes_value => {
                        self.complain(word.blame(format!("{} needs a value", word.text)))
                    }
                    (option, value) => {
                        found.options.push(option.to_owned());
                        found.options.extend(value.map(|value| value.text.clone()));
                    }
                }
            }
            addresses.push(found);
        }
        addresses
    }

    fn peer(&mut self, node: &Node) -> Option<Peer> {
        let mut peer = Peer { address: address(node, 0)?, ttl: (0, 255) };
        for pair in node.words[1..].chunks(2) {
            let value = pair.get(1).and_then(|word| word.text.parse().ok());
            match (pair[0].text.as_str(), value) {
                ("min_ttl", Some(value)) => peer.ttl.0 = value,
                ("max_ttl", Some(value)) => peer.ttl.1 = value,
                _ => self.complain(pair[0].blame("wanted min_ttl or max_ttl and a number from 0 to 255")),
            }
        }
        Some(peer)
    }

    /// Takes in a `track_…` block; says whether it was one.
    fn track(&mut self, node: &Node, vrrp: &Vrrp, track: &mut Track) -> bool {
        let files: Vec<&str> = vrrp.files.iter().map(|file| file.name.as_str()).collect();
        let scripts: Vec<&str> = vrrp.scripts.iter().map(|script| script.name.as_str()).collect();
        let processes: Vec<&str> = vrrp.processes.iter().map(|process| process.name.as_str()).collect();
        let sessions: Vec<&str> =
            self.blocks("bfd_instance").into_iter().filter_map(|session| session.text(1)).collect();
        let (list, known) = match node.name() {
            "track_interface" => (&mut track.interfaces, None),
            "track_script" => (&mut track.scripts, Some(("vrrp_script", scripts))),
            "track_file" => (&mut track.files, Some(("track_file", files))),
            "track_process" => (&mut track.processes, Some(("vrrp_track_process", processes))),
            "track_bfd" => (&mut track.sessions, Some(("bfd_instance", sessions))),
            _ => return false,
        };
        if node.name() == "track_bfd" {
            self.unfit.push(node.blame("track_bfd is not supported: this director speaks no BFD"));
        }
        for child in node.children() {
            let name = child.name();
            if let Some((kind, known)) = &known
                && !known.contains(&name)
            {
                self.complaints.push(child.words[0].blame(format!("there is no {kind} {name}")));
                continue;
            }
            if child.words.len() == 2 {
                self.complaints.push(child.blame("weight needs a value"));
                continue;
            }
            let weight = child.text(2).and_then(schema::integer);
            let reversed = child.text(3).is_some_and(|word| word.eq_ignore_ascii_case("reverse"));
            let weight = weight.map(|value| Weight { value, reversed });
            list.push((name.to_owned(), weight));
        }
        true
    }

    /// Takes in a word about who is told; says whether it was one.
    fn notify(&mut self, node: &Node, notify: &mut Notify) -> bool {
        let place = match node.name() {
            "notify_master" => &mut notify.master,
            "notify_backup" => &mut notify.backup,
            "notify_fault" => &mut notify.fault,
            "notify_stop" => &mut notify.stop,
            "notify_deleted" => {
                notify.deleted = node.text(1).and_then(|_| self.script(node));
                return true;
            }
            "notify" => &mut notify.any,
            "notify_master_rx_lower_pri" => &mut notify.lower_priority,
            "notify_split_brain" => &mut notify.split_brain,
            "smtp_alert" => {
                notify.mail = Mail::of(switched_on(node));
                return true;
            }
            _ => return false,
        };
        *place = self.script(node);
        true
    }

    fn sync_group(&mut self, node: &Node, vrrp: &Vrrp) -> Option<SyncGroup> {
        let mut group = SyncGroup {
            name: text(node)?,
            members: Vec::new(),
            track: Track::default(),
            weights_count: node.child("sync_group_tracking_weight").is_some(),
            notify: Notify::default(),
        };
        for child in node.children() {
            if child.name() == "group" {
                for member in child.children() {
                    if vrrp.instances.iter().any(|instance| instance.name == member.name()) {
                        group.members.push(member.name().to_owned());
                    } else {
                        self.complain(member.blame(format!("there is no vrrp_instance {}", member.name())));
                    }
                }
            } else if !self.track(child, vrrp, &mut group.track) && !self.notify(child, &mut group.notify) {
                self.tell_idle(child, &idle::GROUP);
            }
        }
        if group.members.is_empty() {
            self.complain(node.blame("the vrrp_sync_group has no members"));
            return None;
        }
        self.check_arbiters(node, &group, vrrp);
        Some(group)
    }
}

fn is_scope(word: &str) -> bool {
    ["global", "universe", "site", "link", "host", "nowhere"].contains(&word) || word.parse::<u8>().is_ok()
}

fn weight_of(node: &Node) -> Weight {
    let reversed = node.text(2).is_some_and(|word| word.eq_ignore_ascii_case("reverse"));
    Weight { value: node.text(1).and_then(schema::integer).unwrap_or_default(), reversed }
}

fn words(node: &Node) -> Vec<String> {
    node.words.iter().map(|word| word.text.clone()).collect()
}

/// Options of an address that stand for themselves.
const SINGLE_OPTIONS: [&str; 7] =
    ["home", "-nodad", "mngtmpaddr", "noprefixroute", "autojoin", "no_track", "use_vmac"];

const VALUED_OPTIONS: [&str; 10] =
    ["brd", "broadcast", "dev", "scope", "label", "peer", "to", "preferred_lft", "track_group", "local"];
