//! Files of rules, as a director reads them when it starts.

use lvs_core::Forwarding;
use lvsadm::{CommitError, Edit, Timeouts, rules};

#[track_caller]
fn check(text: &str, error: &str) {
    assert_eq!(rules::parse("director.rules", text).unwrap_err().to_string(), error, "{text}");
}

#[test]
fn file_may_have_comments_and_the_program_name() {
    let text = "# saved by ipvsadm-save\nipvsadm -C\n\n  # two servers\nipvsadm -A -t 192.0.2.1:80 -s rr\r\n\
                -a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m\n-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 0\n\
                -e -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 3\n-d -t 192.0.2.1:80 -r 10.0.0.1:8080\n";
    let config = rules::parse("director.rules", text).unwrap();
    assert_eq!(config.services.len(), 1);
    let [server] = config.services[0].servers.as_slice() else { panic!("one server is left") };
    assert_eq!((server.weight.value(), server.forwarding), (3, Forwarding::Masquerading));
}

#[test]
fn error_names_file_line_and_word() {
    let service = "-A -t 192.0.2.1:80\n";
    check(
        "-A -t 192.0.2.1\n",
        "director.rules:1: Zero port specified for non-persistent service: \"192.0.2.1:0\"",
    );
    check("\n# x\nA\n", "director.rules:3: no command such as -A comes first: \"A\"");
    check("-A -q\n", "director.rules:1: -q: unknown option");
    check(
        "-A -t 300.0.0.1:80\n",
        "director.rules:1: illegal virtual server address[:port] specified: \"300.0.0.1:80\"",
    );
    check("-A -6 -f 1\n", "director.rules:1: -6 used before -f");
    check("-A -t 192.0.2.1:80 # web\n", "director.rules:1: unexpected argument #");
    check("-A -t 192.0.2.1:80 -s wrong\n", "director.rules:1: unknown scheduler: \"wrong\"");
    check(&service.repeat(2), "director.rules:2: the service already exists: \"192.0.2.1:80\"");
    check(
        "-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n",
        "director.rules:1: there is no such service: \"192.0.2.1:80\"",
    );
    check(
        &format!("{service}{}", "-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n".repeat(2)),
        "director.rules:3: the server already exists: \"10.0.0.1:80\"",
    );
    check(
        &format!("{service}-a -t 192.0.2.1:80 -r 10.0.0.1 -m -w heavy\n"),
        "director.rules:2: illegal weight specified: \"heavy\"",
    );
    check(
        &format!("{service}-a -t 192.0.2.1:80 -r 10.0.0.1 -m -x 1 -y 2\n"),
        "director.rules:2: lower threshold 2 is above upper threshold 1",
    );
    check(
        &format!("{service}-a -t 192.0.2.1:80 -r 0.0.0.0 -m\n"),
        "director.rules:2: a real server needs a unicast address: \"0.0.0.0\"",
    );
}

#[test]
fn command_that_edits_nothing_is_no_rule() {
    for command in ["-L", "-S", "-Z", "-R", "--drain 10.0.0.1", "--plan x", "--top", "-v"] {
        let word = command.split(' ').next().unwrap();
        check(command, &format!("director.rules:1: the command is no rule: \"{word}\""));
    }
}

#[test]
fn timeouts_of_a_file_change_what_they_say_and_leave_the_rest() {
    let rules = rules::read("director.rules", "--set 1 2 3\n-C\n--set 0 60 0\n", |_| Ok(())).unwrap();
    let timeouts = rules.timeouts.unwrap().apply_to(Timeouts::default());
    assert_eq!(
        [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].map(|timeout| timeout.as_secs()),
        [900, 60, 300]
    );
    assert_eq!(rules::read("director.rules", "-C\n", |_| Ok(())).unwrap().timeouts, None);
}

#[test]
fn rule_that_a_director_does_not_accept_is_refused_with_its_line() {
    let masquerading_only = |edit: &Edit| match edit {
        Edit::AddServer(_, server) if server.forwarding != Forwarding::Masquerading => {
            Err(CommitError::Refused(format!("{} is not masqueraded", server.address)))
        }
        _ => Ok(()),
    };
    let text = "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n-a -t 192.0.2.1:80 -r 10.0.0.2 -g\n";
    let error = rules::parse_for("director.rules", text, masquerading_only).unwrap_err();
    assert_eq!(error.to_string(), "director.rules:3: 10.0.0.2:80 is not masqueraded");
    assert_eq!(error.line, 3);
}
