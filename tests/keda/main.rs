//! KEDA's own Go code calls the scaler, and KEDA's own scaler for DynamoDB Streams is asked about the same stream.
//!
//! `tests/keda/run` builds the client, names it in `KEDA_CLIENT`, and says in `KEDA_DYNAMODB_LOCAL` where DynamoDB Local listens.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../scaler/plan.rs"]
mod plan;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::adapter::{Adapter, Plan};
use support::aws::{FakeAws, Trouble};
use support::emulator::Emulator;
use support::tls::Authority;
use support::wait_for;

/// What is done to a stream.
type Change = fn(&FakeAws);

/// KEDA's scalers in a process of their own.
struct Keda {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Keda {
    fn start() -> Self {
        let program = std::env::var("KEDA_CLIENT").expect("tests/keda/run names the client");
        let mut child =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, answers }
    }

    /// What KEDA sees of a trigger; `id` tells triggers apart.
    fn ask(&mut self, id: &str, kind: &str, metadata: &Value, auth: &Value) -> Value {
        writeln!(self.asks, "{}", json!({"id": id, "type": kind, "metadata": metadata, "auth": auth})).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// KEDA's own scaler.
    fn own(&mut self, endpoint: &str) -> Value {
        let metadata = json!({"tableName": "orders", "awsRegion": "eu-west-1", "awsEndpoint": endpoint});
        self.ask("own", "aws-dynamodb-streams", &metadata, &json!({"awsAccessKeyID": "x", "awsSecretAccessKey": "y"}))
    }

    /// A trigger of this scaler.
    fn external(&mut self, id: &str, address: &str, more: &Value) -> Value {
        self.ask(id, "external", &metadata(address, more), &json!({}))
    }
}

impl Drop for Keda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn metadata(address: &str, more: &Value) -> Value {
    let mut all = json!({"scalerAddress": address, "tableName": "orders", "awsRegion": "eu-west-1"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

async fn address(scaler: &Adapter) -> String {
    wait_for("the port of the calls", || scaler.logged("listening").len() == 2).await;
    scaler.logged("listening")[1]["address"].as_str().unwrap().replace("127.0.0.1", "localhost")
}

async fn started(endpoint: &str) -> (Adapter, String) {
    let scaler = plan::plan(endpoint).start_ready().await;
    let address = address(&scaler).await;
    (scaler, address)
}

/// Asks until KEDA sees this.
async fn until(what: &str, mut ask: impl FnMut() -> Value, holds: impl Fn(&Value) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let seen = ask();
        if holds(&seen) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_stand_beside_those_of_kedas_own_scaler_on_the_same_stream() {
    let aws = FakeAws::with_table("orders", 3).await;
    let (_scaler, address) = started(&aws.endpoint()).await;
    let mut keda = Keda::start();
    let stays = json!({"scaleToZero": "false"});
    println!("| the stream | KEDA's own | `listed-shards` | `open-shards` |\n|---|---|---|---|");
    let steps: [(&str, Change, [i64; 3]); 5] = [
        ("3 shards, new", |_| {}, [3, 3, 3]),
        ("each rolled over once", |aws| aws.script().roll_over_all("orders"), [6, 6, 3]),
        ("after a day: six rollovers", |aws| (0..5).for_each(|_| aws.script().roll_over_all("orders")), [21, 21, 3]),
        (
            "one shard split",
            |aws| {
                let first = aws.script().open_shards("orders")[0].clone();
                aws.script().split("orders", &first);
            },
            [23, 23, 4],
        ),
        (
            "disabled, and a new stream with 2 shards",
            |aws| {
                aws.script().disable_stream("orders");
                aws.script().enable_stream("orders", 2);
            },
            // KEDA's own goes on counting the old stream.
            [23, 2, 2],
        ),
    ];
    for (what, change, expected) in steps {
        change(&aws);
        let expected = expected.map(|shards| shards * 1000);
        until(what, || keda.external("open", &address, &stays), |seen| seen["value"] == expected[2]).await;
        let listed = json!({"metric": "listed-shards"});
        until(what, || keda.external("listed", &address, &listed), |seen| seen["value"] == expected[1]).await;
        let own = keda.own(&aws.endpoint());
        assert_eq!((&own["value"], &own["active"]), (&json!(expected[0]), &json!(true)), "{what}: {own}");
        println!("| {what} | {} | {} | {} |", expected[0] / 1000, expected[1] / 1000, expected[2] / 1000);
    }
    let (own, ours) = (keda.own(&aws.endpoint()), keda.external("open", &address, &stays));
    assert_eq!((&own["target"], &ours["target"]), (&json!(2000), &json!(2000)), "the same default");
    assert_eq!(ours["name"], "s0-aws-dynamodb-streams-open-shards-orders");
    let threshold = json!({"scaleToZero": "false", "activationShardCount": "2"});
    assert_eq!(keda.external("threshold", &address, &threshold)["active"], false, "strictly more");
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_sees_zero_and_is_told_at_once_when_something_is_written() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (_scaler, address) = started(&aws.endpoint()).await;
    let mut keda = Keda::start();
    let mut ask = || keda.ask("push", "external-push", &metadata(&address, &json!({})), &json!({}));
    until("zero", &mut ask, |seen| seen["active"] == false && seen["value"] == 0 && seen["error"] == "").await;
    let before = ask()["pushed"][0].as_i64().unwrap();
    aws.write("orders", 1, 1);
    let pushed = until("a push", &mut ask, |seen| seen["pushed"][0].as_i64().unwrap() > before).await;
    println!("from the first write to KEDA's push: {pushed:?}, polling every 250 ms");
    let seen = ask();
    assert_eq!((&seen["active"], &seen["value"]), (&json!(true), &json!(2000)), "{seen}");
    until("zero again", &mut ask, |seen| seen["active"] == false).await;
    let seen = ask();
    assert_eq!(seen["pushed"][0], before + 1, "one push for one change: each postpones zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_dynamodb_local_it_counts_as_kedas_own_scaler_does_and_knows_zero_a_write_and_another_stream() {
    let local = Emulator::at("KEDA_DYNAMODB_LOCAL").await;
    local.create("orders").await;
    let (_scaler, address) = started(&local.endpoint).await;
    let mut keda = Keda::start();
    let own = keda.own(&local.endpoint);
    assert_eq!((&own["active"], &own["error"]), (&json!(true), &json!("")), "it never says zero: {own}");
    for more in [json!({"metric": "listed-shards"}), json!({"scaleToZero": "false"})] {
        let id = more.to_string();
        let same = |seen: &Value| ["value", "target", "active"].iter().all(|member| seen[member] == own[member]);
        until("the same values", || keda.external(&id, &address, &more), same).await;
    }
    let mut ask = || keda.ask("push", "external-push", &metadata(&address, &json!({})), &json!({}));
    until("zero", &mut ask, |seen| seen["active"] == false && seen["value"] == 0 && seen["error"] == "").await;
    let before = ask()["pushed"][0].as_i64().unwrap();
    local.write("orders", 1, 1, 1).await;
    let pushed = until("a push", &mut ask, |seen| seen["pushed"][0].as_i64().unwrap() > before).await;
    println!("on DynamoDB Local, from the first write to KEDA's push: {pushed:?}, polling every 250 ms");
    assert_eq!(ask()["value"], own["value"], "the shards count again");
    until("zero again", &mut ask, |seen| seen["active"] == false).await;

    local.enable("orders", false).await;
    local.enable("orders", true).await;
    // The scaler does not know of this stream yet.
    local.write("orders", 1, 2, 2).await;
    until("a write to another stream", &mut ask, |seen| seen["active"] == true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_what_is_not_known_are_errors_for_keda() {
    let aws = FakeAws::with_table("orders", 1).await;
    aws.script().faults.always("DescribeStream", Trouble::Error("AccessDeniedException"));
    let (_scaler, address) = started(&aws.endpoint()).await;
    let mut keda = Keda::start();
    let unknown = keda.external("unknown", &address, &json!({}));
    assert!(unknown["error"].as_str().unwrap().contains("Unavailable") && unknown["active"] == false, "{unknown}");
    assert_eq!(unknown["target"], 2000, "the HPA can be made all the same");
    let wrong = keda.external("wrong", &address, &json!({"shardCount": "0"}));
    assert_eq!(wrong["error"], "0 specifications", "KEDA's word for a specification that was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_comes_back_after_a_restart() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (scaler, address) = started(&aws.endpoint()).await;
    let mut keda = Keda::start();
    let stays = json!({"scaleToZero": "false"});
    assert_eq!(keda.external("open", &address, &stays)["value"], 2000);
    assert_eq!(scaler.terminate().await, Some(0));
    assert_ne!(keda.external("open", &address, &stays)["error"], "");
    let port = address.rsplit(':').next().unwrap();
    let again = plan::plan(&aws.endpoint()).env("SCALER_ADDRESS", format!("127.0.0.1:{port}"));
    let _scaler = again.start_ready().await;
    let back = until("the scaler", || keda.external("open", &address, &stays), |seen| seen["value"] == 2000).await;
    println!("KEDA sees values again {back:?} after the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_client_certificates_are_those_of_a_trigger_authentication() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (folder, own, clients) = (tempfile::tempdir().unwrap(), Authority::named("own"), Authority::named("keda"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = own.issue();
    for (name, text) in [("tls.crt", certificate), ("tls.key", key), ("ca.crt", clients.pem())] {
        std::fs::write(path(name), text).unwrap();
    }
    let with_tls = |plan: Plan| {
        plan.env("SCALER_TLS_CERT_FILE", path("tls.crt"))
            .env("SCALER_TLS_KEY_FILE", path("tls.key"))
            .env("SCALER_CLIENT_CA_FILE", path("ca.crt"))
    };
    let scaler = with_tls(plan::plan(&aws.endpoint())).start_ready().await;
    wait_for("the certificate", || !scaler.logged("is loaded").is_empty()).await;
    let address = address(&scaler).await;
    let mut keda = Keda::start();
    let metadata = metadata(&address, &json!({"scaleToZero": "false"}));
    let (certificate, key) = clients.issue();
    let auth = json!({"caCert": own.pem(), "tlsClientCert": certificate, "tlsClientKey": key});
    let seen = keda.ask("mtls", "external", &metadata, &auth);
    assert_eq!((&seen["value"], &seen["error"]), (&json!(2000), &json!("")), "{seen}");
    let without = keda.ask("tls", "external", &metadata, &json!({"caCert": own.pem()}));
    assert_ne!(without["error"], "", "{without}");
    let plain = keda.ask("plain", "external", &metadata, &json!({}));
    assert_ne!(plain["error"], "", "{plain}");
}
