//! The cost of a choice beside that of pingora-load-balancing, in one process and interleaved.
//!
//! What is compared is what a proxy calls per connection. lvs-core's side includes more: its lease
//! counts the connection on its server and takes it back, which pingora leaves to the proxy.

use std::hint::black_box;

use benches::{Case, Effort, SERVERS, address, measure};
use lvs_core::Algorithm;
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, RoundRobin};

const CASES: usize = 9;

fn main() {
    let cases: Vec<Case<'_>> = SERVERS.into_iter().flat_map(cases).collect();
    println!("ns of CPU time per choice; x: times that of lvs-core's rr in the same row");
    for threads in [1, 2] {
        let costs = measure(&cases, threads, Effort::MEASURE);
        println!("\n{threads} thread(s)");
        print!("{:>8}", "servers");
        cases[..CASES].iter().for_each(|case| print!("{:>20}", case.name()));
        println!();
        for (servers, row) in SERVERS.iter().zip(costs.chunks(CASES)) {
            print!("{servers:>8}");
            row.iter().for_each(|cost| print!("{:>20}", format!("{cost:.1} {:>6.2}x", cost / row[0])));
            println!();
        }
    }
}

fn cases(servers: u16) -> [Case<'static>; CASES] {
    [
        Case::schedule(Algorithm::Rr, servers),
        pingora::<RoundRobin>("pingora RoundRobin", servers),
        Case::schedule(Algorithm::Wrr, servers),
        Case::schedule(Algorithm::Swrr, servers),
        Case::schedule(Algorithm::Wlc, servers),
        Case::schedule(Algorithm::Sh, servers),
        Case::schedule(Algorithm::Mh, servers),
        Case::schedule(Algorithm::Twos, servers),
        pingora::<Consistent>("pingora Consistent", servers),
    ]
}

/// `select` as pingora's own examples call it.
fn pingora<S>(name: &'static str, servers: u16) -> Case<'static>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let balancer: LoadBalancer<S> =
        LoadBalancer::try_from_iter((0..servers).map(address)).expect("socket addresses");
    Case::new(name, move |calls| {
        for _ in 0..calls {
            drop(black_box(balancer.select(black_box(b"10.1.0.1"), 256)));
        }
    })
}
