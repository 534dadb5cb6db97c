//! What passes in a second.

use lvs_core::{Algorithm, Rates};

use crate::setup::{address, at, connect, director, server, service, stats, vip};

#[test]
fn steady_traffic_shows_as_its_rate_at_the_server_and_at_the_service() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    director.tick(at(0));
    for second in 1..=120 {
        for _ in 0..40 {
            let lease = connect(&director).expect("a server");
            lease.count_to_server(100);
            lease.count_to_client(1000);
            lease.count_packets_to_server(2);
            lease.count_packets_to_client(3);
        }
        director.tick(at(second));
    }
    let rates = stats(&director, 1).rates;
    assert_eq!((rates.connections, rates.packets_in, rates.packets_out), (20, 40, 60));
    assert_eq!((rates.bytes_in, rates.bytes_out), (2000, 20_000));
    let service = &director.stats()[0];
    assert_eq!((service.packets_in, service.packets_out), (9600, 14_400));
    assert_eq!((service.rates.connections, service.rates.bytes_out), (40, 40_000));
}

#[test]
fn server_that_goes_takes_no_rate_back_from_its_service() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    director.tick(at(0));
    for _ in 0..80 {
        drop(connect(&director));
    }
    director.delete_server(&vip(), address(1)).expect("a known server");
    director.tick(at(2));
    assert_eq!(director.stats()[0].rates.connections, 10);
    director.add_server(&vip(), server(1, 1)).expect("a new server");
    assert_eq!(stats(&director, 1).rates, Rates::default());
}

#[test]
fn zeroed_counters_have_no_rate() {
    let director = director(service(Algorithm::Rr, &[1]));
    director.tick(at(0));
    drop((0..80).map(|_| connect(&director)).collect::<Vec<_>>());
    director.tick(at(2));
    assert_eq!(stats(&director, 1).rates.connections, 10);
    director.zero(None).expect("no service named");
    assert_eq!(stats(&director, 1).rates, Rates::default());
    director.tick(at(4));
    assert_eq!(director.stats()[0].rates, Rates::default());
}
