//! Two replicas of one scaler: one reads, and both answer alike.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tonic::Code;

use crate::externalscaler::IsActiveResponse;
use crate::keda::{Keda, plan, trigger};
use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::positions_table::EmbeddedDynamoDb;
use crate::support::proxy::{Line, TcpProxy};
use crate::support::tls::Authority;
use crate::tls::{presenting, with_tls};

const LEASE: Duration = Duration::from_secs(3);

/// How long a lease is waited for that nobody gives back, with a look and what machines need.
const TAKEOVER: Duration = Duration::from_millis(3300 + 500 + 2500);

/// A replica that shares its lease in this DynamoDB.
fn sharing(plan: Plan, store: &str) -> Plan {
    plan.env("CHECKPOINT_STORE", "dynamodb:positions")
        .env("CHECKPOINT_ENDPOINT_URL", store)
        .env("CHECKPOINT_TABLE_CREATE", "true")
        .env("LEASE_DURATION", "3s")
        .env("SCALER_ADVERTISED_ADDRESS", "127.0.0.1")
}

fn replica(aws: &FakeAws, store: &str) -> Plan {
    sharing(plan(&aws.endpoint()), store)
}

/// The one that reads, started first, and the other one.
async fn pair(plan: &Plan) -> (Adapter, Adapter) {
    let reader = plan.start_ready().await;
    let other = plan.start_ready().await;
    assert_eq!((reads(&reader).await, reads(&other).await), (1.0, 0.0));
    (reader, other)
}

async fn reads(replica: &Adapter) -> f64 {
    replica.metric("scaler_reads", &[]).await
}

async fn aws_calls(replica: &Adapter) -> f64 {
    replica.metric("scaler_aws_calls_total", &[]).await
}

async fn until_it_reads(replica: &Adapter) -> Duration {
    let begun = Instant::now();
    while reads(replica).await != 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not read\n{}", replica.log_text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// What a stream says next; nothing at its end, which is without an error.
async fn said(stream: &mut tonic::Streaming<IsActiveResponse>) -> Option<IsActiveResponse> {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    message.expect("the stream says something, or ends").unwrap()
}

#[tokio::test]
async fn one_replica_reads_and_both_answer_alike() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 2).await, EmbeddedDynamoDb::start().await);
    let (reader, other) = pair(&replica(&aws, dynamodb.endpoint())).await;
    let (mut one, mut two) = (Keda::of(&reader).await, Keda::of(&other).await);
    let of = trigger("orders", &[]);
    let mut stream = two.stream(&of).await;
    assert!(said(&mut stream).await.unwrap().result);
    assert_eq!((one.value(&of).await, two.value(&of).await), (2.0, 2.0));
    two.until_active(&of, false).await;
    assert!(!said(&mut stream).await.unwrap().result);
    assert_eq!((one.values(&of).await.unwrap(), two.values(&of).await.unwrap()), ((0, 0.0), (0, 0.0)));
    aws.write("orders", 1, 1);
    assert!(said(&mut stream).await.unwrap().result, "pushed by way of the other one");
    assert!(one.is_active(&of).await.unwrap() && two.is_active(&of).await.unwrap());
    assert_eq!(one.spec(&of).await.unwrap(), two.spec(&of).await.unwrap());
    let missing = trigger("missing", &[]);
    let errors = [one.values(&missing).await.expect_err("missing"), two.values(&missing).await.expect_err("missing")];
    assert_eq!(errors[0].message(), errors[1].message());
    assert_eq!(errors.each_ref().map(tonic::Status::code), [Code::Unavailable; 2]);
    assert_eq!(aws_calls(&other).await, 0.0, "one reader, one budget of DescribeStream");
    let asked = aws.script().calls.0.iter().filter(|call| call.operation.starts_with("Get")).count();
    let by_reader = reader.metric("scaler_aws_calls_total", &[("operation", "GetRecords")]).await
        + reader.metric("scaler_aws_calls_total", &[("operation", "GetShardIterator")]).await;
    assert!((asked as f64 - by_reader).abs() <= 2.0, "{asked} calls arrived, {by_reader} are the reader's");
    let (shown, asking) = (reader.status().await, other.status().await);
    assert_eq!(shown["scaler"]["replica"]["reads"], true, "{shown}");
    let address = asking["scaler"]["replica"]["asks"].as_str().unwrap().to_owned();
    assert!(reader.logged("listening").iter().any(|line| line["address"] == address.as_str()), "{asking}");
    // The lease is no position.
    let positions = Plan::bare().subcommand("positions").subcommand("show");
    let positions = sharing(positions, dynamodb.endpoint()).env("AWS_REGION", "eu-west-1");
    let positions = positions.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    let output = tokio::task::spawn_blocking(move || positions.command().output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && !out.contains("scaler"), "{out}{err}");
    assert_eq!(dynamodb.entries("positions").await, ["lease"]);
}

