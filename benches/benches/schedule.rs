//! CPU time of `schedule` and the drop of its lease, by algorithm, size of the pool and threads.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use benches::{Case, Effort, SERVERS, measure};
use lvs_core::Algorithm;

fn main() {
    let effort = Effort::from_args();
    let cases: Vec<Case<'_>> = SERVERS
        .into_iter()
        .flat_map(|servers| Algorithm::ALL.map(|algorithm| Case::schedule(algorithm, servers)))
        .collect();
    println!("ns of CPU time per schedule and drop");
    for threads in [1, 2] {
        let costs = measure(&cases, threads, effort);
        println!("\n{threads} thread(s)");
        print!("{:>8}", "servers");
        Algorithm::ALL.iter().for_each(|algorithm| print!("{:>9}", algorithm.name()));
        println!();
        for (servers, row) in SERVERS.iter().zip(costs.chunks(Algorithm::ALL.len())) {
            print!("{servers:>8}");
            row.iter().for_each(|cost| print!("{cost:>9.1}"));
            println!();
        }
    }
}
