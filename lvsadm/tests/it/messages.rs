//! What is said of a command line that is wrong, and with which code.

use crate::director::{Fake, words};

const RULES: &str = "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n-A -u 192.0.2.1:53\n";

/// Each command line, what it prints to standard error, and its code.
const TABLE: &[(&str, &str, u8)] = &[
    // Addresses.
    ("-A -t 256.0.0.1:80", "illegal virtual server address[:port] specified\n", 2),
    ("-A -t [2001:db8::1] -p", "illegal virtual server address[:port] specified\n", 2),
    ("-A -t 1234 -p", "illegal virtual server address[:port] specified\n", 2),
    ("-A -t 192.0.2.9:no-such-service", "illegal virtual server address[:port] specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.1:", "illegal real server address[:port] specified\n", 2),
    ("-A -t 192.0.2.9", "Zero port specified for non-persistent service\n", 2),
    ("-E -t 192.0.2.9:0", "Zero port specified for non-persistent service\n", 2),
    // Numbers.
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -w x", "illegal weight specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -w -1", "illegal weight specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -w 2147483648", "illegal weight specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -x 2147483648", "illegal u_threshold specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -y x", "illegal l_threshold specified\n", 2),
    ("-A -f 0", "invalid fwmark value `0' specified\n", 2),
    ("-A -f 4294967296", "invalid fwmark value `4294967296' specified\n", 2),
    ("-A -f 0x10", "invalid fwmark value `0x10' specified\n", 2),
    ("-A -t 192.0.2.9:80 -p abc", "invalid timeout value `abc' specified\n", 2),
    ("-A -t 192.0.2.9:80 -p 0", "invalid timeout value `0' specified\n", 2),
    ("-A -t 192.0.2.9:80 -p 2678401", "invalid timeout value `2678401' specified\n", 2),
    ("-A -t 192.0.2.9:80 -pn", "invalid timeout value `n' specified\n", 2),
    ("-A -t 192.0.2.9:80 --persistent=", "invalid timeout value `' specified\n", 2),
    // Masks.
    ("-A -t 192.0.2.9:80 -p -M abc", "illegal virtual server persistent mask specified\n", 2),
    ("-A -t 192.0.2.9:80 -p -M 24", "illegal virtual server persistent mask specified\n", 2),
    ("-A -t [2001:db8::1]:80 -p -M 0", "illegal ipv6 netmask specified\n", 2),
    ("-A -f 9 -6 -p -M 255.0.0.0", "illegal ipv6 netmask specified\n", 2),
    // Order.
    ("-A -6 -f 5", "-6 used before -f\n\n", 2),
    ("-A -t 192.0.2.9:80 -6", "-6 used before -f\n\n", 2),
    ("-A -t 192.0.2.9:80 -D", "invalid option `-D'\n", 2),
    ("-L --list", "invalid option `--list'\n", 2),
    ("-CS", "invalid option `-CS'\n", 2),
    ("-L --start-daemon master", "invalid option `master'\n", 2),
    // What goes together.
    ("-A -t 192.0.2.9:80 -o", "One-Packet Scheduling is only for UDP virtual services\n", 2),
    ("-A -t 192.0.2.9:80 -w 3", "Illegal 'weight' option with the 'add-service' command\n", 2),
    ("-C -n", "Illegal 'numeric' option with the 'flush' command\n", 2),
    ("-D -t 192.0.2.9:80 -n", "Illegal 'numeric' option with the 'delete-service' command\n", 2),
    (
        "-d -t 192.0.2.1:80 -r 10.0.0.1 -m",
        "Illegal 'forwarding-method' option with the 'delete-server' command\n",
        2,
    ),
    ("-R -n", "Illegal 'numeric' option with the 'restore' command\n", 2),
    ("-list", "Illegal 'scheduler' option with the 'list' command\n", 2),
    ("-A", "You need to supply the 'service-address' option for the 'add-service' command\n", 2),
    ("-a -t 192.0.2.1:80", "You need to supply the 'real-server' option for the 'add-server' command\n", 2),
    ("-A -t 192.0.2.9:80 -u 192.0.2.9:80", "multiple 'service-address' options specified\n", 2),
    ("-L -n -n", "multiple 'numeric' options specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -mi", "multiple 'forwarding-method' options specified\n", 2),
    (
        "-L --timeout -c",
        "The option 'timeout' conflicts with the 'connection' option in the 'list' command\n",
        2,
    ),
    (
        "-L -t 192.0.2.9:80 --timeout -c",
        "The option 'service-address' conflicts with the 'connection' option in the 'list' command\n",
        2,
    ),
    (
        "-L --daemon --timeout",
        "The option 'daemon' conflicts with the 'timeout' option in the 'list' command\n",
        2,
    ),
    ("-L -c --stats", "options conflicts in the list command\n", 2),
    ("-L --timeout --rate", "options conflicts in the list command\n", 2),
    ("-L --syncid 300", "illegal syncid specified\n", 2),
    ("-L --daemon --persistent-conn", "options conflicts in the list command\n", 2),
    ("-A -t 192.0.2.9:80 -b sh-port", "incompatible scheduler flag `sh-port'\n", 2),
    ("-A -t 192.0.2.9:80 -b mh-port -s sh", "incompatible scheduler flag `mh-port'\n", 2),
    ("-A -t 192.0.2.9:80 -b flag-1,bogus", "invalid scheduler flag `bogus'\n", 2),
    // Arguments.
    ("-A -t 192.0.2.9:80 foo", "unexpected argument foo\n", 2),
    ("-A foo -w 3", "unexpected argument foo\n", 2),
    ("foo -L", "unexpected argument foo\n", 2),
    ("-A -t 192.0.2.9:80 -p -- 30", "unexpected argument 30\n", 2),
    ("-A -s -t 192.0.2.9:80", "unexpected argument 192.0.2.9:80\n", 2),
    ("--set", "--set option requires 3 timeout values\n", 2),
    ("--set 1 2", "--set option requires 3 timeout values\n", 2),
    ("--set 1 2 3 4", "unexpected argument 4\n", 2),
    ("--set 1 x 3", "invalid timeout value `x' specified\n", 2),
    ("--set 1 2 3 -n", "Illegal 'numeric' option with the 'set' command\n", 2),
    // Daemons.
    ("--start-daemon bogus", "illegal start-daemon parameter specified\n", 2),
    ("--stop-daemon bogus", "illegal start_daemon specified\n", 2),
    ("--start-daemon master --syncid 256", "illegal syncid specified\n", 2),
    ("--start-daemon master --sync-maxlen 0", "illegal sync-maxlen specified\n", 2),
    ("--start-daemon master --mcast-port 0", "illegal mcast-port specified\n", 2),
    ("--start-daemon master --mcast-ttl 256", "illegal mcast-ttl specified\n", 2),
    ("--start-daemon master --mcast-group 10.0.0.1", "invalid IPv4 mcast-group `10.0.0.1'\n", 2),
    ("--start-daemon master --mcast-group 2001:db8::1", "invalid IPv6 mcast-group `2001:db8::1'\n", 2),
    ("--stop-daemon master --mcast-ttl 1", "Illegal 'mcast-ttl' option with the 'stop-daemon' command\n", 2),
    (
        "--start-daemon backup --syncid 3",
        "Synchronization follows keepalived.conf: lvs_sync_daemon in global_defs\n",
        255,
    ),
    // Tunnels.
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -m --tun-type ipip", "Tunnel options conflict with forward method\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 --tun-nocsum", "Tunnel options conflict with forward method\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type IPIP", "illegal tunnel type specified\n", 2),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gue --tun-port 0", "illegal tunnel port specified\n", 2),
    (
        "-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gue",
        "You need to supply the 'tun-port' option for the 'gue' tunnel type\n",
        2,
    ),
    (
        "-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gue --tun-port 6080 --tun-csum --tun-remcsum",
        "The option 'tun-remcsum' conflicts with the 'tun-csum' option in the 'gue' tunnel type\n",
        2,
    ),
    (
        "-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-csum",
        "Illegal 'tun-csum' option with the 'ipip' tunnel type\n",
        2,
    ),
    (
        "-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gre --tun-remcsum",
        "Illegal 'tun-remcsum' option with the 'gre' tunnel type\n",
        2,
    ),
    (
        "-a -t 192.0.2.1:80 -r 2001:db8::1",
        "Different address family is allowed only for tunneling servers\n",
        2,
    ),
    // What is no option.
    ("foo", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("-n", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("-n -L", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("--set=1 2 3", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("--start-daemon", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("-A -t 192.0.2.9:80 --bogus=3", "--bogus=3: unknown option\n", 255),
    ("-L --num", "--num: unknown option\n", 255),
    ("-Lqn", "-Lqn: unknown option\n", 255),
    ("-A -t 192.0.2.9:80 -p -5", "-5: unknown option\n", 255),
    ("-A -t", "-t: missing argument\n", 255),
    ("-A --tcp-service", "--tcp-service: missing argument\n", 255),
    ("-Ln=3", "-Ln=3: option does not take an argument\n", 255),
    ("-L --numeric=", "--numeric=: option does not take an argument\n", 255),
    // What does not fit what there is.
    ("-A -t 192.0.2.1:80", "Service already exists\n", 255),
    ("-E -t 192.0.2.9:80", "No such service\n", 255),
    ("-D -t 192.0.2.9:80", "No such service\n", 255),
    ("-D -u 192.0.2.1:80", "No such service\n", 255),
    ("-Z -t 192.0.2.9:80", "No such service\n", 255),
    ("-L -t 192.0.2.9:80", "No such service\n", 1),
    ("-a -t 192.0.2.1:80 -r 10.0.0.1", "Destination already exists\n", 255),
    ("-a -t 192.0.2.9:80 -r 10.0.0.1", "Service not defined\n", 255),
    ("-e -t 192.0.2.1:80 -r 10.0.0.2", "No such destination\n", 255),
    ("-d -t 192.0.2.1:80 -r 10.0.0.1:81", "No such destination\n", 255),
    ("-d -f 7 -r 10.0.0.1", "Service not defined\n", 255),
    ("-A -t 192.0.2.9:80 -s bogus", "Scheduler or persistence engine not found\n", 255),
    ("-a -t 192.0.2.1:80 -r 10.0.0.2 -x 3 -y 5", "Numerical result out of range\n", 255),
    (
        "-a -t 192.0.2.1:80 -r 224.0.0.1",
        "Invalid operation.  Possibly wrong module version, address not unicast, ...\n",
        255,
    ),
    ("-A -u 192.0.2.9:5060 --pe bogus -p", "Scheduler or persistence engine not found\n", 255),
    ("-A -u 192.0.2.9:5060 --pe bogus", "Scheduler or persistence engine not found\n", 255),
    (
        "-A -t 192.0.2.9:5060 --pe sip -p",
        "Invalid operation.  Possibly wrong module version, address not unicast, ...\n",
        255,
    ),
    // What ipvsadm does not have.
    ("-L -c --health", "options conflicts in the list command\n", 2),
    ("-S --json", "Illegal 'json' option with the 'save' command\n", 2),
    ("-A -t 192.0.2.9:80 --backup", "Illegal 'backup' option with the 'add-service' command\n", 2),
    ("-A --pool", "--pool: missing argument\n", 255),
    ("-D --pool nosuch", "No such service\n", 255),
    (
        "--explain",
        "--explain requires a service, as VIP:PORT, a pool's name or an option, and a client address\n",
        2,
    ),
    (
        "--explain 192.0.2.1:80",
        "--explain requires a service, as VIP:PORT, a pool's name or an option, and a client address\n",
        2,
    ),
    ("--explain 192.0.2.1:80 198.51.100.7 foo", "unexpected argument foo\n", 2),
    ("--explain 192.0.2.1:80 198.51.100.777", "illegal client address[:port] specified\n", 2),
    ("--explain 192.0.2.9:80 198.51.100.7", "No such service\n", 255),
    ("--drain", "Try `lvsadm -h' or 'lvsadm --help' for more information.\n", 255),
    ("--drain 10.0.0.999", "illegal real server address[:port] specified\n", 2),
    ("--drain 10.0.0.1 --deadline x", "invalid timeout value `x' specified\n", 2),
    ("--drain 10.0.0.9", "No such destination\n", 255),
    ("--drain 10.0.0.1:80 -t 192.0.2.9:80", "Service not defined\n", 255),
    ("--drain 10.0.0.1:81", "No such destination\n", 255),
];

#[test]
fn every_mistake_has_ipvsadms_message_and_code() {
    for (line, stderr, code) in TABLE {
        let fake = Fake::with(RULES);
        let output = fake.run(line);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str(), output.code),
            ("", *stderr, *code),
            "{line}"
        );
        assert_eq!(*fake.commits.lock().unwrap(), 0, "{line}");
    }
}

#[test]
fn empty_word_is_no_command_and_no_value() {
    let fake = Fake::default();
    assert_eq!(lvsadm::run(&[String::new()], "", &fake).code, 255);
    let mut line = words("-A -t 192.0.2.9:80 -p");
    line.push(String::new());
    assert_eq!(lvsadm::run(&line, "", &fake).stderr, "invalid timeout value `' specified\n");
}

#[test]
fn every_way_to_write_an_option_is_understood() {
    for line in [
        "-A -t 192.0.2.9:80 -s rr -p 30",
        "-At 192.0.2.9:80 -srr -p30",
        "-At192.0.2.9:80 -s=rr -p=30",
        "-A -p 30 -s rr -t 192.0.2.9:80",
        "--add-service --tcp-service=192.0.2.9:80 --scheduler=rr --persistent=30",
        "--add-service --tcp-service 192.0.2.9:80 --scheduler rr --persistent 30",
        "-A -t=192.0.2.9:80 -s rr -p +30 --",
        "-A -t 192.0.2.9:080 -s rr -p 030",
    ] {
        let fake = Fake::default();
        fake.stdout(line);
        assert_eq!(fake.stdout("-Sn"), "-A -t 192.0.2.9:80 -s rr -p 30\n", "{line}");
    }
}

#[test]
fn value_that_may_be_left_out_has_its_default() {
    for line in ["-A -t 192.0.2.9:80 -p", "-A -p -t 192.0.2.9:80", "-A -t 192.0.2.9:80 --persistent -s wlc"] {
        let fake = Fake::default();
        fake.stdout(line);
        assert_eq!(fake.stdout("-Sn"), "-A -t 192.0.2.9:80 -s wlc -p 360\n", "{line}");
    }
}

#[test]
fn mask_is_kept_wherever_it_stands() {
    let fake = Fake::default();
    fake.stdout("-A -M 64 -p -t [2001:db8::1]:80");
    assert_eq!(fake.stdout("-Sn"), "-A -t [2001:db8::1]:80 -s wlc -p 360 -M 64\n");
}

#[track_caller]
fn check_server(service: &str, server: &str, expected: &str) {
    let fake = Fake::with("-A -t 192.0.2.1:80\n-A -f 7\n");
    fake.stdout(&format!("-a {service} -r {server}"));
    let saved = fake.stdout("-Sn");
    let line = saved.lines().find(|line| line.starts_with("-a")).unwrap();
    assert_eq!(line, format!("-a {service} -r {expected}"));
}

#[test]
fn server_without_port_has_that_of_its_service() {
    check_server("-t 192.0.2.1:80", "10.0.0.1 -m", "10.0.0.1:80 -m -w 1");
    check_server("-t 192.0.2.1:80", "10.0.0.1:0 -m", "10.0.0.1:0 -m -w 1");
    check_server("-t 192.0.2.1:80", "10.0.0.1:81 -m", "10.0.0.1:81 -m -w 1");
    check_server("-f 7", "10.0.0.1 -m", "10.0.0.1:0 -m -w 1");
    check_server("-f 7", "10.0.0.1:81 -g", "10.0.0.1:81 -g -w 1");
}

#[test]
fn only_masquerading_leads_to_another_port() {
    check_server("-t 192.0.2.1:80", "10.0.0.1:81", "10.0.0.1:80 -g -w 1");
    check_server("-t 192.0.2.1:80", "10.0.0.1:81 -i", "10.0.0.1:80 -i -w 1 --tun-type ipip");
}

#[test]
fn editing_replaces_what_is_not_said() {
    let fake =
        Fake::with("-A -t 192.0.2.1:80 -s rr -p 60 -b flag-1\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 5\n");
    fake.stdout("-E -t 192.0.2.1:80");
    fake.stdout("-e -t 192.0.2.1:80 -r 10.0.0.1");
    assert_eq!(fake.stdout("-Sn"), "-A -t 192.0.2.1:80 -s wlc\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 1\n");
}

#[test]
fn editing_keeps_what_cannot_be_said() {
    let fake = Fake::with("-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n");
    let mut config = fake.director.config();
    config.services[0].health.fall = 7;
    config.services[0].servers[0].backup = true;
    fake.director.apply(config).unwrap();
    fake.stdout("-E -t 192.0.2.1:80 -s rr");
    fake.stdout("-e -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 2");
    let service = &fake.director.config().services[0];
    assert_eq!((service.health.fall, service.servers[0].backup), (7, true));
    assert_eq!(service.servers[0].weight.value(), 2);
}

#[test]
fn what_a_director_refuses_is_told_in_its_words() {
    let fake = Fake { only_masquerades: true, ..Fake::with(RULES) };
    let output = fake.run("-a -t 192.0.2.1:80 -r 10.0.0.2 -g");
    assert_eq!((output.stderr.as_str(), output.code), ("this director forwards by masquerading only\n", 255));
    assert_eq!(fake.director.config().services[0].servers.len(), 1);
}

#[test]
fn help_and_version_need_no_more_words() {
    let fake = Fake::default();
    for line in ["-h", "--help", "-hx", "-h -n"] {
        assert!(fake.stdout(line).contains("--add-service"), "{line}");
    }
    for line in ["-v", "--version", "-vL"] {
        assert!(fake.stdout(line).contains("ipvsadm v1.31"), "{line}");
    }
}
