//! `global_defs`, and the small blocks that belong to neither LVS nor VRRP.

use crate::keepalived::schema::{
    Arguments, Block, Keyword, Kind, block, flag, items, optional, outdated, script, several, switch, word,
};

pub(crate) static GLOBAL: Block = Block { name: "global_defs", keywords: KEYWORDS, items: None };

const KEYWORDS: &[Keyword] = &[
    // Who this is, and mail.
    word("router_id", &[Kind::Text]),
    block("notification_email", &EMAILS),
    word("notification_email_from", &[Kind::Text]),
    optional("smtp_server", 1, &[Kind::Text, Kind::Port]),
    word("smtp_helo_name", &[Kind::Text]),
    word("smtp_connect_timeout", &[Kind::Integer(1, MANY)]),
    switch("smtp_alert"),
    switch("smtp_alert_vrrp"),
    switch("smtp_alert_checker"),
    switch("checker_log_all_failures"),
    flag("no_email_faults"),
    flag("no_checker_emails"),
    // Scripts.
    optional("script_user", 1, &[Kind::Text, Kind::Text]),
    flag("enable_script_security"),
    flag("use_symlink_paths"),
    flag("set_supplementary_groups"),
    script("startup_script"),
    word("startup_script_timeout", &[Kind::Integer(1, 1000)]),
    script("shutdown_script"),
    word("shutdown_script_timeout", &[Kind::Integer(1, 1000)]),
    script("notify_fifo"),
    script("notify_fifo_script"),
    script("vrrp_notify_fifo"),
    script("vrrp_notify_fifo_script"),
    script("lvs_notify_fifo"),
    script("lvs_notify_fifo_script"),
    flag("fifo_write_vrrp_states_on_reload"),
    // LVS.
    several("lvs_sync_daemon", 1, Kind::Text),
    // Ours: who may take part in it.
    word("lvs_sync_key", &[Kind::Text]),
    block("lvs_sync_peers", &PEERS),
    several("lvs_timeouts", 2, Kind::Text),
    flag("lvs_flush"),
    optional("lvs_flush_on_stop", 0, &[Kind::Choice(&["VS"])]),
    flag("rs_init_notifies"),
    optional("nftables_ipvs", 0, &[Kind::Text]),
    word("nftables_ipvs_priority", &[Kind::Integer(i32::MIN as i64, i32::MAX as i64)]),
    word("nftables_ipvs_start_fwmark", &[Kind::Integer(1, MANY)]),
    // VRRP.
    word("vrrp_version", &[Kind::Integer(2, 3)]),
    word("vrrp_mcast_group4", &[Kind::Address]),
    word("vrrp_mcast_group6", &[Kind::Address]),
    switch("vrrp_strict"),
    switch("vrrp_skip_check_adv_addr"),
    flag("vrrp_check_unicast_src"),
    flag("v3_checksum_as_v2"),
    switch("vrrp_lower_prio_no_advert"),
    switch("vrrp_higher_prio_send_advert"),
    word("vrrp_down_timer_adverts", &[Kind::Integer(1, 100)]),
    switch("vrrp_notify_priority_changes"),
    flag("log_unknown_vrids"),
    word("vrrp_garp_master_delay", &[Kind::Integer(0, MANY)]),
    word("vrrp_garp_master_repeat", &[Kind::Integer(0, MANY)]),
    word("vrrp_garp_lower_prio_delay", &[Kind::Integer(0, MANY)]),
    word("vrrp_garp_lower_prio_repeat", &[Kind::Integer(0, MANY)]),
    word("vrrp_garp_master_refresh", &[Kind::Integer(0, MANY)]),
    word("vrrp_garp_master_refresh_repeat", &[Kind::Integer(1, MANY)]),
    word("vrrp_garp_interval", &[Kind::Seconds(0.0, LONG)]),
    word("vrrp_gna_interval", &[Kind::Seconds(0.0, LONG)]),
    switch("vrrp_min_garp"),
    several("vrrp_garp_extra_if", 1, Kind::Text),
    word("vrrp_startup_delay", &[Kind::Seconds(0.0, LONG)]),
    word("vrrp_delay_after_boot", &[Kind::Seconds(0.0, LONG)]),
    word("default_interface", &[Kind::Text]),
    optional("dynamic_interfaces", 0, &[Kind::Choice(&["allow_if_changes"])]),
    word("vmac_prefix", &[Kind::Text]),
    word("vmac_addr_prefix", &[Kind::Text]),
    // Firewall.
    optional("nftables", 0, &[Kind::Text]),
    word("nftables_priority", &[Kind::Integer(i32::MIN as i64, i32::MAX as i64)]),
    flag("nftables_counters"),
    flag("nftables_ifindex"),
    optional("vrrp_iptables", 0, &[Kind::Text, Kind::Text]),
    several("vrrp_ipsets", 0, Kind::Text),
    flag("disable_local_igmp"),
    // How the processes run.
    word("vrrp_priority", NICE),
    word("checker_priority", NICE),
    word("bfd_priority", NICE),
    word("vrrp_rt_priority", REAL_TIME),
    word("checker_rt_priority", REAL_TIME),
    word("bfd_rt_priority", REAL_TIME),
    word("vrrp_rlimit_rttime", &[Kind::Integer(1, MANY)]),
    word("checker_rlimit_rttime", &[Kind::Integer(1, MANY)]),
    word("bfd_rlimit_rttime", &[Kind::Integer(1, MANY)]),
    outdated(word("vrrp_rlimit_rtime", &[Kind::Integer(1, MANY)]), "vrrp_rlimit_rttime is its name today"),
    outdated(
        word("checker_rlimit_rtime", &[Kind::Integer(1, MANY)]),
        "checker_rlimit_rttime is its name today",
    ),
    outdated(word("bfd_rlimit_rtime", &[Kind::Integer(1, MANY)]), "bfd_rlimit_rttime is its name today"),
    flag("vrrp_no_swap"),
    flag("checker_no_swap"),
    flag("bfd_no_swap"),
    several("vrrp_cpu_affinity", 1, Kind::Integer(0, 4095)),
    several("checker_cpu_affinity", 1, Kind::Integer(0, 4095)),
    several("bfd_cpu_affinity", 1, Kind::Integer(0, 4095)),
    optional("max_auto_priority", 0, &[Kind::Integer(-1, 99)]),
    word("min_auto_priority_delay", &[Kind::Integer(1, MANY)]),
    // Start, reload, files.
    optional("reload_check_config", 0, &[Kind::Text]),
    word("reload_time_file", &[Kind::Text]),
    flag("reload_repeat"),
    optional("reload_file", 0, &[Kind::Text]),
    word("config_save_dir", &[Kind::Text]),
    word("tmp_config_directory", &[Kind::Text]),
    flag("process_names"),
    word("process_name", &[Kind::Text]),
    word("vrrp_process_name", &[Kind::Text]),
    word("checker_process_name", &[Kind::Text]),
    word("bfd_process_name", &[Kind::Text]),
    several("umask", 1, Kind::Text),
    word("random_seed", &[Kind::Integer(0, MANY)]),
    switch("data_use_instance"),
    word("state_dump_file", &[Kind::Text]),
    word("stats_dump_file", &[Kind::Text]),
    word("json_dump_file", &[Kind::Text]),
    word("json_version", &[Kind::Integer(1, 2)]),
    word("iproute_usr_dir", &[Kind::Text]),
    word("iproute_etc_dir", &[Kind::Text]),
    flag("linkbeat_use_polling"),
    // SNMP, D-Bus.
    word("snmp_socket", &[Kind::Text]),
    flag("enable_snmp_vrrp"),
    flag("enable_snmp_checker"),
    flag("enable_snmp_rfc"),
    flag("enable_snmp_rfcv2"),
    flag("enable_snmp_rfcv3"),
    flag("enable_traps"),
    optional("snmp_vs_stats_update_interval", 0, &[Kind::Seconds(0.0, LONG)]),
    optional("snmp_rs_stats_update_interval", 0, &[Kind::Seconds(0.0, LONG)]),
    flag("enable_dbus"),
    word("dbus_service_name", &[Kind::Text]),
    word("dbus_no_interface_name", &[Kind::Text]),
    // Buffers.
    word("vrrp_netlink_cmd_rcv_bufs", BYTES),
    switch("vrrp_netlink_cmd_rcv_bufs_force"),
    word("vrrp_netlink_monitor_rcv_bufs", BYTES),
    switch("vrrp_netlink_monitor_rcv_bufs_force"),
    word("lvs_netlink_cmd_rcv_bufs", BYTES),
    switch("lvs_netlink_cmd_rcv_bufs_force"),
    word("lvs_netlink_monitor_rcv_bufs", BYTES),
    switch("lvs_netlink_monitor_rcv_bufs_force"),
    word("process_monitor_rcv_bufs", BYTES),
    switch("process_monitor_rcv_bufs_force"),
    word("vrrp_rx_bufs_policy", &[Kind::Text]),
    word("vrrp_rx_bufs_multiplier", &[Kind::Integer(1, MANY)]),
];

