//! What cargo calls in place of rustc gives the profile to those it is for, and to nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A compiler of this version that prints its words, and a profile for `compiler` beside what calls it.
fn stage(version: &str, compiler: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("own");
    };
    let calls = Path::new(env!("CARGO_MANIFEST_DIR")).join("profile/rustc");
    place("rustc", &fs::read_to_string(calls).expect("a script"));
    place("compiler", &format!("{compiler}\n"));
    place("release.profdata", "counts");
    let version = format!("[ \"$*\" != -V ] || {{ echo '{version}'; exit; }}");
    place("plain", &format!("#!/bin/sh\n{version}\nfor word; do echo \"$word\"; done\n"));
    folder
}

/// The words that the compiler is called with, behind these.
fn added(folder: &TempDir, words: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(folder.path().join("rustc"));
    command.env_remove("LVS_PROFILE").envs(environment.iter().copied());
    let output = command.arg(folder.path().join("plain")).args(words).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    let mut printed = printed.lines();
    assert!(words.iter().all(|word| printed.next() == Some(word)), "what cargo says is kept as it is");
    printed.map(str::to_owned).collect()
}

const RELEASE: &[&str] = &["--crate-name", "a crate", "-C", "opt-level=3", "--cfg", "feature=\"x\""];

#[test]
fn release_builds_of_the_compiler_that_made_it_use_the_profile() {
    let folder = stage("rustc 1.2.3 (abc)", "rustc 1.2.3 (abc)");
    let profile = format!("-Cprofile-use={}/release.profdata", folder.path().display());
    assert_eq!(added(&folder, RELEASE, &[]).first(), Some(&profile));
    let nothing: &[String] = &[];
    assert_eq!(added(&folder, &["--crate-name", "x", "-C", "debuginfo=1"], &[]), nothing, "another build");
    assert_eq!(added(&folder, RELEASE, &[("LVS_PROFILE", "none")]), nothing, "unwanted");
    let counting = [("LVS_PROFILE", "count"), ("LVS_PROFILE_COUNTS", "/counts")];
    assert_eq!(added(&folder, RELEASE, &counting), ["-Cprofile-generate=/counts"]);
}

/// As tests need them (`CARGO_BIN_EXE_l4-proxy`), which some shells lose.
#[test]
fn variables_that_no_shell_could_name_are_handed_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let calls = Path::new(env!("CARGO_MANIFEST_DIR")).join("profile/rustc");
    let output =
        Command::new(calls).arg("env").env("A-B", "c").current_dir(&folder).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("A-B=c\n"), "{output:?}");
}

#[test]
fn another_compiler_builds_without_it() {
    let folder = stage("rustc 1.2.4 (abd)", "rustc 1.2.3 (abc)");
    assert!(added(&folder, RELEASE, &[]).is_empty());
}

#[test]
fn builds_that_count_by_themselves_or_have_no_profile_are_as_they_are() {
    let folder = stage("rustc 1.2.3 (abc)", "rustc 1.2.3 (abc)");
    for own in ["-Cprofile-generate=/mine", "-Cprofile-use=/mine", "-Cinstrument-coverage"] {
        assert!(added(&folder, &[RELEASE, &[own]].concat(), &[]).is_empty(), "{own}");
    }
    fs::remove_file(folder.path().join("release.profdata")).expect("it is there");
    assert!(added(&folder, RELEASE, &[]).is_empty());
}

/// Else the programs are built without, and nobody hears of it.
#[test]
fn profile_is_there_and_for_one_compiler() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profile");
    let compiler = fs::read_to_string(folder.join("compiler")).expect("its name");
    assert!(compiler.starts_with("rustc ") && compiler.lines().count() == 1, "{compiler}");
    let profile = fs::read(folder.join("release.profdata")).expect("a profile");
    // LLVM's indexed format, in the byte order of x86-64.
    assert!(profile.starts_with(b"\xfflprofi\x81"), "{:?}", &profile[..8]);
}
