//! Quorum, hysteresis, sorry server, inhibition and weights: what the checks say, and what the
//! table says then.

use std::time::Instant;

use l4_proxy::check::Weighs;
use l4_proxy::check::rhythm::Standing;
use l4_proxy::keepalived::pool::{Change, Check, Placement, Pool};

use super::read;

/// A virtual server with these lines and so many servers, each with one check and these lines.
fn pool(lines: &str, servers: usize, own: &str) -> Pool {
    let servers: String = (1..=servers)
        .map(|n| format!("real_server 10.0.{}.{} 80 {{\nTCP_CHECK {{\n}}\n{own}\n}}\n", n >> 8, n & 255))
        .collect();
    let text = format!(
        "virtual_server 192.0.2.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{lines}\n{servers}}}"
    );
    let loaded = read(&text);
    assert!(loaded.complaints.is_empty(), "{:?}", loaded.complaints);
    let service = &loaded.model.services[0];
    let standing = |alpha| if alpha { Standing::Down } else { Standing::Up };
    let checks = service
        .servers
        .iter()
        .map(|server| server.checkers.iter().map(|checker| Check::new(standing(checker.alpha))).collect());
    Pool::new(service, checks.collect(), None)
}

fn says(standing: Standing) -> Check {
    let cause = (standing == Standing::Down).then(|| "refused".into());
    Check { standing, cause, weighs: None }
}