#[tokio::test]
async fn at_a_sigterm_the_other_one_reads_within_a_second_or_so() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 1).await, EmbeddedDynamoDb::start().await);
    let plan = replica(&aws, dynamodb.endpoint()).env("LEASE_DURATION", "1m");
    let (reader, other) = pair(&plan).await;
    let mut keda = Keda::of(&other).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(keda.value(&of).await, 1.0);
    let mut stream = keda.stream(&of).await;
    assert!(said(&mut stream).await.unwrap().result);
    let begun = Instant::now();
    let ended = tokio::spawn(reader.terminate());
    assert!(said(&mut stream).await.is_none(), "it ends without an error, so that KEDA opens it anew at once");
    let mut opened = keda.stream(&of).await;
    // No call fails meanwhile: it waits.
    assert_eq!(keda.value(&of).await, 1.0);
    println!("from SIGTERM to an answer of the other replica: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert!(said(&mut opened).await.unwrap().result);
    assert_eq!(ended.await.unwrap(), Some(0));
    assert_eq!(reads(&other).await, 1.0);
    assert!(other.logged_code("DSA-SCALER-READER").is_empty(), "an update is no trouble");
}

#[tokio::test]
async fn after_a_sigkill_nothing_is_known_until_the_other_one_reads_within_the_lease() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 1).await, EmbeddedDynamoDb::start().await);
    let (reader, other) = pair(&replica(&aws, dynamodb.endpoint())).await;
    let mut keda = Keda::of(&other).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    let mut stream = keda.stream(&of).await;
    assert!(!said(&mut stream).await.unwrap().result);
    aws.write("orders", 1, 1);
    reader.kill();
    let killed = Instant::now();
    assert!(said(&mut stream).await.is_none_or(|message| message.result), "an end, or what was written");
    let error = loop {
        // What the one that is gone has said last may be on its way.
        match keda.is_active(&of).await {
            Err(error) => break error,
            Ok(is_active) => assert!(is_active, "never a zero"),
        }
    };
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no replica of the scaler answers"), "{error:?}");
    while keda.is_active(&of).await.is_err() {
        assert!(killed.elapsed() < TAKEOVER + Duration::from_secs(3), "{:?}\n{}", killed.elapsed(), other.log_text());
    }
    assert_eq!(reads(&other).await, 1.0);
    println!("from SIGKILL to an answer of the other replica: {:?}, with a lease of {LEASE:?}", killed.elapsed());
    assert!(keda.is_active(&of).await.unwrap(), "what was written meanwhile is not missed");
}

