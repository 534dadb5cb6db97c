//! keepalived's keywords, block by block.

mod global;
mod lvs;
mod vrrp;

use super::schema::{Block, Kind, block, flag, named_block, optional, outdated, word};

/// What stands outside of all blocks.
pub(crate) static FILE: Block = Block { name: "the configuration", keywords: FILE_KEYWORDS, items: None };

const FILE_KEYWORDS: &[super::schema::Keyword] = &[
    block("global_defs", &global::GLOBAL),
    block("linkbeat_interfaces", &global::LINKBEAT_INTERFACES),
    block("interface_up_down_delays", &global::INTERFACE_DELAYS),
    flag("linkbeat_use_polling"),
    word("net_namespace", &[Kind::Text]),
    word("net_namespace_ipvs", &[Kind::Text]),
    flag("namespace_with_ipsets"),
    word("instance", &[Kind::Text]),
    flag("use_pid_dir"),
    word("child_wait_time", &[Kind::Integer(0, 3600)]),
    named_block("track_group", &[Kind::Text], &global::TRACK_GROUP),
    block("static_ipaddress", &vrrp::ADDRESSES),
    block("static_routes", &vrrp::ROUTES),
    block("static_rules", &vrrp::RULES),
    named_block("track_file", &[Kind::Text], &global::TRACK_FILE),
    outdated(
        named_block("vrrp_track_file", &[Kind::Text], &global::TRACK_FILE),
        "track_file is its name today",
    ),
    named_block("vrrp_track_process", &[Kind::Text], &vrrp::TRACK_PROCESS),
    named_block("bfd_instance", &[Kind::Text], &global::BFD_INSTANCE),
    named_block("vrrp_script", &[Kind::Text], &vrrp::SCRIPT),
    named_block("vrrp_sync_group", &[Kind::Text], &vrrp::SYNC_GROUP),
    block("garp_group", &vrrp::GARP_GROUP),
    named_block("vrrp_instance", &[Kind::Text], &vrrp::INSTANCE),
    named_block("virtual_server_group", &[Kind::Text], &lvs::VIRTUAL_SERVER_GROUP),
    VIRTUAL_SERVER,
    block("SSL", &lvs::SSL),
];

/// `IP [port]`, `fwmark N` or `group NAME`: what follows is checked where the model is built.
const VIRTUAL_SERVER: super::schema::Keyword = super::schema::Keyword {
    body: Some(&lvs::VIRTUAL_SERVER),
    ..optional("virtual_server", 1, &[Kind::Text, Kind::Text])
};