/// Plays `+N` and `-N`, server N up and down, and writes what came of it: `G` and `L` for a quorum
/// that is gained and lost.
fn play(pool: &mut Pool, moves: &str) -> String {
    let one = |word: &str| {
        let standing = if word.starts_with('+') { Standing::Up } else { Standing::Down };
        let server: usize = word[1..].parse().expect("a number");
        let changes = pool.hear(server - 1, 0, says(standing));
        let letters = changes.iter().map(|change| match change {
            Change::Up(_) => 'u',
            Change::Down(..) => 'd',
            Change::Weight(..) => 'w',
            Change::Gained(_) => 'G',
            Change::Lost(_) => 'L',
        });
        letters.collect::<String>()
    };
    moves.split(' ').map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn quorum_is_one_server_unless_said_otherwise() {
    let mut pool = pool("", 2, "");
    assert_eq!(play(&mut pool, "-1 -2 -2 +2 +1"), "d dL  uG u");
}

#[test]
fn hysteresis_moves_gain_up_and_loss_down() {
    let mut pool = pool("quorum 3\nhysteresis 1", 5, "");
    // Lost below two, gained from four.
    assert_eq!(play(&mut pool, "-1 -2 -3 -4 +1 +2 +3 -1 -2"), "d d d dL u u uG d d");
}

#[test]
fn alpha_begins_without_a_quorum_and_gains_it_when_checks_pass() {
    let mut pool = pool("quorum 2\nalpha", 3, "");
    assert!(!pool.is_enough());
    assert_eq!(play(&mut pool, "+1 +2 +3"), "u uG u");
}

#[test]
fn lost_quorum_takes_the_rest_out_only_where_a_sorry_server_can_serve() {
    let mut without = pool("quorum 2", 3, "");
    play(&mut without, "-1 -2");
    assert!(matches!(
        &without.placements()[..],
        [Placement::Out(_), Placement::Out(_), Placement::Serves(1)]
    ));
    let mut with = pool("quorum 2\nsorry_server 10.0.0.9 80", 3, "");
    play(&mut with, "-1 -2");
    assert!(with.is_sorry());
    let Placement::Out(cause) = &with.placements()[2] else { panic!("out") };
    assert_eq!(cause.to_string(), "quorum lost, weight 1 of 2: the sorry server serves");
    play(&mut with, "+1");
    assert!(!with.is_sorry());
    assert!(matches!(
        &with.placements()[..],
        [Placement::Serves(1), Placement::Out(_), Placement::Serves(1)]
    ));
}

#[test]
fn server_that_has_weight_0_by_itself_is_not_inhibited() {
    let other = "real_server 10.9.0.9 80 {\nTCP_CHECK {\n}\n}";
    let mut pool = pool(&format!("inhibit_on_failure\n{other}"), 1, "weight 0");
    play(&mut pool, "-2");
    assert_eq!(pool.placements(), [Placement::Serves(1), Placement::Out("refused".into())]);
}

#[test]
fn inhibited_server_stays_with_weight_0() {
    let mut pool = pool("inhibit_on_failure", 2, "");
    play(&mut pool, "-1");
    assert_eq!(pool.placements(), [Placement::Inhibited("refused".into()), Placement::Serves(1)]);
}

/// Of servers that wait for a quorum, each would be told what all of them weigh.
#[test]
fn placing_ten_times_the_servers_takes_about_ten_times_as_long() {
    let took = |servers: usize| {
        let mut pool = pool(&format!("quorum {servers}\nsorry_server 10.0.0.0 80"), servers, "");
        play(&mut pool, "-1");
        assert!(pool.is_sorry());
        let one = |_| {
            let began = Instant::now();
            assert_eq!(pool.placements().len(), servers);
            began.elapsed()
        };
        // What else runs here lengthens some of them.
        (0..20).map(one).min().expect("a time")
    };
    let [few, many] = [500, 5_000].map(took);
    assert!(many < few * 40, "{few:?}, {many:?}");
}

#[test]
fn server_is_up_when_all_its_checks_are() {
    let mut pool = pool("", 1, "PING_CHECK {\n}");
    assert_eq!(pool.hear(0, 1, says(Standing::Down)), [Change::Down(0, "refused".into()), Change::Lost(0)]);
    assert_eq!(pool.hear(0, 0, says(Standing::Down)), []);
    assert_eq!(pool.hear(0, 1, says(Standing::Up)), []);
    assert_eq!(pool.hear(0, 0, says(Standing::Up)), [Change::Up(0), Change::Gained(1)]);
}

#[test]
fn weights_that_checks_say_move_the_table_and_the_quorum() {
    let mut pool = pool("quorum 6", 2, "weight 5");
    let weighs = |weighs| Check { weighs: Some(weighs), ..says(Standing::Up) };
    assert_eq!(pool.hear(0, 0, weighs(Weighs::Is(9))), [Change::Weight(0, 9)]);
    assert_eq!(pool.hear(0, 0, weighs(Weighs::Is(9))), []);
    assert_eq!(pool.hear(0, 0, weighs(Weighs::Adds(-4))), [Change::Weight(0, 1)]);
    assert_eq!(pool.hear(1, 0, weighs(Weighs::Adds(-9))), [Change::Weight(1, 0), Change::Lost(1)]);
    assert_eq!(pool.hear(1, 0, says(Standing::Up)), [Change::Weight(1, 5), Change::Gained(6)]);
}

/// The keeper looks at no other server then.
#[test]
fn check_of_which_nothing_came_has_moved_its_own_server_at_most() {
    let weighs = [None, Some(Weighs::Adds(2)), Some(Weighs::Is(0))];
    for (lines, own) in [
        ("quorum 3\nsorry_server 10.0.0.9 80", ""),
        ("quorum 3\nhysteresis 1\nsorry_server 10.0.0.9 80", "inhibit_on_failure"),
        ("quorum 2", ""),
    ] {
        let mut pool = pool(lines, 4, own);
        let mut unseen = 0;
        for n in 0..2_000_usize {
            // Each server has every outcome after every other, in an order that does not repeat soon.
            let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let (server, weighs) = (mixed % 4, weighs[mixed / 4 % 3]);
            let cause = (mixed / 12 % 2 == 0).then(|| format!("refused {}", mixed / 24 % 2).into());
            let standing = if cause.is_some() { Standing::Down } else { Standing::Up };
            let before = pool.placements();
            if !pool.hear(server, 0, Check { standing, cause, weighs }).is_empty() {
                continue;
            }
            let after = pool.placements();
            unseen += usize::from(before != after);
            assert_eq!(pool.placement_of(server).as_ref(), after.get(server));
            let others = (0..4).filter(|other| *other != server);
            others.for_each(|other| assert_eq!(before[other], after[other], "{lines} {own}"));
        }
        assert!(unseen > 0, "a server may be down for another reason, {lines} {own}");
    }
    assert_eq!(pool("", 1, "").placement_of(1), None);
}