#[tokio::test]
async fn a_replica_that_was_stopped_for_longer_than_its_lease_says_nothing_of_what_it_knew() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 1).await, EmbeddedDynamoDb::start().await);
    let (reader, other) = pair(&replica(&aws, dynamodb.endpoint()).env("SCALER_IDLE_AFTER", "2s")).await;
    let (mut stopped, mut taking) = (Keda::of(&reader).await, Keda::of(&other).await);
    let of = trigger("orders", &[]);
    stopped.until_active(&of, false).await;
    let mut stream = stopped.stream(&of).await;
    assert!(!said(&mut stream).await.unwrap().result);
    reader.pause();
    until_it_reads(&other).await;
    aws.write("orders", 1, 1);
    taking.until_active(&of, true).await;
    // A call that waits for it.
    let (mut waiting, asked) = (stopped.clone(), of.clone());
    let waiting = tokio::spawn(async move { waiting.is_active(&asked).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    aws.write("orders", 1, 1);
    let reads_before = aws.script().calls.0.len();
    reader.signal("CONT");
    match waiting.await.unwrap() {
        Ok(is_active) => assert!(is_active, "it has answered as if it still read"),
        Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error:?}"),
    }
    assert!(said(&mut stream).await.is_none_or(|message| message.result), "an end");
    assert!(stopped.is_active(&of).await.unwrap(), "it asks the other one now");
    assert_eq!((reads(&reader).await, reads(&other).await), (0.0, 1.0));
    let calls = aws_calls(&reader).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(aws_calls(&reader).await, calls);
    assert!(aws.script().calls.0.len() > reads_before, "the other one reads on");
    assert!(!reader.logged_code("DSA-LEASE-LOST").is_empty());
}

#[tokio::test]
async fn while_the_store_is_away_nobody_answers_for_longer_than_the_lease() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 1).await, EmbeddedDynamoDb::start().await);
    let line = TcpProxy::before(dynamodb.endpoint()).await;
    let (reader, other) = pair(&replica(&aws, &line.endpoint())).await;
    let (mut one, mut two) = (Keda::of(&reader).await, Keda::of(&other).await);
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!((one.value(&of).await, two.value(&of).await), (1.0, 1.0));
    line.set(Line::Silent);
    let cut = Instant::now();
    while one.is_active(&of).await.is_ok() || two.is_active(&of).await.is_ok() {
        assert!(cut.elapsed() < LEASE + Duration::from_secs(8), "the lease is over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for keda in [&mut one, &mut two] {
        assert_eq!(keda.values(&of).await.expect_err("nobody reads").code(), Code::Unavailable);
    }
    let calls = aws_calls(&reader).await;
    let (code, why) = reader.get("/readyz").await;
    assert!(code == 503 && why.contains("lease"), "{code} {why}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(aws_calls(&reader).await, calls, "it reads although its lease is over");
    line.set(Line::Whole);
    let begun = Instant::now();
    while one.is_active(&of).await.is_err() || two.is_active(&of).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}\n{}", reader.log_text(), other.log_text());
    }
    assert_eq!(reads(&reader).await + reads(&other).await, 1.0);
    reader.wait_ready().await;
    other.wait_ready().await;
}

