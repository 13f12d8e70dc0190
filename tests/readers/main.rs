//! What the adapter sends, written down for the official libraries of other languages to read.
//!
//! The real binary runs once for each combination of profile, mode and form of the data, over records that are hard to
//! pass on. `requests.jsonl` holds its HTTP requests as they came, `expected.json` what they have to say, which this
//! test knows from the records and from `docs/cloudevents.md`, not from the adapter's code. `tests/readers/run` hands
//! both to the readers.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod expected;
mod plain;
mod records;
mod sink;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::adapter::Plan;
use support::aws::FakeAws;
use support::sink::TestSink;
use support::wait_for;

use sink::RawSink;

/// One way to run the adapter.
#[derive(Clone, Copy)]
struct Combination {
    profile: &'static str,
    mode: &'static str,
    data: &'static str,
}

const COMBINATIONS: [(&str, &str); 4] = [
    ("aws", "dynamodb-json"),
    ("aws", "json"),
    ("triggermesh", "dynamodb-json"),
    ("integration-source", "dynamodb-json"),
];

impl Combination {
    fn all() -> impl Iterator<Item = Self> {
        let modes = ["binary", "structured", "batch"];
        COMBINATIONS.into_iter().flat_map(move |(profile, data)| modes.map(|mode| Self { profile, mode, data }))
    }

    fn name(self) -> String {
        format!("{}/{}/{}", self.profile, self.mode, self.data)
    }

    fn set(self, plan: Plan) -> Plan {
        let plan = plan.env("EVENT_PROFILE", self.profile).env("EVENT_MODE", self.mode);
        if self.data == "dynamodb-json" { plan } else { plan.env("EVENT_DATA", self.data) }
    }

    /// Whether the binary takes it. It names all that it refuses at once, so a missing table keeps it from starting.
    fn is_known(self, plan: &Plan) -> bool {
        let output = self.set(plan.clone().without("TABLE")).command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && said.contains("TABLE"), "{}: {said}", self.name());
        !["EVENT_PROFILE", "EVENT_MODE", "EVENT_DATA"].iter().any(|variable| said.contains(variable))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn capture() {
    let folder = PathBuf::from(std::env::var("READERS_OUT").expect("READERS_OUT is not set: use tests/readers/run"));
    let all = std::env::var("READERS_ALL").is_ok_and(|value| value == "1");
    let aws = records::fake_aws().await;
    let (mut requests, mut expected, mut missing) = (String::new(), Vec::new(), Vec::new());
    for combination in Combination::all() {
        if !combination.is_known(&plan(&aws).await) {
            assert!(!all, "{}: not in this version", combination.name());
            missing.push(combination.name());
            continue;
        }
        for mut request in run(&aws, combination).await {
            request["combination"] = json!(combination.name());
            requests.push_str(&format!("{request}\n"));
        }
        expected.extend(expected::events(&mut aws.script(), combination));
    }
    std::fs::write(folder.join("requests.jsonl"), requests).unwrap();
    let expected = json!({"events": expected, "missing": missing});
    std::fs::write(folder.join("expected.json"), format!("{expected:#}")).unwrap();
}

async fn plan(aws: &FakeAws) -> Plan {
    Plan::new(aws, &TestSink::start().await, &records::TABLES.map(|table| table.name).join(","))
}

/// Lets the adapter send every record once, and returns the requests.
async fn run(aws: &FakeAws, combination: Combination) -> Vec<Value> {
    let sink = RawSink::start().await;
    let adapter = combination.set(plan(aws).await.env("K_SINK", sink.url())).start_ready().await;
    let count = expected::events(&mut aws.script(), combination).len();
    wait_for(&format!("{count} events of {}", combination.name()), || sink.events() >= count).await;
    assert_eq!(adapter.terminate().await, Some(0));
    assert_eq!(sink.events(), count, "{}: more events than records", combination.name());
    let mut requests = sink.requests();
    assert_eq!(requests.len() < count, combination.mode == "batch", "{}: events in batches", combination.name());
    for request in &mut requests {
        for (name, value) in [("mode", combination.mode), ("profile", combination.profile), ("data", combination.data)]
        {
            request[name] = json!(value);
        }
    }
    requests
}
