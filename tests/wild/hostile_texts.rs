//! What others write into errors: credentials that they repeat, and megabytes.

use std::time::Duration;

use serde_json::json;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::{FakeAws, Trouble};
use crate::support::sink::TestSink;
use crate::support::tls::{Authority, TlsFront};
use crate::support::wait_for;

/// It is in every secret here.
const SECRET: &str = "hunter2";

/// Longer than any line and any text that helps.
const LONGEST_LINE: usize = 4_096;

/// All that people can see of it: the log, and what the port shows.
async fn shown(adapter: &Adapter) -> Vec<(&'static str, String)> {
    let mut shown = vec![("log", adapter.log_lines().join("\n"))];
    for path in ["/status", "/readyz", "/metrics"] {
        shown.push((path, adapter.get(path).await.1));
    }
    shown
}

/// Waits until what goes wrong is in the log and in `/status`, and returns all that is shown then.
async fn shown_after(adapter: &Adapter, code: &str) -> Vec<(&'static str, String)> {
    wait_for(code, || !adapter.logged_code(code).is_empty()).await;
    while adapter.status().await["tables"][0]["recent_errors"][0].is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shown(adapter).await
}

fn assert_no_secret(what: &str, shown: &[(&str, String)]) {
    for (place, text) in shown {
        let line = text.lines().find(|line| line.contains(SECRET));
        assert!(line.is_none(), "{what}: in {place}: {line:?}");
    }
}

/// As AWS answers where the signature is wrong, and as proxies show what they were sent.
fn repetitions(token: &str) -> Vec<(&'static str, Trouble)> {
    let canonical = format!(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nhost:dynamodb\n\
         x-amz-date:20261101T000000Z\nx-amz-security-token:{token}\nx-amz-target:DynamoDBStreams.GetRecords\n\nhost'\n"
    );
    let error = |code: &str, message: &str| json!({"__type": format!("aws#{code}"), "message": message}).to_string();
    let headers = json!({"headers": {"X-Amz-Security-Token": token, "Accept": "*/*"}}).to_string();
    vec![
        ("the canonical request", Trouble::Answer(400, error("InvalidSignatureException", &canonical))),
        ("a header", Trouble::Answer(400, error("AccessDeniedException", &format!("x-amz-security-token: {token}")))),
        ("headers as JSON", Trouble::Answer(403, error("AccessDeniedException", &headers))),
        ("the token alone", Trouble::Answer(400, error("ValidationException", &format!("got <{token}>")))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_that_aws_repeats_is_shown_nowhere() {
    let token = format!("IQoJb3{}", SECRET.repeat(60));
    for (what, trouble) in repetitions(&token) {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        aws.script().faults.always("GetRecords", trouble);
        let adapter = Plan::new(&aws, &sink, "orders").env("AWS_SESSION_TOKEN", &token).start().await;
        let code = if what == "the token alone" { "DSA-AWS-FAILING" } else { "DSA-AWS-DENIED" };
        assert_no_secret(what, &shown_after(&adapter, code).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_credential_process_writes_to_its_standard_error_is_shown_nowhere() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let (config, process) = (folder.path().join("config"), folder.path().join("process"));
    std::fs::write(&process, format!("echo vault said {SECRET} >&2; exit 3\n")).unwrap();
    std::fs::write(&config, format!("[default]\ncredential_process = sh {}\n", process.display())).unwrap();
    let plan = Plan::new(&aws, &sink, "orders").without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let plan = plan.env("AWS_CONFIG_FILE", config.display().to_string()).env("PATH", "/usr/bin:/bin");
    let plan = plan.env("AWS_EC2_METADATA_DISABLED", "true");
    let adapter = plan.start().await;
    let shown = shown_after(&adapter, "DSA-AWS-FAILING").await;
    assert_no_secret("the process", &shown);
    assert!(shown[0].1.contains("external process exited with code exit status: 3"), "{}", shown[0].1);
    let check = plan.command().arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("exit status: 3") && !said.contains(SECRET), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_a_secret_is_shown_nowhere_whichever_variable_it_was_put_into() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    // Nobody listens there.
    for endpoint in ["http://127.0.0.1:1/?token=hunter2", "http://user:hunter2@127.0.0.1:1/"] {
        let adapter = Plan::new(&aws, &sink, "orders").env("AWS_ENDPOINT_URL", endpoint).start().await;
        assert_no_secret(endpoint, &shown_after(&adapter, "DSA-AWS-FAILING").await);
    }
    let plan = Plan::new(&aws, &sink, "orders");
    let names: Vec<String> = plan.variables().map(|(name, _)| name).filter(|name| !name.starts_with("AWS_")).collect();
    for name in names.iter().map(String::as_str).chain([
        "AWS_REGION",
        "EVENT_MODE",
        "CHECKPOINT_STORE",
        "AWS_MAX_ATTEMPTS",
        "AWS_CA_BUNDLE",
        "SINK_TOKEN_FILE",
        "SINK_HEADERS_FILE",
        "CA_CERTS_DIR",
    ]) {
        let mistyped = ["http://user:hunter2host/", "http//user:hunter2host", "https:user:hunter2"];
        let urls = ["http://user:hunter2@ host/", "http://u:a,hunter2@host/", "http://host/?a,token=hunter2"];
        for url in urls.into_iter().chain(mistyped) {
            if name == "K_SINK" && url.contains(',') {
                continue;
            }
            let output = plan.clone().env(name, url).command().output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(name) && !said.contains(SECRET), "{name}={url}: {said}");
            assert_eq!(output.status.code(), Some(64), "{name}={url}: {said}");
        }
    }
    for (name, path) in [
        ("CHECKPOINT_STORE", "file:http://user:hunter2@host/positions"),
        ("CHECKPOINT_STORE", "file:/data/http//user:hunter2host"),
        ("SINK_TOKEN_FILE", "/var/run/http://user:hunter2@host"),
        ("AWS_CA_BUNDLE", "user:hunter2@host/ca.pem"),
    ] {
        let output = plan.clone().env(name, path).command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(name) && !said.contains(SECRET), "{name}={path}: {said}");
        assert_eq!(output.status.code(), Some(64), "{name}={path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_from_outside_is_shortened_wherever_it_is_shown() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let authority = Authority::named("Cluster");
    let front = TlsFront::start(&authority, &sink).await;
    front.change_to_names(&authority, (0..1_000).map(|n| format!("name-{n}.of-another-host.example")).collect());
    let plan = Plan::new(&aws, &sink, "orders").env("K_SINK", front.url()).env("K_CA_CERTS", authority.pem());
    let adapter = plan.start_ready().await;
    aws.write("orders", 20, 1);
    wait_for("the sink's outage", || !adapter.logged_code("DSA-SINK-FAILING").is_empty()).await;
    let message = format!("é{}", "words ".repeat(100_000));
    let body = json!({"__type": "aws#ValidationException", "message": message}).to_string();
    aws.script().faults.always("GetRecords", Trouble::Answer(400, body));
    wait_for("the outage of AWS", || !adapter.logged_code("DSA-AWS-FAILING").is_empty()).await;
    for (place, text) in shown(&adapter).await {
        let longest = text.lines().map(str::len).max().unwrap_or_default();
        assert!(longest <= LONGEST_LINE, "a line of {longest} bytes in {place}");
        assert!(place == "log" || place == "/metrics" || text.len() < 40_000, "{} bytes in {place}", text.len());
    }
}