static PEERS: Block = items("lvs_sync_peers", 1, &[Kind::Address], None);

static EMAILS: Block = items("notification_email", 1, &[Kind::Text], None);

pub(crate) static LINKBEAT_INTERFACES: Block =
    items("linkbeat_interfaces", 1, &[Kind::Text, Kind::Choice(&["MII", "ETHTOOL", "IOCTL"])], None);

pub(crate) static INTERFACE_DELAYS: Block = items(
    "interface_up_down_delays",
    2,
    &[Kind::Text, Kind::Seconds(0.0, 255.0), Kind::Seconds(0.0, 255.0)],
    None,
);

pub(crate) static TRACK_GROUP: Block =
    Block { name: "track_group", keywords: &[block("group", &GROUP)], items: None };

pub(crate) static GROUP: Block = Block {
    name: "group",
    keywords: &[],
    items: Some(Arguments { required: 1, kinds: &[Kind::Text], more: None }),
};

pub(crate) static TRACK_FILE: Block = Block {
    name: "track_file",
    keywords: &[
        word("file", &[Kind::Text]),
        optional("weight", 1, &[Kind::Integer(-WEIGHT, WEIGHT), Kind::Choice(&["reverse", "noreverse"])]),
        several("init_file", 0, Kind::Text),
    ],
    items: None,
};

