//! The command line beside nginx's: what each option says, and what is checked before anything runs.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::peer::eventually;
use crate::program::Site;

/// Checks what we answer to these words, and that nginx does too: the exit code and what is said on
/// standard error. `FOLDER` stands for the site's folder, and `PROGRAM` for the name.
fn check(site: &Site, words: &[&str], code: i32, said: &str) {
    let folder = site.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let words: Vec<String> = words.iter().map(|word| word.replace("FOLDER", folder)).collect();
    let ours = env!("CARGO_BIN_EXE_l7-proxy");
    for program in [ours, "nginx"] {
        if program == "nginx" && !crate::secure::has("nginx") {
            continue;
        }
        let output = Command::new(program).args(&words).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let name = if program == "nginx" { "nginx" } else { "l7-proxy" };
        // What a process says that writes a log to the terminal begins with the time.
        let text: String = text.lines().map(|line| line.replace(&format!("{name}: "), "") + "\n").collect();
        let expected = said.replace("FOLDER", folder);
        assert_eq!((output.status.code(), &*text), (Some(code), &*expected), "{program} {words:?}");
    }
}

/// A site that nginx reads, too, with these directives beside the server.
fn site(main: &str, http: &str) -> Site {
    let site = Site::new("");
    site.write_whole(&format!(
        "{main} events {{}} http {{ {http} server {{ listen {}; return 204; }} }}",
        site.addr
    ));
    site
}

const GOOD: &str = "pid l7.pid; error_log error.log;";
const HERE: [&str; 6] = ["-p", "FOLDER", "-c", "nginx.conf", "-e", "error.log"];

