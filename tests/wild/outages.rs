//! Sources of credentials that do not answer, and those that refuse: two different things to be told.

use std::time::Duration;

use crate::harness::{failure, refusal, text};
use crate::sources::{Kind, Mood, Source};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::{wait_for, wait_within};

/// Marks of the debug form of a library's error.
const DUMPS: [&str; 6] =
    ["ProviderError(", "DispatchFailure(", "ServiceError(", "Response {", "SdkBody", "ConnectorError {"];

fn answers(kind: Kind) -> Vec<Mood> {
    let answer = |status: u16, text: &str| Mood::Answer(status, text.to_owned());
    match kind {
        Kind::Process => vec![answer(0, ""), answer(0, "<html>")],
        Kind::Container | Kind::RoleOfContainer => {
            vec![answer(503, "<html>busy</html>"), answer(500, ""), answer(429, ""), answer(200, "<html>")]
        }
        Kind::RoleOfProcess | Kind::RoleOfOwnProcess => Vec::new(),
        _ => vec![answer(503, "<html>busy</html>"), answer(500, "")],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_credentials_that_does_not_answer_is_told_as_an_outage() {
    for kind in Kind::ALL {
        for mood in answers(kind) {
            let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
            let source = Source::start(kind, mood.clone()).await;
            let adapter = source.of(Plan::new(&aws, &sink, "orders")).start().await;
            wait_for("a word about the outage", || !adapter.logged_code("DSA-AWS-FAILING").is_empty()).await;
            let said = adapter.logged_code("DSA-AWS-FAILING")[0]["message"].as_str().unwrap().to_owned();
            assert!(said.contains("does not answer as it should"), "{kind:?} {mood:?}: {said}");
            assert!(!said.contains("AWS_ACCESS_KEY_ID"), "{kind:?} {mood:?}: {said}");
            assert!(adapter.logged_code("DSA-AWS-DENIED").is_empty(), "{kind:?} {mood:?}: {}", adapter.log_text());
            let denied = adapter.metric("aws_calls_total", &[("result", "credentials")]).await;
            assert_eq!(denied, 0.0, "{kind:?} {mood:?}: the alert about denials would fire");
            source.set(Mood::key("GOOD"));
            adapter.wait_ready().await;
            assert!(!DUMPS.iter().any(|dump| adapter.log_text().contains(dump)), "{}", adapter.log_text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_credentials_that_refuses_is_told_as_a_denial() {
    let (_, denied) = refusal("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole");
    let (_, token) = refusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account");
    for (kind, mood, named) in [
        (Kind::AssumedRole, Mood::Answer(403, denied.clone()), "sts:AssumeRole"),
        (Kind::WebIdentity, Mood::Answer(400, token), "InvalidIdentityToken"),
        (Kind::RoleOfContainer, Mood::Answer(403, denied), "refuses"),
        (Kind::Container, Mood::Answer(403, "{}".into()), "refuses"),
        (Kind::Metadata, Mood::Answer(403, "disabled".into()), "set AWS_ACCESS_KEY_ID"),
        (Kind::Container, Mood::Answer(404, "{}".into()), "refuses"),
    ] {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let source = Source::start(kind, mood.clone()).await;
        let adapter = source.of(Plan::new(&aws, &sink, "orders")).start().await;
        wait_within(Duration::from_secs(20), "a denial", || !adapter.logged_code("DSA-AWS-DENIED").is_empty()).await;
        let said = adapter.logged_code("DSA-AWS-DENIED")[0]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(named), "{kind:?} {mood:?}: {said}");
        assert!(!DUMPS.iter().any(|dump| adapter.log_text().contains(dump)), "{}", adapter.log_text());
        assert_eq!(adapter.get("/readyz").await.0, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_web_identitys_provider_and_a_throttle_of_sts_are_outages() {
    for code in ["IDPCommunicationError", "Throttling"] {
        let (_, body) = refusal(code, "try again");
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let source = Source::start(Kind::WebIdentity, Mood::Answer(400, body)).await;
        let adapter = source.of(Plan::new(&aws, &sink, "orders")).start().await;
        wait_for("a word about the outage", || !adapter.logged_code("DSA-AWS-FAILING").is_empty()).await;
        assert!(adapter.logged_code("DSA-AWS-DENIED").is_empty(), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_an_outage_of_a_source_of_credentials_with_a_fix_about_that_source() {
    for kind in [Kind::Process, Kind::Container, Kind::AssumedRole, Kind::WebIdentity] {
        let source = Source::start(kind, Mood::Answer(503, "<html>busy</html>".into())).await;
        let run = source.check().await;
        assert_eq!(run.code, Some(69), "{kind:?}: {}", run.err);
        let checks = run.checks();
        let fix = text(failure(&checks), "remedy");
        assert!(fix.contains("source of the credentials") && fix.contains("wait"), "{kind:?}: {fix}");
    }
}
