//! Clusters whose pods have IPv4 addresses, IPv6 addresses or both, and kernels that know one family alone or keep the two apart.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{World, of, run, text};
use crate::shim::*;
use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::silent::SilentAddress;
use crate::support::sink::TestSink;
use crate::support::wait_within;

const V4: &str = "127.0.0.1";
const V6: &str = "[::1]";

/// What the kernel answers where it has no IPv6, or keeps the two families apart, and whether IPv6 works there.
const KERNELS: [(&[(&str, i32)], bool); 4] = [
    (&[], true),
    (&[("ONLY_V6", 1)], true),
    (&[("SOCKET_V6", EAFNOSUPPORT)], false),
    (&[("BIND_V6", EADDRNOTAVAIL)], false),
];

/// The ports that it has opened: that of the probes, and that of the metrics.
async fn started(plan: Plan) -> (Adapter, Vec<u16>) {
    let adapter = plan.start_ready().await;
    let port = |line: &serde_json::Value| line["address"].as_str().unwrap().parse::<SocketAddr>().unwrap().port();
    let ports = adapter.logged("listening").iter().map(port).collect();
    (adapter, ports)
}

/// The status that a path answers with at this address; none if nobody listens there.
async fn status(host: &str, port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("{host}:{port}")).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Some(answer.split(' ').nth(1).unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_are_answered_over_both_families_on_any_kernel_that_has_them() {
    for (answers, has_v6) in KERNELS {
        for address in [":0", "[::]:0"] {
            let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
            let plan = Plan::new(&aws, &sink, "orders").env("HTTP_ADDRESS", address).env("METRICS_ADDRESS", address);
            let (_adapter, ports) = started(on_a_kernel_with(plan, answers)).await;
            assert_eq!(ports.len(), 2, "{answers:?} {address}");
            for (port, path) in [(ports[0], "/livez"), (ports[0], "/readyz"), (ports[1], "/metrics")] {
                let (v4, v6) = (status(V4, port, path).await, status(V6, port, path).await);
                assert_eq!(v4.as_deref(), Some("200"), "{answers:?} {address} {path} over IPv4");
                assert_eq!(v6.as_deref(), has_v6.then_some("200"), "{answers:?} {address} {path} over IPv6");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_one_family_stays_one_of_that_family() {
    for (address, v4, v6) in [("0.0.0.0:0", true, false), ("127.0.0.1:0", true, false), ("[::1]:0", false, true)] {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let (_adapter, ports) = started(Plan::new(&aws, &sink, "orders").env("HTTP_ADDRESS", address)).await;
        let answered = [status(V4, ports[0], "/livez").await, status(V6, ports[0], "/livez").await];
        assert_eq!(answered.map(|status| status.is_some()), [v4, v6], "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_asked_for_on_the_port_of_the_probes_are_there_whatever_the_family() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (probes, metrics) in [("[::]", "0.0.0.0"), ("", "0.0.0.0"), ("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")] {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let plan = Plan::new(&aws, &sink, "orders")
            .env("HTTP_ADDRESS", format!("{probes}:{free}"))
            .env("METRICS_ADDRESS", format!("{metrics}:{free}"));
        let (adapter, ports) = started(plan).await;
        assert_eq!(ports, [free], "{probes} {metrics}");
        assert_eq!(status(V4, free, "/metrics").await.as_deref(), Some("200"), "{probes} {metrics}");
        assert_eq!(adapter.terminate().await, Some(0));
    }
}

/// As a firewall does, or a node that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_sink_that_swallows_packets_delays_its_events_by_a_moment() {
    for (dead, live) in [("127.0.0.2", "127.0.0.3"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1")] {
        let aws = FakeAws::with_table("orders", 1).await;
        aws.write("orders", 100, 1);
        let sink = TestSink::at(SocketAddr::new(live.parse().unwrap(), 0)).await;
        let silent = SilentAddress::at(SocketAddr::new(dead.parse().unwrap(), sink.port())).await;
        let plan = Plan::new(&aws, &sink, "orders")
            .env("K_SINK", format!("http://sink.example:{}/events", silent.address.port()))
            .env("DELIVERY_TIMEOUT", "30s");
        let begun = std::time::Instant::now();
        let adapter = with_addresses(plan, &format!("{dead},{live}")).start().await;
        wait_within(Duration::from_secs(20), "all events", || sink.distinct() == 100).await;
        assert!(begun.elapsed() < Duration::from_secs(9), "{dead}: {:?}", begun.elapsed());
        assert!(adapter.logged_code("DSA-DELIVERY-FAILED").is_empty(), "{dead}: no attempt failed");
    }
}

/// It connects as the adapter does.
#[tokio::test(flavor = "multi_thread")]
async fn check_finds_the_address_of_the_sink_that_answers() {
    let world = World::new().await;
    let silent = SilentAddress::at(SocketAddr::new("127.0.0.2".parse().unwrap(), world.sink.address().port())).await;
    let plan = world.plan().clone().env("K_SINK", format!("http://sink.example:{}/events", silent.address.port()));
    let mut command = with_addresses(plan, "127.0.0.2,127.0.0.1").command();
    command.args(["check", "--output", "json"]);
    let checks = run(command).await.checks();
    for check in ["sink-dns", "sink-tcp", "sink-http"] {
        assert_eq!(text(of(&checks, check), "result"), "ok", "{checks:#?}");
    }
}
