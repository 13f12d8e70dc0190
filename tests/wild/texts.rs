//! Texts from outside that reach a library which would panic over them, or say nothing: credentials, regions, addresses.

use crate::harness::{failure, text};
use crate::sources::{Kind, Mood, Source};
use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// What stands around a value where it comes from a file or was pasted.
const AROUND: [(&str, &str); 8] = [
    ("AWS_ACCESS_KEY_ID", "test\n"),
    ("AWS_ACCESS_KEY_ID", " test"),
    ("AWS_SECRET_ACCESS_KEY", "test\r\n"),
    ("AWS_SESSION_TOKEN", "token\n"),
    ("AWS_REGION", "eu-west-1\n"),
    ("AWS_REGION", "\teu-west-1 "),
    ("AWS_DEFAULT_REGION", "eu-west-1\n"),
    ("AWS_PROFILE", "default\n"),
];

/// What nothing can be done with, and whether it may be shown.
const UNUSABLE: [(&str, &str); 26] = [
    ("AWS_ACCESS_KEY_ID", "AK\nIA"),
    ("AWS_ACCESS_KEY_ID", "AKIA\u{1}"),
    ("AWS_ACCESS_KEY_ID", "AKIAé"),
    ("AWS_SECRET_ACCESS_KEY", "se cret"),
    ("AWS_SESSION_TOKEN", "to\r\nken"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "to\nken"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token\n"),
    ("AWS_REGION", "eu west 1"),
    ("AWS_REGION", "eu-west-1\nx"),
    ("AWS_REGION", "-"),
    ("AWS_DEFAULT_REGION", "eu-west-1/x"),
    ("AWS_ENDPOINT_URL", "localhost:4566"),
    ("AWS_ENDPOINT_URL", "/dynamodb"),
    ("AWS_ENDPOINT_URL", "http:///x"),
    ("AWS_ENDPOINT_URL", "http://a b/"),
    ("AWS_ENDPOINT_URL", "http://événements/"),
    ("AWS_ENDPOINT_URL", "http://localhost:4566\n"),
    ("AWS_ENDPOINT_URL", "ftp://localhost/"),
    ("AWS_ENDPOINT_URL", "http://user:hunter2@local host/"),
    ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "localhost"),
    ("AWS_ENDPOINT_URL_STS", "localhost"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "127.0.0.1:2"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://a b"),
    ("AWS_EXECUTION_ENV", "a\nb"),
    ("AWS_EXECUTION_ENV", "fargate\n"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_ACCESSKEY", "AK\nIA"),
];

/// What the SDK ignores or takes; none of it ends the process.
const TAKEN: [(&str, &str); 7] = [
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abcd"),
    ("AWS_PROFILE", "a\nb"),
    ("AWS_SDK_UA_APP_ID", "a b\n"),
    ("AWS_SDK_UA_APP_ID", "é"),
    ("_X_AMZN_TRACE_ID", "a\nb"),
    ("AWS_ACCOUNT_ID", "12\n"),
    ("AWS_USE_FIPS_ENDPOINT", "perhaps"),
];

async fn world() -> (FakeAws, TestSink) {
    (FakeAws::with_table("orders", 1).await, TestSink::start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_and_line_breaks_around_a_text_are_left_out_and_said() {
    let (aws, sink) = world().await;
    for (name, value) in AROUND {
        let plan = Plan::new(&aws, &sink, "orders");
        let plan = if name == "AWS_DEFAULT_REGION" { plan.without("AWS_REGION") } else { plan };
        let adapter = plan.env(name, value).start_ready().await;
        let warnings = adapter.logged_code("DSA-CONFIG");
        let is_said =
            |line: &serde_json::Value| line["message"].as_str().unwrap().starts_with(&format!("{name} has blanks"));
        assert!(warnings.iter().any(is_said), "{name}: {warnings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_can_never_be_used_is_refused_at_the_start_by_its_name() {
    let (aws, sink) = world().await;
    for (name, value) in UNUSABLE {
        let plan = Plan::new(&aws, &sink, "orders")
            .env("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_TABLE", "orders")
            .env("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_SECRETKEY", "s");
        let plan = match name.starts_with("CAMEL") {
            true => plan,
            false => Plan::new(&aws, &sink, "orders"),
        };
        for arguments in [&[][..], &["check"]] {
            let mut command = plan.clone().env(name, value).command();
            command.args(arguments);
            let run = crate::harness::run(command).await;
            assert_eq!(run.code, Some(64), "{name}={value:?} {arguments:?}: {}", run.err);
            assert!(run.err.contains(name), "{name}={value:?}: {}", run.err);
            let is_secret = ["KEY", "TOKEN"].iter().any(|word| name.contains(word));
            assert!(!(is_secret && run.err.contains(value)), "{name} is shown: {}", run.err);
            assert!(!run.err.contains("hunter2"), "{name}: {}", run.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profiles_region_and_endpoints_are_refused_by_the_name_of_what_to_correct() {
    let (aws, sink) = world().await;
    let folder = tempfile::tempdir().unwrap();
    for (profile, named) in [
        ("[default]\nregion = eu west\u{1}\n", "`region` in the profile"),
        ("[default]\nregion = eu-west-1\nendpoint_url = localhost:4566\n", "`endpoint_url` in the profile"),
        ("[default]\nregion = eu-west-1\nendpoint_url = ftp://u:hunter2@h\n", "`endpoint_url` in the profile"),
        (
            "[default]\nregion = eu-west-1\nservices = s\n[services s]\ndynamodb =\n  endpoint_url = http:///x\n",
            "`endpoint_url` in the profile",
        ),
    ] {
        let path = folder.path().join("config");
        std::fs::write(&path, profile).unwrap();
        let plan = Plan::new(&aws, &sink, "orders").without("AWS_REGION").without("AWS_ENDPOINT_URL");
        let run = crate::harness::run(plan.env("AWS_CONFIG_FILE", path.to_str().unwrap()).command()).await;
        assert_eq!(run.code, Some(64), "{profile}: {}", run.err);
        assert!(run.err.contains(named) && !run.err.contains("hunter2"), "{profile}: {}", run.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_that_need_not_be_used_end_nothing() {
    let (aws, sink) = world().await;
    for (name, value) in TAKEN {
        let adapter = Plan::new(&aws, &sink, "orders").env(name, value).start_ready().await;
        assert_eq!(adapter.terminate().await, Some(0), "{name}={value:?}");
    }
}

async fn is_said_and_alive(adapter: &mut Adapter, kind: Kind) {
    wait_for("a word about the credentials", || {
        adapter
            .logged_code("DSA-AWS-DENIED")
            .iter()
            .any(|line| line["message"].as_str().unwrap().contains("access key id"))
    })
    .await;
    assert!(adapter.is_running(), "{kind:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_used_are_said_and_the_adapter_goes_on_when_their_source_is_right() {
    for kind in Kind::ALL {
        let (aws, sink) = world().await;
        let source = Source::start(kind, Mood::key("AK\nIA")).await;
        let mut adapter = source.of(Plan::new(&aws, &sink, "orders")).start().await;
        is_said_and_alive(&mut adapter, kind).await;
        assert_eq!(adapter.get("/readyz").await.0, 503, "{kind:?}");
        source.set(Mood::key("GOOD"));
        adapter.wait_ready().await;
        aws.write("orders", 1, 1);
        wait_for("the change", || sink.distinct() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_turn_bad_in_the_middle_of_a_run_do_not_end_it() {
    for kind in Kind::ALL {
        let (aws, sink) = world().await;
        let source = Source::start(kind, Mood::key("GOOD")).await;
        let mut adapter = source.of(Plan::new(&aws, &sink, "orders")).start_ready().await;
        source.set(Mood::key("AK\nIA"));
        is_said_and_alive(&mut adapter, kind).await;
        source.set(Mood::key(" GOOD\n"));
        aws.write("orders", 1, 1);
        wait_for("the change", || sink.distinct() == 1).await;
        assert!(adapter.is_running(), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_credentials_that_cannot_be_used_with_the_fix_at_their_source() {
    for kind in Kind::ALL {
        let source = Source::start(kind, Mood::key("AK\nIA")).await;
        let run = source.check().await;
        assert_eq!(run.code, Some(69), "{kind:?}: {}", run.err);
        let checks = run.checks();
        let failed = failure(&checks);
        assert_eq!(text(failed, "name"), "credentials", "{kind:?}: {failed}");
        assert!(text(failed, "detail").contains("access key id"), "{kind:?}: {failed}");
        assert!(text(failed, "remedy").contains("line break"), "{kind:?}: {failed}");
    }
}
