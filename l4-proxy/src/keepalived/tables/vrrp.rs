//! `vrrp_instance` and the blocks it refers to.

use crate::keepalived::schema::{
    Block, Keyword, Kind, block, flag, items, optional, outdated, script, several, switch, word,
};
use crate::keepalived::tables::global::GROUP;

/// `IP[/LENGTH] [option …]`
pub(crate) static ADDRESSES: Block = items("ip address", 1, &[Kind::Network], Some(Kind::Text));

/// As `ip route add` takes them.
pub(crate) static ROUTES: Block = items("routes", 1, &[], Some(Kind::Text));

/// As `ip rule add` takes them.
pub(crate) static RULES: Block = items("rules", 1, &[], Some(Kind::Text));

pub(crate) static SCRIPT: Block = Block {
    name: "vrrp_script",
    keywords: &[
        word("script", &[Kind::Text]),
        word("interval", &[Kind::Seconds(0.000_001, LONG)]),
        word("timeout", &[Kind::Seconds(0.000_001, LONG)]),
        optional("weight", 1, &[Kind::Integer(-253, 253), REVERSE]),
        word("rise", &[Kind::Integer(1, MANY)]),
        word("fall", &[Kind::Integer(1, MANY)]),
        optional("user", 1, &[Kind::Text, Kind::Text]),
        flag("init_fail"),
    ],
    items: None,
};

pub(crate) static TRACK_PROCESS: Block = Block {
    name: "vrrp_track_process",
    keywords: &[
        several("process", 1, Kind::Text),
        optional("param_match", 0, &[Kind::Choice(&["initial", "partial"])]),
        optional("weight", 1, &[Kind::Integer(-254, 254), REVERSE]),
        word("quorum", &[Kind::Integer(1, 65_535)]),
        word("quorum_max", &[Kind::Integer(0, 65_535)]),
        word("fork_delay", &[Kind::Seconds(0.000_001, 3600.0)]),
        word("terminate_delay", &[Kind::Seconds(0.000_001, 3600.0)]),
        word("delay", &[Kind::Seconds(0.000_001, 3600.0)]),
        flag("full_command"),
    ],
    items: None,
};

pub(crate) static GARP_GROUP: Block = Block {
    name: "garp_group",
    keywords: &[
        word("garp_interval", &[Kind::Seconds(0.0, LONG)]),
        word("gna_interval", &[Kind::Seconds(0.0, LONG)]),
        word("interface", &[Kind::Text]),
        block("interfaces", &INTERFACES),
    ],
    items: None,
};

pub(crate) static SYNC_GROUP: Block = Block {
    name: "vrrp_sync_group",
    keywords: &[
        block("group", &GROUP),
        block("track_interface", &TRACK_INTERFACE),
        block("track_script", &TRACKED),
        block("track_file", &TRACKED),
        block("track_process", &TRACKED),
        block("track_bfd", &TRACKED),
        script("notify_master"),
        script("notify_backup"),
        script("notify_fault"),
        script("notify_stop"),
        optional("notify_deleted", 0, &[Kind::Text, Kind::Text, Kind::Text]),
        script("notify"),
        switch("notify_priority_changes"),
        switch("smtp_alert"),
        outdated(flag("global_tracking"), "it has no effect any more"),
        flag("sync_group_tracking_weight"),
    ],
    items: None,
};

pub(crate) static INSTANCE: Block = Block { name: "vrrp_instance", keywords: INSTANCE_KEYWORDS, items: None };