#[tokio::test]
async fn replicas_trust_each_other_by_their_certificates() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 2).await, EmbeddedDynamoDb::start().await);
    let (folder, own, strange) = (tempfile::tempdir().unwrap(), Authority::named("own"), Authority::named("strange"));
    let write = |folder: &Path, authority: &Authority| {
        let (certificate, key) = authority.issue();
        fs::write(folder.join("tls.crt"), certificate).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
    };
    write(folder.path(), &own);
    fs::write(folder.path().join("ca.crt"), own.pem()).unwrap();
    let authorities = folder.path().join("ca.crt").display().to_string();
    let plan = sharing(with_tls(&aws, &folder), dynamodb.endpoint()).env("SCALER_CLIENT_CA_FILE", authorities);
    let (reader, other) = pair(&plan).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    let mut keda = Keda::with_tls(&other, presenting(&own, &own)).await;
    assert_eq!(keda.value(&of).await, 2.0);
    // Somebody in the place of the one that reads, with a certificate of another authority.
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), &strange);
    fs::write(elsewhere.path().join("ca.crt"), [own.pem(), strange.pem()].concat()).unwrap();
    let authorities = elsewhere.path().join("ca.crt").display().to_string();
    let plan = sharing(with_tls(&aws, &elsewhere), dynamodb.endpoint()).env("SCALER_CLIENT_CA_FILE", authorities);
    let stranger = plan.start_ready().await;
    reader.terminate().await;
    let begun = Instant::now();
    while reads(&stranger).await != 1.0 && reads(&other).await != 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody reads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if reads(&stranger).await == 1.0 {
        let error = keda.values(&of).await.expect_err("it has believed a stranger");
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    } else {
        let mut keda = Keda::with_tls(&stranger, presenting(&strange, &own)).await;
        let error = keda.values(&of).await.expect_err("a stranger was answered");
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn the_rules_of_the_one_that_reads_hold_too() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 2).await, EmbeddedDynamoDb::start().await);
    let all = replica(&aws, dynamodb.endpoint());
    let narrow = r#"[{"namespaces": ["shop"], "tables": ["customers"], "regions": ["eu-west-1"]}]"#;
    let reader = all.clone().env("SCALER_RULES", narrow).start_ready().await;
    let other = all.start_ready().await;
    assert_eq!((reads(&reader).await, reads(&other).await), (1.0, 0.0));
    let of = trigger("orders", &[]);
    for replica in [&reader, &other] {
        let mut keda = Keda::of(replica).await;
        assert_eq!(keda.values(&of).await.expect_err("refused").code(), Code::PermissionDenied);
        assert_eq!(keda.is_active(&of).await.expect_err("refused").code(), Code::PermissionDenied);
    }
    assert!(aws.script().calls.0.is_empty());
}

#[tokio::test]
async fn the_one_that_reads_does_not_answer_for_an_earlier_run_at_its_address() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 2).await, EmbeddedDynamoDb::start().await);
    let (one, _two) = pair(&replica(&aws, dynamodb.endpoint())).await;
    let mut keda = Keda::of(&one).await;
    let of = trigger("orders", &[]);
    assert!(keda.is_active(&of).await.is_ok());
    let error = keda.is_active_of_run(&of, "127.0.0.1:1 00000000").await.expect_err("it is another run");
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_call_is_passed_on_once_and_only_to_the_run_of_a_process_that_the_lease_names() {
    let (aws, dynamodb) = (FakeAws::with_table("orders", 2).await, EmbeddedDynamoDb::start().await);
    let plan = replica(&aws, dynamodb.endpoint());
    let (one, two) = pair(&plan).await;
    let address = one.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    // Neither has the lease any more: it names an earlier run at the address of the first one.
    let mut version = 1_000_000;
    let mut keep = async || {
        version += 1;
        let owner = format!("{address} 00000000");
        dynamodb.put_lease("positions", "scaler dynamodb-streams-scaler", &owner, version).await;
    };
    let begun = Instant::now();
    while reads(&one).await == 1.0 || two.status().await["scaler"]["replica"]["asks"].is_null() {
        keep().await;
        assert!(begun.elapsed() < Duration::from_secs(20), "the lease is another one's");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let of = trigger("orders", &[]);
    let mut keda = Keda::of(&two).await;
    let before = one.metric("scaler_requests_total", &[]).await;
    let asked = Instant::now();
    let error = {
        let asking = keda.is_active(&of);
        tokio::pin!(asking);
        loop {
            tokio::select! {
                answer = &mut asking => break answer.expect_err("nobody reads"),
                () = tokio::time::sleep(Duration::from_millis(300)) => keep().await,
            }
        }
    };
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let passed = one.metric("scaler_requests_total", &[]).await - before;
    assert!((1.0..=4.0).contains(&passed), "passed on {passed} times");
    assert!(!two.logged_code("DSA-SCALER-READER").is_empty());
}
