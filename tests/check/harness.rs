//! A world in which all is well, and the command run in it.

use std::io::ErrorKind;
use std::process::Output;

use serde_json::Value;

use crate::server::{Server, answer, status};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;

pub const ACCOUNT: &str = "123456789012";
pub const TABLE_ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";

/// AWS with one table, STS, and a sink that takes everything.
pub struct World {
    pub aws: FakeAws,
    _sts: Server,
    pub sink: Server,
    pub folder: tempfile::TempDir,
    plan: Plan,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl World {
    pub async fn new() -> Self {
        let aws = FakeAws::with_table("orders", 3).await;
        let sts = sts(identity).await;
        let sink = Server::start(|request| status(if request.method == "POST" { 202 } else { 200 })).await;
        let folder = tempfile::tempdir().unwrap();
        // It gives what every adapter under test has; the sink is another one.
        let unused = TestSink::start().await;
        let plan = Plan::new(&aws, &unused, "orders")
            .env("K_SINK", format!("{}/events", sink.url()))
            .env("AWS_ENDPOINT_URL_STS", sts.url())
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .keeping_positions(&folder);
        Self { aws, _sts: sts, sink, folder, plan }
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.plan = self.plan.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.plan = self.plan.without(name);
        self
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs `check` with these arguments.
    pub async fn check(&self, arguments: &[&str]) -> Run {
        let mut command = self.plan.command();
        command.arg("check").args(arguments);
        run(command).await
    }

    /// The checks as a program reads them, and the exit code.
    pub async fn json(&self) -> (Vec<Value>, Option<i32>) {
        let run = self.check(&["--output", "json"]).await;
        (run.checks(), run.code)
    }
}

impl Run {
    pub fn parsed(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in\n{}\n{}", self.out, self.err))
    }

    pub fn checks(&self) -> Vec<Value> {
        self.parsed()["checks"].as_array().unwrap().clone()
    }
}

pub async fn run(mut command: std::process::Command) -> Run {
    let output = tokio::task::spawn_blocking(move || {
        loop {
            match command.output() {
                // A program that was copied just now may still be open in a process that another test is starting.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                output => return output.unwrap(),
            }
        }
    });
    let output = output.await.unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The names of the checks that ended so.
pub fn named<'c>(checks: &'c [Value], result: &str) -> Vec<&'c str> {
    checks.iter().filter(|check| check["result"] == result).map(|check| check["name"].as_str().unwrap()).collect()
}

pub fn of<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name} in {checks:#?}"))
}

/// The one check that failed.
pub fn failure(checks: &[Value]) -> &Value {
    let failed = named(checks, "fail");
    assert_eq!(failed.len(), 1, "{checks:#?}");
    of(checks, failed[0])
}

pub fn text<'c>(check: &'c Value, member: &str) -> &'c str {
    check[member].as_str().unwrap_or_else(|| panic!("no {member} in {check}"))
}

/// STS that answers so.
pub async fn sts(answer: impl Fn() -> (u16, String) + Send + Sync + 'static) -> Server {
    Server::start(move |_| {
        let (status, body) = answer();
        let mut answer = self::answer(status, body);
        // Every clock of AWS is the scripted one: this server tells none.
        answer.headers_mut().insert("date", hyper::header::HeaderValue::from_static("unknown"));
        answer
    })
    .await
}

fn identity() -> (u16, String) {
    let body = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:sts::{ACCOUNT}:assumed-role/reader/session</Arn><UserId>AROAEXAMPLE:session</UserId>\
         <Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    );
    (200, body)
}

/// STS's way to say no.
pub fn refusal(code: &str, message: &str) -> (u16, String) {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    (403, body)
}
