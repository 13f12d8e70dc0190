//! What is secret stays so, whatever goes wrong.

use crate::harness::{World, refusal, sts};
use crate::server::{Server, status};
use crate::support::aws::Trouble;

const SECRETS: [&str; 7] = [
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AKIAIOSFODNN7EXAMPLE",
    "FwoGZXIvYXdzEXAMPLETOKEN",
    "external-id-of-the-owner",
    "hunter2password",
    "token-in-the-path",
    "token-in-the-query",
];

fn with_secrets(world: World, sink: &str) -> World {
    world
        .env("AWS_SESSION_TOKEN", SECRETS[2])
        .env("K_SINK", format!("http://user:{}@{sink}/{}?key={}", SECRETS[4], SECRETS[5], SECRETS[6]))
}

async fn assert_silent(world: &World, what: &str) {
    for output in ["text", "json"] {
        let run = world.check(&["--output", output, "--send-test-event", "--timeout", "3s"]).await;
        assert!(!run.out.is_empty(), "{what}: {}", run.err);
        for secret in SECRETS.iter().chain(&["dXNlcjpodW50ZXIycGFzc3dvcmQ="]) {
            assert!(!run.out.contains(secret) && !run.err.contains(secret), "{what}: {secret} in\n{}", run.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_when_all_is_well() {
    let world = World::new().await;
    let sink = world.sink.address().to_string();
    let world = with_secrets(world, &sink);
    assert_silent(&world, "all is well").await;
    let seen = world.sink.seen();
    assert!(seen.iter().all(|seen| seen.header("authorization").starts_with("Basic ")), "the sink itself is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_when_everything_fails() {
    let sink = Server::start(|_| status(403)).await;
    let refusing = sts(|| refusal("AccessDenied", "not authorized to perform: sts:AssumeRole")).await;
    let world = World::new().await;
    world.aws.script().faults.always("DescribeTable", Trouble::Error("UnrecognizedClientException"));
    let world = with_secrets(world, &sink.address().to_string());
    assert_silent(&world, "AWS and the sink refuse").await;
    let world = world
        .env("AWS_ENDPOINT_URL_STS", refusing.url())
        .env("AWS_ASSUME_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        .env("AWS_ASSUME_ROLE_EXTERNAL_ID", SECRETS[3]);
    assert_silent(&world, "the role may not be assumed").await;
    assert!(refusing.seen().iter().any(|seen| seen.body.contains(SECRETS[3])), "AWS itself is told");
    drop(sink);
    assert_silent(&world, "the sink is gone").await;
    let world = world.env("POLL_INTERVAL", "soon").env("K_SINK", "ftp://user:hunter2password@host/token-in-the-path");
    let run = world.check(&["--output", "json"]).await;
    assert_eq!(run.code, Some(64));
    assert!(SECRETS.iter().all(|secret| !run.out.contains(secret) && !run.err.contains(secret)), "{}", run.out);
}
