//! The kernel's recorded picks, through the program that plays recordings.

use std::process::{Command, Output};

/// Plays a file; returns exit code, output and complaints.
fn replay(json: &str) -> (i32, String, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), json).expect("room for it");
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    let Output { status, stdout, stderr } = command.arg(file.path()).output().expect("replay runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// One scenario of two servers under `rr`, which serves B, A, B, A, …
fn rr(steps: &str, picks: &str) -> String {
    format!(
        r#"{{"scenarios":[{{"id":"one","scheduler":"rr","flags":[],"add":[
            {{"rs":"A","addr":"10.2.0.1"}},{{"rs":"B","addr":"10.2.0.2","port":80,"weight":2}}],
            "steps":[{steps}],"picks_str":"{picks}"}}]}}"#
    )
}

fn syn(port: u16) -> String {
    format!(r#"{{"op":"syn","src":"10.1.0.1","sport":{port}}}"#)
}

#[track_caller]
fn check_fault(json: &str, place: &str) {
    let (code, output, complaint) = replay(json);
    assert_eq!((code, output.as_str()), (2, ""), "{complaint}");
    assert!(complaint.contains(place), "{complaint}");
}

#[test]
fn picks_of_the_kernel_are_replayed_without_a_difference() {
    let (code, output, _) = replay(include_str!("../../../lvs-core/tests/it/schedules.json"));
    assert_eq!((code, output.as_str()), (0, "37 scenarios, 409 steps, 0 differences\n"));
}

#[test]
fn pick_that_differs_is_shown_with_its_step() {
    let (code, output, _) = replay(&rr(&[syn(1), syn(2)].join(","), "BB"));
    assert_eq!(code, 1);
    assert_eq!(output, "one step 2: wanted B, got A\n1 scenarios, 2 steps, 1 differences\n");
}

#[test]
fn entry_that_waits_out_its_time_makes_room_and_a_living_one_does_not() {
    let open = r#"{"op":"open","src":"10.1.0.1","sport":1}"#;
    let close = r#"{"op":"close","src":"10.1.0.1","sport":1}"#;
    let (syn1, syn2) = (syn(1), syn(2));
    let living = [open, close, &syn1, &syn2].join(",");
    assert_eq!(replay(&rr(&living, "BBA")).0, 0);
    let waiting = [&syn1, close, &syn1, &syn2].join(",");
    assert_eq!(replay(&rr(&waiting, "BAB")).0, 0);
}

#[test]
fn time_and_servers_that_come_back_are_played() {
    let steps = r#"{"op":"sleep","seconds":2},{"op":"del","rs":"B"},{"op":"syn","src":"10.1.0.1","sport":1},
        {"op":"add","rs":"B"},{"op":"time","at":5},{"op":"syn","src":"10.1.0.1","sport":2}"#;
    assert_eq!(replay(&rr(steps, "AB")).0, 0);
}

#[test]
fn faults_name_their_place() {
    check_fault("{", "EOF");
    check_fault(&rr(r#"{"op":"jump"}"#, ""), r#"scenario one: step 1: unknown op "jump""#);
    check_fault(&rr(r#"{"op":"del","rs":"Z"}"#, ""), "scenario one: step 1: there is no server Z");
    check_fault(&rr(r#"{"op":"syn","src":"10.1.0.1","sport":1,"tos":4}"#, "B"), r#"unknown key "tos""#);
    check_fault(&rr(r#"{"op":"close","src":"10.1.0.1","sport":1}"#, ""), "no connection from 10.1.0.1:1");
    check_fault(&rr(&syn(1), "BA"), "2 picks for 1 connections");
    check_fault(&rr("", "").replace("\"rr\"", "\"rrr\""), r#"unknown scheduler "rrr""#);
}
