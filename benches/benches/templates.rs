//! What a client that persistence knows costs, by the number of clients that it knows, and how much
//! memory a client takes.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use benches::{Case, Effort, measure};

fn main() {
    let effort = Effort::from_args();
    let largest = if effort == Effort::TRY { 10_000 } else { 1_000_000 };
    let before = resident();
    let cases = [Case::template(1_000), Case::template(largest)];
    let bytes = resident().saturating_sub(before) as f64 / f64::from(largest);
    let costs = measure(&cases, 1, effort);
    println!("{:>9} {:>9}", "clients", "ns");
    println!("{:>9} {:>9.1}", 1_000, costs[0]);
    println!("{largest:>9} {:>9.1}", costs[1]);
    println!("ratio {:.2}; {bytes:.0} bytes of memory for each client", costs[1] / costs[0]);
}

/// Bytes of memory that the process has in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}
