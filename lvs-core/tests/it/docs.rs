//! What the front page says of the crate, as far as a machine can tell.

use lvs_core::Algorithm;

const FRONT_PAGE: &str = include_str!("../../src/lib.rs");

#[test]
fn front_page_has_a_line_for_every_algorithm_and_for_no_other() {
    let table = FRONT_PAGE.lines().skip_while(|line| !line.starts_with("//! | name |")).skip(2);
    let names = table.map_while(|line| line.strip_prefix("//! | `")?.split('`').next());
    let mut names: Vec<&str> = names.collect();
    let mut wanted = Algorithm::ALL.map(Algorithm::name).to_vec();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}

#[test]
fn front_page_names_the_compiler_that_the_package_asks_for() {
    let asked = env!("CARGO_PKG_RUST_VERSION");
    assert!(FRONT_PAGE.contains(&format!("//! Rust {asked} is what")), "{asked}");
    assert!(include_str!("../../README.md").contains(&format!("Rust {asked}.")), "{asked}");
}