const INSTANCE_KEYWORDS: &[Keyword] = &[
    word("state", &[Kind::Choice(&["MASTER", "BACKUP"])]),
    word("interface", &[Kind::Text]),
    word("vrf", &[Kind::Text]),
    word("virtual_router_id", &[Kind::Integer(1, 255)]),
    word("priority", &[Kind::Integer(1, 255)]),
    word("advert_int", &[Kind::Seconds(0.01, 255.0)]),
    word("version", &[Kind::Integer(2, 3)]),
    block("authentication", &AUTHENTICATION),
    block("virtual_ipaddress", &ADDRESSES),
    block("virtual_ipaddress_excluded", &ADDRESSES),
    flag("no_virtual_ipaddress"),
    block("virtual_routes", &ROUTES),
    block("virtual_rules", &RULES),
    flag("promote_secondaries"),
    // How adverts travel.
    word("mcast_src_ip", &[Kind::Address]),
    word("mcast_dst_ip", &[Kind::Address]),
    word("unicast_src_ip", &[Kind::Address]),
    block("unicast_peer", &UNICAST_PEER),
    word("unicast_ttl", &[Kind::Integer(0, 255)]),
    flag("unicast_fault_no_peer"),
    flag("check_unicast_src"),
    optional("old_unicast_checksum", 0, &[Kind::Choice(&["never"])]),
    flag("track_src_ip"),
    flag("native_ipv6"),
    switch("skip_check_adv_addr"),
    switch("strict_mode"),
    flag("v3_checksum_as_v2"),
    word("down_timer_adverts", &[Kind::Integer(1, 100)]),
    switch("lower_prio_no_advert"),
    switch("higher_prio_send_advert"),
    switch("timer_expired_backup"),
    word("kernel_rx_buf_size", &[Kind::Integer(0, MANY)]),
    // Virtual MAC addresses.
    several("use_vmac", 0, Kind::Text),
    flag("use_vmac_addr"),
    flag("vmac_xmit_base"),
    several("use_ipvlan", 0, Kind::Text),
    // Gratuitous ARP.
    word("garp_master_delay", &[Kind::Integer(0, MANY)]),
    word("garp_master_repeat", &[Kind::Integer(1, MANY)]),
    word("garp_lower_prio_delay", &[Kind::Integer(0, MANY)]),
    word("garp_lower_prio_repeat", &[Kind::Integer(0, MANY)]),
    word("garp_master_refresh", &[Kind::Integer(0, MANY)]),
    word("garp_master_refresh_repeat", &[Kind::Integer(1, MANY)]),
    several("garp_extra_if", 1, Kind::Text),
    // Who is preferred.
    flag("nopreempt"),
    flag("preempt"),
    word("preempt_delay", &[Kind::Seconds(0.0, 1000.0)]),
    flag("accept"),
    flag("no_accept"),
    // What is watched.
    block("track_interface", &TRACK_INTERFACE),
    block("track_script", &TRACKED),
    block("track_file", &TRACKED),
    block("track_process", &TRACKED),
    block("track_bfd", &TRACKED),
    flag("dont_track_primary"),
    outdated(flag("linkbeat_use_polling"), "the block linkbeat_interfaces is meant for that"),
    // Who has a say beside the routers: of ours, keepalived has no such thing.
    block("arbiter", &ARBITER),
    // Who is told.
    script("notify_master"),
    script("notify_backup"),
    script("notify_fault"),
    script("notify_stop"),
    optional("notify_deleted", 0, &[Kind::Text, Kind::Text, Kind::Text]),
    script("notify"),
    script("notify_master_rx_lower_pri"),
    script("notify_split_brain"),
    switch("notify_priority_changes"),
    switch("smtp_alert"),
    word("debug", &[Kind::Integer(0, 4)]),
    outdated(
        word("lvs_sync_daemon_interface", &[Kind::Text]),
        "lvs_sync_daemon in global_defs is meant for that",
    ),
];

static AUTHENTICATION: Block = Block {
    name: "authentication",
    keywords: &[word("auth_type", &[Kind::Choice(&["PASS", "AH"])]), word("auth_pass", &[Kind::Text])],
    items: None,
};

static ARBITER: Block = Block {
    name: "arbiter",
    keywords: &[
        several("etcd", 1, Kind::Text),
        word("key", &[Kind::Text]),
        word("ping", &[Kind::Address]),
        word("ttl", &[Kind::Integer(3, 3600)]),
        word("on_arbiter_loss", &[Kind::Choice(&["keep", "yield"])]),
        word("ca_file", &[Kind::Text]),
        word("cert_file", &[Kind::Text]),
        word("key_file", &[Kind::Text]),
        word("user", &[Kind::Text]),
        word("password", &[Kind::Text]),
    ],
    items: None,
};

static UNICAST_PEER: Block = items("unicast_peer", 1, &[Kind::Address], Some(Kind::Text));

static TRACK_INTERFACE: Block = items("track_interface", 1, TRACK, None);

/// The name of a script, file, process or BFD instance, and the weight it has here.
static TRACKED: Block = items("the tracked", 1, TRACK, None);

const TRACK: &[Kind] = &[Kind::Text, Kind::Choice(&["weight"]), Kind::Integer(-254, 254), REVERSE];

static INTERFACES: Block = items("interfaces", 1, &[Kind::Text], None);

const REVERSE: Kind = Kind::Choice(&["reverse", "noreverse", "no_reverse"]);
const MANY: i64 = u32::MAX as i64;
const LONG: f64 = 1_000_000.0;