pub(crate) static BFD_INSTANCE: Block = Block {
    name: "bfd_instance",
    keywords: &[
        word("neighbor_ip", &[Kind::Address]),
        word("source_ip", &[Kind::Address]),
        word("min_rx", &[Kind::Seconds(1.0, 1000.0)]),
        word("min_tx", &[Kind::Seconds(1.0, 1000.0)]),
        word("idle_tx", &[Kind::Seconds(1000.0, 10_000.0)]),
        word("multiplier", &[Kind::Integer(1, 255)]),
        flag("passive"),
        word("ttl", &[Kind::Integer(1, 255)]),
        word("hoplimit", &[Kind::Integer(1, 255)]),
        word("max_hops", &[Kind::Integer(-1, 255)]),
        optional("weight", 1, &[Kind::Integer(-253, 253), Kind::Choice(&["reverse", "noreverse"])]),
        flag("vrrp"),
        flag("checker"),
    ],
    items: None,
};

const NICE: &[Kind] = &[Kind::Integer(-20, 19)];
const REAL_TIME: &[Kind] = &[Kind::Integer(1, 99)];
const BYTES: &[Kind] = &[Kind::Integer(0, MANY)];
const MANY: i64 = u32::MAX as i64;
const WEIGHT: i64 = i32::MAX as i64;
const LONG: f64 = 1_000_000.0;
