//! KEDA's operator, on a real API server, scales a Deployment by the real scaler on a scripted DynamoDB Streams. There are no nodes: what is
//! seen is the number of replicas that KEDA asks for.
//!
//! `tests/cluster/run` starts the server and the operator, and names the server in `KUBECONFIG`.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../scaler/plan.rs"]
mod plan;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::adapter::Adapter;
use support::aws::FakeAws;
use support::{wait_for, wait_within};

const NAMESPACE: &str = "shop";

/// More than KEDA needs for anything here.
const PATIENCE: Duration = Duration::from_secs(90);

/// KEDA polls so seldom that what happens sooner was pushed.
const POLLING: u64 = 30;

fn kubectl(arguments: &[&str], input: &Value) -> String {
    let mut command = Command::new("kubectl");
    command.args(["--namespace", NAMESPACE]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A Deployment and the ScaledObject that scales it.
struct Consumer {
    name: &'static str,
}

impl Consumer {
    fn apply(name: &'static str, address: &str) -> Self {
        let pod =
            json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "none"}]}});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": pod},
        });
        let metadata = json!({"scalerAddress": address, "tableName": "orders", "awsRegion": "eu-west-1"});
        let scaled = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"name": name}, "pollingInterval": POLLING, "cooldownPeriod": 1, "minReplicaCount": 0,
                "triggers": [{"type": "external-push", "metadata": metadata}],
            },
        });
        for object in [deployment, scaled] {
            kubectl(&["apply", "--server-side", "-f", "-"], &object);
        }
        Self { name }
    }

    fn replicas(&self) -> String {
        kubectl(&["get", "deployment", self.name, "-o", "jsonpath={.spec.replicas}"], &Value::Null)
    }

    fn is_ready(&self) -> String {
        let status = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        kubectl(&["get", "scaledobject", self.name, "-o", status], &Value::Null)
    }

    async fn until_replicas(&self, wanted: &str) -> Duration {
        let begun = Instant::now();
        wait_within(PATIENCE, "the replicas that KEDA asks for", || self.replicas() == wanted).await;
        begun.elapsed()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = Command::new("kubectl")
            .args(["--namespace", NAMESPACE, "delete", "scaledobject,deployment", self.name])
            .stdout(Stdio::null())
            .status();
    }
}

async fn started(aws: &FakeAws) -> (Adapter, String) {
    let scaler = plan::plan(&aws.endpoint()).start_ready().await;
    wait_for("the port of the calls", || scaler.logged("listening").len() == 2).await;
    let address = scaler.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    (scaler, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_scales_from_zero_long_before_its_next_poll_and_back_when_nothing_is_written() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (_scaler, address) = started(&aws).await;
    let consumer = Consumer::apply("pushed", &address);
    consumer.until_replicas("0").await;
    for _ in 0..3 {
        aws.write("orders", 1, 1);
        let took = consumer.until_replicas("1").await;
        println!("from the write to one replica: {took:?}; KEDA polls each {POLLING} s");
        assert!(took < Duration::from_secs(POLLING / 2), "KEDA was not told, it asked");
        let took = consumer.until_replicas("0").await;
        println!("to zero again: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_scaler_is_away_the_replicas_stay_as_they_are() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (scaler, address) = started(&aws).await;
    let consumer = Consumer::apply("left", &address);
    consumer.until_replicas("0").await;
    scaler.kill();
    wait_within(PATIENCE, "KEDA to notice", || consumer.is_ready() == "False").await;
    assert_eq!(consumer.replicas(), "0");
    // On the same port: the ScaledObject names it.
    let again = plan::plan(&aws.endpoint()).env("SCALER_ADDRESS", &address).start_ready().await;
    wait_within(PATIENCE, "KEDA to find it again", || consumer.is_ready() == "True").await;
    consumer.until_replicas("0").await;
    aws.write("orders", 1, 1);
    consumer.until_replicas("1").await;
    drop(again);
}
