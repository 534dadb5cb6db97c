//! What the director promises, over real sockets on loopback.

mod administered;
mod bench;
mod binary;
mod checks;
mod connecting;
mod director;
mod dns;
mod drain;
mod failover;
mod faults;
mod fuzz;
mod fwmark;
mod keepalived;
mod life;
mod mail;
mod matrix;
mod metrics;
mod namespaces;
mod proxy_protocol;
mod relay;
mod succession;
mod support;
mod takeover;
mod udp;
