//! Whom the sink must be and as whom it is spoken to, with files that change while the adapter runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::tls::{Authority, TlsFront};
use crate::support::wait_for;

/// Files that are replaced whole, as a volume's are.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> String {
        let (new, path) = (self.path(".new"), self.path(name));
        fs::write(&new, content).unwrap();
        fs::rename(&new, &path).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_the_configuration_is_trusted() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let authority = Authority::named("Cluster");
    let front = TlsFront::start(&authority, &sink).await;
    let plan = Plan::new(&aws, &sink, "orders").env("K_SINK", front.url()).env("K_CA_CERTS", authority.pem());
    let adapter = plan.start_ready().await;
    aws.write("orders", 10, 5);
    wait_for("all events", || sink.distinct() == 50).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.received()), 0);
    assert_eq!(adapter.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_not_trusted_is_reported_and_gets_everything_once_its_authority_is_there() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let (wrong, right) = (Authority::named("Wrong"), Authority::named("Right"));
    let front = TlsFront::start(&right, &sink).await;
    let folder = Folder::new();
    folder.write("ca.pem", &wrong.pem());
    let plan = Plan::new(&aws, &sink, "orders").env("K_SINK", front.url());
    let plan = plan.env("CA_CERTS_DIR", folder.0.path().display().to_string());
    let adapter = plan.start_ready().await;
    aws.write("orders", 20, 5);
    let why = "comes from an authority that is not trusted here";
    wait_for("the outage to be noticed", || !adapter.logged_code("DSA-SINK-FAILING").is_empty()).await;
    assert!(adapter.logged_code("DSA-SINK-FAILING")[0]["message"].as_str().unwrap().contains(why));
    assert!(adapter.metric("delivery_attempts_total", &[("code", "tls")]).await > 0.0);

    // A minute is what readiness grants a sink.
    let mut told = String::new();
    for _ in 0..100 {
        let (status, body) = adapter.get("/readyz").await;
        if status == 503 {
            told = body;
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(told.contains("the sink has accepted nothing") && told.contains(why), "{told}");
    assert!(sink.received().is_empty(), "something was sent to a sink that is not trusted");

    folder.write("ca.pem", &format!("{}{}", wrong.pem(), right.pem()));
    wait_for("all events", || sink.distinct() == 100).await;
    adapter.wait_ready().await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);

    // The next rotation: first trusted, then used, then alone.
    let next = Authority::named("Next");
    folder.write("ca.pem", &format!("{}{}", right.pem(), next.pem()));
    aws.write("orders", 20, 5);
    front.change_to(&next);
    folder.write("ca.pem", &next.pem());
    aws.write("orders", 20, 5);
    wait_for("all events", || sink.distinct() == 300).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_while_events_are_sent() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let folder = Folder::new();
    let path = folder.write("token", "hunter2-0");
    let only = |token: String| {
        move |event: &crate::support::sink::Received| {
            let is_right = event.authorization.as_deref() == Some(&*format!("Bearer {token}"));
            Reaction::Status(if is_right { 202 } else { 401 })
        }
    };
    sink.react(only("hunter2-0".to_owned()));
    let adapter = Plan::new(&aws, &sink, "orders").env("SINK_TOKEN_FILE", path).start_ready().await;
    for round in 1..=5 {
        aws.write("orders", 20, 2);
        wait_for("this round's events", || sink.distinct() == round * 40).await;
        let token = format!("hunter2-{round}");
        folder.write("token", &token);
        sink.react(only(token));
    }
    aws.write("orders", 20, 2);
    wait_for("all events", || sink.distinct() == 240).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    // Each 401 was followed by the new token at once, within the attempt: none was ever the answer.
    assert_eq!(adapter.metric("delivery_attempts_total", &[("code", "401")]).await, 0.0);
    assert!(!adapter.log_text().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_without_the_token_that_was_asked_for() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let folder = Folder::new();
    let path = folder.path("token").display().to_string();
    let adapter = Plan::new(&aws, &sink, "orders").env("SINK_TOKEN_FILE", &path).start_ready().await;
    let line = &adapter.logged_code("DSA-SINK-FILE")[0];
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains(&format!("{path} does not exist")), "{line}");
    aws.write("orders", 5, 2);
    wait_for("the outage to be noticed", || !adapter.logged_code("DSA-SINK-FAILING").is_empty()).await;
    assert!(adapter.metric("delivery_attempts_total", &[("code", "credentials")]).await > 0.0);
    assert!(sink.received().is_empty());
    folder.write("token", "t1");
    wait_for("all events", || sink.distinct() == 10).await;
    assert!(sink.received().iter().all(|event| event.authorization.as_deref() == Some("Bearer t1")));
    assert_eq!(adapter.logged("the sink file is usable again").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_sink_is_trusted_alike_and_gets_no_token() {
    let (aws, sink, dead) = (FakeAws::with_table("orders", 1).await, TestSink::start().await, TestSink::start().await);
    let authority = Authority::named("Cluster");
    let front = TlsFront::start(&authority, &dead).await;
    let folder = Folder::new();
    sink.react(|_| Reaction::Status(400));
    let plan = Plan::new(&aws, &sink, "orders")
        .env("SINK_TOKEN_FILE", folder.write("token", "t1"))
        .env("ON_UNDELIVERABLE", "dead-letter")
        .env("DEAD_LETTER_SINK", front.url())
        .env("K_CA_CERTS", authority.pem());
    let _adapter = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("all dead letters", || dead.distinct() == 5).await;
    assert!(sink.received().iter().all(|event| event.authorization.as_deref() == Some("Bearer t1")));
    assert!(dead.received().iter().all(|event| event.authorization.is_none()), "the token went to another host");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_ends_the_start_with_64_and_names_the_variable() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &sink, "orders");
    let with_user = sink.url().replace("http://", "http://user:hunter2@");
    let cases = [
        (
            plan.clone()
                .env("K_SINK", "https://sink.example")
                .env("K_CA_CERTS", "-----BEGIN CERTIFICATE-----\nhunter2\n"),
            "K_CA_CERTS",
        ),
        (plan.clone().env("K_SINK", with_user).env("SINK_TOKEN_FILE", "/token"), "SINK_TOKEN_FILE"),
        (plan.clone().env("SINK_CLIENT_CERT_FILE", "/tls.crt"), "SINK_CLIENT_KEY_FILE"),
    ];
    for (plan, variable) in cases {
        let output = plan.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(variable) && !text.contains("hunter2"), "{text}");
    }
}
