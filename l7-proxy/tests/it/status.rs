//! Pages of counts, for Prometheus and for programs.

use crate::peer::{Origin, Proxy, http};

fn site(servers: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "upstream app {{ {servers} }}
         server {{ listen 127.0.0.1:1;
           location / {{ proxy_pass http://app; }}
           location = /metrics {{ lvs_metrics; }}
           location = /upstreams {{ lvs_status; }}
           location = /none {{ return 404; }} }}"
    )))
}

#[test]
fn metrics_tell_of_requests_upstreams_and_servers() {
    let origin = Origin::named("a");
    let proxy = site(&format!("server {} weight=3; server 192.0.2.1:80 down;", origin.addr));
    let mut client = proxy.client();
    (0..3).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(client.get("/none").status, 404);
    let response = client.get("/metrics");
    assert_eq!(response.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text();
    let (ip, port) = (origin.addr.ip(), origin.addr.port());
    let server = format!(
        "local_address=\"app\",local_port=\"\",proto=\"\",local_mark=\"\",remote_address=\"{ip}\",remote_port=\"{port}\""
    );
    for line in [
        "lvs_http_requests_total 5",
        "lvs_http_responses_total{code=\"2xx\"} 3",
        "lvs_http_responses_total{code=\"4xx\"} 1",
        "lvs_http_connections{state=\"writing\"} 1",
        "# TYPE lvs_http_upstream_response_seconds histogram",
        "lvs_http_upstream_response_seconds_bucket{upstream=\"app\",le=\"10\"} 3",
        "lvs_http_upstream_response_seconds_bucket{upstream=\"app\",le=\"+Inf\"} 3",
        "lvs_http_upstream_response_seconds_count{upstream=\"app\"} 3",
        &format!("lvs_server_connections_total{{{server}}} 3"),
        &format!("lvs_server_weight{{{server}}} 3"),
        &format!("lvs_server_status{{{server},state=\"up\"}} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("state=\"quiesced\"} 1"), "{text}");
}

#[test]
fn series_follow_the_configuration_and_not_the_clients() {
    let origin = Origin::named("a");
    let proxy = site(&format!("server {};", origin.addr));
    let series = || proxy.get("/metrics").text().lines().count();
    let before = series();
    for path in 0..20 {
        drop(proxy.get(&format!("/{path}?{path}")));
    }
    assert_eq!(series(), before);
}

#[test]
fn upstreams_are_a_document_for_programs() {
    let origin = Origin::named("a");
    let proxy = site(&format!("server {};", origin.addr));
    let response = proxy.get("/upstreams");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    for part in ["\"version\"", "\"app\"", &origin.addr.to_string()] {
        assert!(response.text().contains(part), "{part}\n{}", response.text());
    }
    let mut client = proxy.client();
    client.send("POST /upstreams HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 405);
}
