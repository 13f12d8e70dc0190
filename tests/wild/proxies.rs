//! Proxies of the environment: they see what is meant for AWS, and no token of a pod.

use crate::server::{Server, answer};
use crate::sources::{Kind, Mood, Source};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

const VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Answers everything, as a proxy might that is asked for a file on its own machine.
async fn proxy() -> Server {
    Server::start(|_| {
        answer(200, r#"{"AccessKeyId":"OTHERS","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#)
    })
    .await
}

async fn world() -> (FakeAws, TestSink, Server) {
    (FakeAws::with_table("orders", 1).await, TestSink::start().await, proxy().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_credentials_on_this_machine_is_asked_directly() {
    for kind in [Kind::Container, Kind::Metadata, Kind::RoleOfContainer] {
        for variable in VARIABLES {
            let (aws, sink, proxy) = world().await;
            let source = Source::start(kind, Mood::key("OURS")).await;
            let plan = source.of(Plan::new(&aws, &sink, "orders"));
            let plan = plan.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-pods-token").env(variable, proxy.url());
            let _adapter = plan.start_ready().await;
            assert!(proxy.seen().is_empty(), "{kind:?} {variable}: {:?}", proxy.seen());
            assert!(!source.server.seen().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_metadata_services_at_link_local_addresses_are_never_asked_through_a_proxy() {
    for (name, value) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[fd00:ec2::23]/v1/credentials"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254"),
    ] {
        let (aws, sink, proxy) = world().await;
        let plan = Plan::new(&aws, &sink, "orders").without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
        let plan = plan.env(name, value).env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-pods-token");
        let adapter = plan.env("HTTP_PROXY", proxy.url()).start().await;
        wait_for("the source's failure", || !adapter.logged("DescribeTable failed").is_empty()).await;
        assert!(proxy.seen().is_empty(), "{value}: {:?}", proxy.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_aws_takes_the_proxy_unless_it_is_excepted() {
    for (exceptions, is_proxied) in [
        ("", true),
        ("other.example", true),
        ("aws.invalid:8443", true),
        ("aws.invalid", false),
        ("*.invalid", false),
        ("other.example aws.invalid", false),
        ("AWS.invalid:80", false),
    ] {
        let (_, sink, proxy) = world().await;
        let plan = Plan::at("http://aws.invalid/", &sink, "orders").env("HTTP_PROXY", proxy.url());
        let adapter = plan.env("NO_PROXY", "").env("no_proxy", exceptions).start().await;
        match is_proxied {
            true => wait_for("a request at the proxy", || !proxy.seen().is_empty()).await,
            false => wait_for("a failure without it", || !adapter.logged("DescribeTable failed").is_empty()).await,
        }
        assert_eq!(!proxy.seen().is_empty(), is_proxied, "NO_PROXY={exceptions:?}");
    }
}
