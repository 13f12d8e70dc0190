//! Clients of the port that mean harm: others are answered, and events are delivered, all the same.

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;

#[tokio::test(flavor = "multi_thread")]
async fn status_and_page_are_served_to_hosts_that_no_page_of_a_stranger_can_have() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &sink, "orders").env("ADMIN_HOSTS", "adapter.example.com");
    let adapter = plan.start_ready().await;
    for host in ["127.0.0.1:8080", "[::1]", "localhost:8080", "orders-events.shop.svc", "adapter.example.com:443"] {
        for path in ["/status", "/"] {
            assert_eq!(adapter.get_as(host, path).await.0, 200, "{host} {path}");
        }
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "svc.evil.example"] {
        for path in ["/status", "/"] {
            let (status, body) = adapter.get_as(host, path).await;
            assert!(status == 403 && body.contains("ADMIN_HOSTS") && !body.contains("orders"), "{host} {path}: {body}");
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(adapter.get_as(host, path).await.0, 200, "{host} {path}");
        }
    }
}