fn with(words: &[&'static str]) -> Vec<&'static str> {
    [&HERE, words].concat()
}

#[test]
fn test_of_a_configuration_says_what_that_of_nginx_says() {
    let good = site(GOOD, "access_log access.log;");
    let passed = "the configuration file FOLDER/nginx.conf syntax is ok\n\
                  configuration file FOLDER/nginx.conf test is successful\n";
    check(&good, &with(&["-t"]), 0, passed);
    check(&good, &with(&["-t", "-q"]), 0, "");
    check(&good, &with(&["-q", "-T"]), 0, "");
    let log = "[alert] could not open error log file: open() \"/no/such/e.log\" failed (2: No such file or directory)\n";
    check(
        &good,
        &["-p", "FOLDER", "-c", "nginx.conf", "-e", "/no/such/e.log", "-t"],
        0,
        &(log.to_owned() + passed),
    );
    check(
        &good,
        &with(&["-t", "-g", "pid other.pid"]),
        1,
        "[emerg] unexpected end of parameter, expecting \";\" in command line\n\
        configuration file FOLDER/nginx.conf test failed\n",
    );
    check(
        &good,
        &with(&["-t", "-g", "nonsense x;"]),
        1,
        "[emerg] unknown directive \"nonsense\" in command line\n\
        configuration file FOLDER/nginx.conf test failed\n",
    );
}

#[test]
fn test_of_a_configuration_fails_where_its_start_would() {
    let syntax = "the configuration file FOLDER/nginx.conf syntax is ok\n";
    let failed = "configuration file FOLDER/nginx.conf test failed\n";
    let open = |path: &str| {
        format!("{syntax}[emerg] open() \"{path}\" failed (2: No such file or directory)\n{failed}")
    };
    check(&site("pid /no/such/pid; error_log error.log;", ""), &with(&["-t"]), 1, &open("/no/such/pid"));
    check(&site("pid l7.pid; error_log /no/such/log;", ""), &with(&["-t"]), 1, &open("/no/such/log"));
    check(&site(GOOD, "access_log /no/such/log;"), &with(&["-t"]), 1, &open("/no/such/log"));
    let foreign = site(GOOD, "server { listen 192.0.2.1:28081; }");
    let bind = "[emerg] bind() to 192.0.2.1:28081 failed (99: Cannot assign requested address)\n";
    check(&foreign, &with(&["-t"]), 1, &format!("{syntax}{bind}{failed}"));
}

#[test]
fn test_of_a_configuration_passes_while_it_is_served_and_leaves_no_pid_file() {
    let site = site(GOOD, "");
    assert_eq!(site.say(&["-t", "-q"]), (0, String::new()));
    assert!(!site.path("l7.pid").exists());
    let running = site.start();
    assert_eq!(site.say(&["-t", "-q"]), (0, String::new()));
    assert_eq!(site.read("l7.pid").trim(), running.child.id().to_string());
}

#[test]
fn pid_file_that_names_no_process_is_told_as_nginx_tells_it() {
    let site = site(GOOD, "");
    let stop = with(&["-s", "stop"]);
    fs::write(site.path("l7.pid"), "garbage\n").unwrap();
    check(&site, &stop, 1, "[error] invalid PID number \"garbage\" in \"FOLDER/l7.pid\"\n");
    fs::write(site.path("l7.pid"), "").unwrap();
    check(&site, &stop, 1, "[error] invalid PID number \"\" in \"FOLDER/l7.pid\"\n");
    // Above what the kernel gives.
    fs::write(site.path("l7.pid"), "4194999\n").unwrap();
    check(&site, &stop, 1, "[alert] kill(4194999, 15) failed (3: No such process)\n");
    check(&site, &with(&["-s", "pause"]), 1, "invalid option: \"-s pause\"\n");
    for (option, wanted) in
        [("-p", "directory name"), ("-c", "file name"), ("-g", "parameter"), ("-s", "parameter")]
    {
        check(&site, &[option], 1, &format!("option \"{option}\" requires {wanted}\n"));
    }
}

#[test]
fn paths_are_relative_to_the_prefix_wherever_the_program_is_started() {
    let site = site("", "");
    let folder = site.path("");
    let output = |words: &[&str], at: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_l7-proxy")).args(words).current_dir(at).output().unwrap()
    };
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let words =
        ["-t", "-p", &*name, "-c", "nginx.conf", "-e", "first.log", "-g", "error_log own.log; pid own.pid;"];
    let tested = output(&words, folder.parent().unwrap());
    assert!(tested.status.success(), "{tested:?}");
    assert!(site.path("first.log").exists() && site.path("own.log").exists());
}

#[test]
fn reopen_by_the_command_line_begins_new_logs() {
    let site = Site::new("return 204;");
    let running = site.start();
    site.client().get("/one");
    running.signal(Signal::USR1);
    eventually("the line is there", || site.read("access.log").contains("/one"));
    fs::rename(site.path("access.log"), site.path("access.log.1")).unwrap();
    assert_eq!(site.say(&["-s", "reopen"]), (0, String::new()));
    eventually("the log is new", || site.path("access.log").exists());
    site.client().get("/two");
    eventually("its line is in the new one", || site.read("access.log").contains("/two"));
    assert!(!site.read("access.log.1").contains("/two"));
}

#[test]
fn errors_go_to_the_terminal_if_that_is_asked_for() {
    let site = Site::new("return 204;");
    site.write_whole(&format!(
        "pid l7.pid; events {{}} http {{ server {{ listen {}; return 204; }} }}",
        site.addr
    ));
    let taken = std::net::TcpListener::bind(site.addr).unwrap();
    let (code, said) = site.say(&["-e", "stderr"]);
    drop(taken);
    assert_eq!(code, 1);
    assert!(said.contains("[emerg]") && said.contains("bind() to "), "{said}");
    assert!(!site.path("error.log").exists());
}

#[test]
fn server_without_a_certificate_is_named_by_its_line() {
    let site = Site::new("");
    site.write_whole("events {}\nhttp {\nserver { listen 127.0.0.1:1 ssl; } }");
    let (code, said) = site.say(&["-t"]);
    assert_eq!(code, 1, "{said}");
    let expected = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in ";
    assert!(said.contains(expected) && said.contains("nginx.conf:3\n"), "{said}");
}
