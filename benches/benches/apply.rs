//! CPU time of `apply` when one weight changes, by algorithm and size of the pool.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use benches::{Case, Effort, measure};
use lvs_core::Algorithm;

const SERVERS: [u16; 3] = [10, 100, 1000];

fn main() {
    let effort = Effort::from_args();
    let cases: Vec<Case<'_>> = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| SERVERS.map(|servers| Case::apply(algorithm, servers)))
        .collect();
    let costs = measure(&cases, 1, effort);
    println!("µs of CPU time per apply of one changed weight");
    print!("{:>16}", "servers");
    SERVERS.iter().for_each(|servers| print!("{servers:>9}"));
    println!();
    for (algorithm, row) in Algorithm::ALL.iter().zip(costs.chunks(SERVERS.len())) {
        print!("{:>16}", algorithm.name());
        row.iter().for_each(|cost| print!("{:>9.1}", cost / 1000.0));
        println!();
    }
}
