//! Limits of open files: shells, systemd and container runtimes give 256, 1024 or a million of them.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::oracle;
use crate::support::sink::{Reaction, TestSink};
use crate::support::{wait_for, wait_within};

/// Items that are written at once, so that as many requests are wanted as may be.
const ITEMS: usize = 1_500;

/// Limits, how many requests may be under way there though 600 are asked for, and whether it is said.
const LIMITS: [(&str, std::ops::RangeInclusive<usize>, bool); 3] =
    [("ulimit -Sn 256", 500..=600, false), ("ulimit -n 256", 30..=100, true), ("ulimit -n 1024", 200..=400, true)];

/// Whether the process says within this time that it is live.
async fn is_live(adapter: &Adapter) -> bool {
    tokio::time::timeout(Duration::from_secs(2), adapter.get("/livez")).await.is_ok_and(|(status, _)| status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_as_the_limit_of_open_files_allows_are_under_way_and_probes_and_positions_go_on() {
    for (limit, most, is_cut) in LIMITS {
        let (aws, sink, folder) =
            (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
        sink.react(|_| Reaction::After(Duration::from_secs(1), Box::new(Reaction::Status(202))));
        let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("DELIVERY_CONCURRENCY", "600");
        let adapter = plan.under(limit).start_ready().await;
        aws.write("orders", ITEMS, 1);
        let begun = Instant::now();
        while sink.distinct() < ITEMS {
            assert!(is_live(&adapter).await, "{limit}: not live\n{}", adapter.log_text());
            assert!(begun.elapsed() < Duration::from_secs(90), "{limit}: {} events", sink.distinct());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(most.contains(&sink.most_under_way()), "{limit}: {} under way", sink.most_under_way());
        for code in ["DSA-CHECKPOINT-FAILED", "DSA-DELIVERY-FAILED", "DSA-SINK-FAILING"] {
            assert_eq!(adapter.logged_code(code).len(), 0, "{limit}: {code}");
        }
        let said = adapter.logged("DELIVERY_CONCURRENCY is cut from 600 to ");
        assert_eq!(said.len(), usize::from(is_cut), "{limit}: {said:?}");
        assert!(said.iter().all(|line| line["code"] == "DSA-CONFIG"));
        drop(adapter);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_descriptor_left_probes_are_answered_and_positions_stored() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("METRICS_ADDRESS", "127.0.0.1:0");
    let adapter = plan.clone().under("ulimit -n 50").start_ready().await;
    sink.react(|_| Reaction::After(Duration::from_secs(3), Box::new(Reaction::Status(202))));
    aws.write("orders", 1, 1);
    wait_for("the request", || sink.most_under_way() == 1).await;
    // More clients than there are descriptors, who say nothing. From now on nothing else can be opened.
    let metrics = adapter.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(TcpStream::connect(&metrics).await.unwrap());
    }
    let open = || std::fs::read_dir(format!("/proc/{}/fd", adapter.pid())).unwrap().count();
    wait_for("the clients to be taken", || open() == 50).await;
    for _ in 0..20 {
        assert!(is_live(&adapter).await, "not live with {} open", open());
    }
    wait_for("the event", || sink.distinct() == 1).await;
    let file = folder.path().join("positions.json");
    let is_stored = || std::fs::read_to_string(&file).unwrap().contains(r#""safe":"after "#);
    wait_within(Duration::from_secs(2), "the position", is_stored).await;
    assert!(adapter.logged_code("DSA-CHECKPOINT-FAILED").is_empty(), "{}", adapter.log_text());
    drop(clients);
    sink.behave();
    aws.write("orders", 1, 1);
    wait_for("what was written later", || sink.distinct() == 2).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0);
}
