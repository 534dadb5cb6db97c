//! Variables that blocks define: `geo`, `split_clients`, and how long what was looked up holds.

use crate::nginx::Beside;
use crate::peer::{Client, Proxy};

#[test]
fn geo_finds_the_smallest_network_of_an_address() {
    let both = Beside::start(
        "geo $here { default away; 127.0.0.0/8 net; 127.0.0.1 home; }
         geo $arg_a $of {
             default none; 10.0.0.0/8 ten; 10.1.0.0/16 one; 10.1.2.0/24 two; delete 10.1.0.0/16;
             ::1 six; 2001:db8::/32 doc; 255.255.255.255 invalid;
         }
         geo $arg_a $bare { 10.0.0.0/8 x; }
         geo $arg_a $ranged {
             ranges; default none; 10.0.0.0-10.255.255.255 ten; 10.1.2.0-10.1.2.9 inner;
         }",
        "location / { return 200 \"$here $of|$bare|$ranged\"; }",
        &[],
    );
    for (address, expected) in [
        ("10.1.2.3", "home two|x|inner"),
        ("10.1.2.10", "home two|x|ten"),
        ("10.1.3.3", "home ten|x|ten"),
        ("::1", "home six||none"),
        ("::ffff:10.1.2.3", "home two|x|inner"),
        ("2001:db8:1::5", "home doc||none"),
        ("192.0.2.1", "home none||none"),
        ("nonsense", "home invalid||none"),
        ("", "home invalid||none"),
    ] {
        assert_eq!(both.get(&format!("/?a={address}")).text(), expected, "{address}");
    }
}

#[test]
fn geo_takes_the_word_of_its_proxies_on_whom_a_request_is_from() {
    let both = Beside::start(
        "geo $last { proxy 127.0.0.0/8; default none; 127.0.0.1 peer; 10.0.0.0/8 ten; 192.0.2.0/24 doc; }
         geo $first {
             proxy_recursive; proxy 127.0.0.0/8; proxy 10.0.0.0/8;
             default none; 127.0.0.1 peer; 10.0.0.0/8 ten; 192.0.2.0/24 doc;
         }",
        "location / { return 200 \"$last $first\"; }",
        &[],
    );
    for (said, expected) in [
        ("192.0.2.1", "doc doc"),
        ("192.0.2.1, 10.0.0.1", "ten doc"),
        ("10.0.0.1, 192.0.2.1", "doc doc"),
        ("10.0.0.2, 10.0.0.1", "ten ten"),
        ("192.0.2.1, nonsense", "peer peer"),
    ] {
        let answer = both.send(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {said}\r\n\r\n"));
        assert_eq!(answer.text(), expected, "{said}");
    }
}

#[test]
fn split_clients_gives_every_text_the_value_that_nginx_gives_it() {
    let both = Beside::start(
        "split_clients $arg_s $some { 10% a; 0.01% z; 33.33% b; 20% c; }
         split_clients \"${arg_s}AAA\" $all { 50% a; * b; }",
        "location / { return 200 \"$some|$all\"; }",
        &[],
    );
    let known = ["b|b", "b|b", "b|a", "c|b", "b|b", "b|a", "b|b", "|a", "a|a", "c|b"];
    for (number, known) in known.iter().enumerate() {
        assert_eq!(both.get(&format!("/?s={number}")).text(), *known, "{number}");
    }
    for number in 0..40 {
        both.get(&format!("/?s={number}"));
        both.get(&format!("/?s={}", "x".repeat(number)));
    }
}

#[test]
fn what_a_variable_was_found_to_be_holds_for_the_request_unless_it_is_volatile() {
    let both = Beside::start(
        "map $args $once { default \"[$args]\"; }
         map $args $always { volatile; default \"[$args]\"; }",
        "location / { set $before \"$once$always\"; set $args b=2; return 200 \"$before$once$always\"; }",
        &[],
    );
    assert_eq!(both.get("/?a=1").text(), "[a=1][a=1][a=1][b=2]");
}

#[test]
fn groups_of_a_map_are_there_for_what_comes_after_it() {
    let both = Beside::start(
        "map $arg_m $mapped { ~^(?<first>.)(?<rest>.*)$ \"$2\"; default none; }",
        "location / { return 200 \"$mapped $1 $first $rest\"; }",
        &[],
    );
    assert_eq!(both.get("/?m=abc").text(), "bc a a bc");
    assert_eq!(both.get("/").text(), "none   ");
}

#[test]
fn name_of_a_host_is_looked_up_without_the_dot_at_its_end() {
    let both = Beside::start(
        "map $arg_h $name { *.early.test text; hostnames; a.test a; *.b.test b; c.* c; ~^d\\.test$ d; default none; }
         map $arg_h $text { a.test a; ~^d\\.test$ d; ~^$ nothing; default none; }",
        "location / { return 200 \"$name $text\"; }",
        &[],
    );
    for (name, expected) in [
        ("a.test", "a a"),
        ("a.test.", "a none"),
        ("A.Test.", "a none"),
        ("a.test..", "none none"),
        ("x.b.test.", "b none"),
        ("c.test.", "c none"),
        ("d.test.", "d none"),
        // What stands before the word is a text.
        ("x.early.test", "none none"),
        ("*.early.test.", "text none"),
        ("", "none none"),
        (".", "none none"),
    ] {
        assert_eq!(both.get(&format!("/?h={name}")).text(), expected, "{name}");
    }
}

#[test]
fn connections_have_geo_and_split_clients_too() {
    let proxy = Proxy::start(
        "events {} stream {
             geo $place { default away; 127.0.0.1 home; }
             geo $realip_remote_addr $ranged { ranges; 127.0.0.0-127.255.255.254 local; }
             split_clients $remote_addr $half { 50% one; * other; }
             map $place$half $both { volatile; ~^home(?<share>.*)$ \"$share\"; }
             server { listen 127.0.0.1:1; return \"$place $ranged $half $both $share\"; }
         }",
    );
    let mut client = Client::connect(proxy.addr());
    client.finish();
    let said = String::from_utf8(client.rest().unwrap()).unwrap();
    let share = said.rsplit(' ').next().unwrap();
    assert!(["one", "other"].contains(&share));
    assert_eq!(said, format!("home local {share} {share} {share}"));
}
