//! Save and restore.

use lvsadm::Naming;

use crate::director::{Fake, words};

/// What `-S -n` writes, line for line as ipvsadm does, in the order of its listing.
const SAVED: &str = "\
-A -t 192.0.2.10:80 -s wrr
-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 1
-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 2
-A -t 192.0.2.10:443 -s rr -p 360 -M 255.255.255.0 -b flag-1,flag-2
-a -t 192.0.2.10:443 -r 10.0.0.3:443 -g -w 1
-A -u 192.0.2.10:53 -s rr -o
-a -u 192.0.2.10:53 -r 10.0.0.4:53 -i -w 1 --tun-type ipip
-a -u 192.0.2.10:53 -r 10.0.0.5:53 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -u 192.0.2.10:53 -r 10.0.0.6:53 -i -w 1 --tun-type gre --tun-nocsum
-A --sctp-service 10.1.0.1:80 -s lc
-A -t [2001:db8::10]:80 -s wlc -p 300 -M 64 -b flag-1
-a -t [2001:db8::10]:80 -r [2001:db8::a1]:80 -m -w 0
-A -f 7 -s wlc
-a -f 7 -r 10.0.0.9:0 -g -w 1
-A -f 8 -6 -s rr -b flag-3
";

#[test]
fn restored_table_is_the_saved_one() {
    let fake = Fake::default();
    let output = fake.run_with("-R", SAVED);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.code), ("", "", 0));
    assert_eq!(fake.stdout("-S -n"), SAVED);
    assert_eq!(lvsadm::rules::save(&fake.director.config(), Naming::Numeric), SAVED);
    let listing = fake.stdout("-Ln");
    assert!(listing.contains("\nTCP  192.0.2.10:80 wrr\n  -> 10.0.0.1:8080"), "{listing}");
    assert_eq!(listing.lines().count(), 3 + SAVED.lines().count());
}

#[test]
fn restore_is_committed_once() {
    let fake = Fake::default();
    fake.run_with("-R", SAVED);
    assert_eq!(*fake.commits.lock().unwrap(), 1);
}

#[test]
fn restore_adds_to_what_there_is() {
    let fake = Fake::with("-A -t 192.0.2.1:80\n");
    fake.run_with("--restore", "-A -t 192.0.2.2:80\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n");
    let saved =
        "-A -t 192.0.2.1:80 -s wlc\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1\n-A -t 192.0.2.2:80 -s wlc\n";
    assert_eq!(fake.stdout("-Sn"), saved);
}

#[test]
fn names_are_written_where_they_are_known_and_read_back() {
    let fake = Fake::with("-A -t 127.0.0.1:80 -s rr\n-a -t 127.0.0.1:80 -r 192.0.2.77:65000 -m\n");
    let saved = fake.stdout("-S");
    assert!(saved.contains("192.0.2.77:65000"), "{saved}");
    let again = Fake::default();
    assert_eq!(again.run_with("-R", &saved).code, 0);
    assert_eq!(again.stdout("-Sn"), fake.stdout("-Sn"));
}

/// The input, standard error, the code, and how many services there are then; there was one.
#[track_caller]
fn check(input: &str, stderr: &str, code: u8, services: usize) {
    let fake = Fake::with("-A -t 192.0.2.1:80\n");
    let output = fake.run_with("-R", input);
    assert_eq!((output.stderr.as_str(), output.code), (stderr, code), "{input}");
    assert_eq!(fake.director.config().services.len(), services, "{input}");
}

#[test]
fn blanks_carriage_returns_and_the_program_name_are_nothing() {
    check("", "", 0, 1);
    check("\n  \n\t-C\t\n", "", 0, 0);
    check("ipvsadm -C\r\n\r\nipvsadm\n", "", 0, 0);
    check("-C", "", 0, 0);
}

#[test]
fn wrong_words_restore_nothing() {
    let place = |line| format!("(line {line} of the input; nothing has been restored)\n");
    let hint = "Try `lvsadm -h' or 'lvsadm --help' for more information.\n";
    check("# saved\n-C\n", &format!("{hint}{}", place(1)), 255, 1);
    check("-C # all\n", &format!("unexpected argument #\n{}", place(1)), 2, 1);
    check("-C\n-A -t\n-C\n", &format!("-t: missing argument\n{}", place(2)), 255, 1);
    check("-C\n\n-R\n", &format!("{hint}{}", place(3)), 255, 1);
    check("-C\n/sbin/ipvsadm -C\n", &format!("unexpected argument /sbin/ipvsadm\n{}", place(2)), 2, 1);
}

#[test]
fn refused_line_is_told_and_the_rest_goes_on() {
    check(
        "-A -t 192.0.2.1:80\n-A -t 192.0.2.2:80\n",
        "Service already exists\n(line 1 of the input)\n",
        0,
        2,
    );
    check(
        "-A -t 192.0.2.2:80\n-a -t 192.0.2.3:80 -r 10.0.0.1\n",
        "Service not defined\n(line 2 of the input)\n",
        255,
        2,
    );
}

#[test]
fn restore_that_the_director_refuses_changes_nothing() {
    let fake = Fake { only_masquerades: true, ..Fake::with("-A -t 192.0.2.1:80\n") };
    let output = fake.run_with("-R", "-A -t 192.0.2.2:80\n-a -t 192.0.2.2:80 -r 10.0.0.1 -g\n");
    assert_eq!((output.stderr.as_str(), output.code), ("this director forwards by masquerading only\n", 255));
    assert_eq!(fake.director.config().services.len(), 1);
}

#[test]
fn listing_in_a_restore_shows_what_the_lines_before_it_made() {
    let fake = Fake::with("-A -t 192.0.2.1:80\n");
    let output =
        fake.run_with("-R", "-C\n-A -t 192.0.2.2:80\n-Sn\n--set 7 0 0\n-L --timeout\n-A -t 192.0.2.3:80\n");
    assert_eq!(output.stdout, "-A -t 192.0.2.2:80 -s wlc\nTimeout (tcp tcpfin udp): 7 120 300\n");
    assert_eq!(fake.director.config().services.len(), 2);
}

#[test]
fn connections_stay_through_a_restore() {
    let rules = "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n";
    let fake = Fake::with(rules);
    let _leases = fake.take(&crate::director::tcp("192.0.2.1:80"), "10.0.0.1:80", 2, 1);
    assert_eq!(lvsadm::run(&words("-R"), &format!("-C\n{rules}"), &fake).code, 0);
    assert!(fake.stdout("-Ln").ends_with("Masq    1      2          1         \n"));
}
