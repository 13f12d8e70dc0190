//! Where requests go and who signs them, for every way the environment can say it.
//!
//! The SDK reads the process's own environment. So each case runs in a child process, this test binary again, with an
//! environment of its own; it calls AWS on a wire that answers nothing real and prints what it was asked.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use super::{AwsSettings, Connections, NoRegion};
use crate::config;
use crate::streams::client::StreamsClient as _;
use crate::streams::client::aws::AwsClient;

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENVKEY"), ("AWS_SECRET_ACCESS_KEY", "env-secret")];
const ROLE: &str = "arn:aws:iam::123456789012:role/reader";

/// Answers as STS, a container's credential service or DynamoDB would, and remembers each request as one line.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Vec<String>>>);

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let authorization = request.headers().get("authorization").unwrap_or_default();
        let signer = authorization.split(", ").next().unwrap_or_default();
        let line = format!("{} {} {signer} {body}", request.method(), request.uri());
        self.0.lock().expect("no test panicked here").push(line);
        let answer =
            if body.contains("Action=AssumeRole") { role_credentials(&body) } else { container(request.uri()) };
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().expect("a status"), SdkBody::from(answer))))
    }
}

fn role_credentials(request: &str) -> String {
    let action = if request.contains("WithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
    format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>s\
         </SecretAccessKey><SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
         </{action}Result></{action}Response>"
    )
}

fn container(uri: &str) -> String {
    if uri.contains("/credentials") {
        let expiration = r#""Expiration":"2999-01-01T00:00:00Z""#;
        format!(r#"{{"AccessKeyId":"PODKEY","SecretAccessKey":"s","Token":"t",{expiration}}}"#)
    } else {
        r#"{"Streams":[],"Table":{"TableArn":"arn"}}"#.into()
    }
}

/// The child: for each region in `PROBE_REGIONS` (empty: the default one) one call to each service.
#[tokio::test]
#[ignore = "runs in the child processes of the other tests"]
async fn child() {
    let variable = |name| std::env::var(name).ok();
    let settings = AwsSettings {
        assume_role_arn: variable("AWS_ASSUME_ROLE_ARN"),
        assume_role_external_id: variable("AWS_ASSUME_ROLE_EXTERNAL_ID"),
        region: variable("PROBE_REGION"),
        endpoint_url: variable("PROBE_ENDPOINT"),
        credentials: variable("PROBE_KEY").map(|key| Credentials::new(key, "given-secret", None, None, "test")),
        ..AwsSettings::default()
    };
    let wire = Wire::default();
    let client = SharedHttpClient::new(wire.clone());
    let connections =
        Connections::load_with(client, super::profiles().await, &settings, variable("PROBE_DEFAULT").as_deref()).await;
    let connections = connections.expect("usable settings");
    for region in variable("PROBE_REGIONS").unwrap_or_default().split(',') {
        match connections.config((!region.is_empty()).then_some(region)).map(|config| AwsClient::new(&config)) {
            Err(NoRegion) => println!("\nseen {NoRegion}"),
            Ok(client) => {
                let results = [client.describe_table("Orders").await.err(), client.list_streams("Orders").await.err()];
                results.into_iter().flatten().for_each(|error| println!("\nseen {error}"));
            }
        }
    }
    wire.0.lock().expect("no test panicked here").iter().for_each(|line| println!("\nseen {line}"));
}

/// What the child was seen to do with exactly these variables, no profile, and no metadata service.
fn seen_with(variables: &[(&str, &str)]) -> Vec<String> {
    let quiet = [("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")];
    let output = Command::new(std::env::current_exe().expect("this test's own path"))
        .args(["--exact", "aws::tests::child", "--ignored", "--nocapture"])
        .env_clear()
        .envs(quiet)
        .envs(variables.iter().copied())
        .output()
        .expect("the child runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.lines().filter_map(|line| line.strip_prefix("seen ")).map(str::to_owned).collect()
}

/// The URIs of the calls to the two services, with these variables besides key and region.
fn endpoints_with(variables: &[(&str, &str)]) -> Vec<String> {
    let variables = [&KEYS[..], &[("AWS_REGION", "eu-west-1")], variables].concat();
    seen_with(&variables).iter().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_call_outlives_a_minute_and_all_clients_share_connections_and_credentials() {
    let connections = Connections::load(&AwsSettings::default(), Some("eu-west-1")).await.expect("usable settings");
    for region in [None, Some("us-east-2")] {
        let config = connections.config(region).expect("a region");
        let timeouts = config.timeout_config().expect("timeouts");
        assert!(timeouts.operation_timeout().is_some_and(|limit| limit < Duration::from_secs(60)), "{timeouts:?}");
        assert!(timeouts.operation_attempt_timeout() < timeouts.operation_timeout(), "{timeouts:?}");
        assert!(timeouts.connect_timeout().is_some(), "{timeouts:?}");
        assert_eq!(config.retry_config().map(aws_config::retry::RetryConfig::max_attempts), Some(3));
        assert!(config.http_client().is_some() && config.identity_cache().is_some());
    }
}

#[test]
fn requests_go_to_the_regions_own_endpoints() {
    let expected = ["https://dynamodb.eu-west-1.amazonaws.com/", "https://streams.dynamodb.eu-west-1.amazonaws.com/"];
    assert_eq!(endpoints_with(&[]), expected);
}

#[test]
fn endpoint_variables_are_followed_the_narrower_one_first() {
    let both = ("AWS_ENDPOINT_URL", "http://localhost:1");
    let tables = ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:2");
    let streams = ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "http://localhost:3");
    assert_eq!(endpoints_with(&[both]), ["http://localhost:1/", "http://localhost:1/"]);
    assert_eq!(endpoints_with(&[both, tables]), ["http://localhost:2/", "http://localhost:1/"]);
    assert_eq!(endpoints_with(&[both, streams]), ["http://localhost:1/", "http://localhost:3/"]);
    assert_eq!(endpoints_with(&[tables, streams]), ["http://localhost:2/", "http://localhost:3/"]);
    let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    assert_eq!(endpoints_with(&[both, ignored]), endpoints_with(&[]));
}

#[test]
fn an_endpoint_variable_that_is_set_to_nothing_counts_as_not_set() {
    for name in
        ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "AWS_ENDPOINT_URL_STS"]
    {
        for blank in ["", " "] {
            assert_eq!(endpoints_with(&[(name, blank)]), endpoints_with(&[]), "{name}");
        }
    }
    let all = ("AWS_ENDPOINT_URL", "http://localhost:1");
    assert_eq!(
        endpoints_with(&[all, ("AWS_ENDPOINT_URL_DYNAMODB", "")]),
        ["http://localhost:1/", "http://localhost:1/"]
    );
}

#[test]
fn fips_and_dual_stack_endpoints_are_used_when_asked_for() {
    let fips = endpoints_with(&[("AWS_USE_FIPS_ENDPOINT", "true")]);
    assert_eq!(
        fips,
        ["https://dynamodb-fips.eu-west-1.amazonaws.com/", "https://streams.dynamodb-fips.eu-west-1.amazonaws.com/"]
    );
    let dual = endpoints_with(&[("AWS_USE_DUALSTACK_ENDPOINT", "true")]);
    assert_eq!(dual, ["https://dynamodb.eu-west-1.api.aws/", "https://streams-dynamodb.eu-west-1.api.aws/"]);
}

#[test]
fn each_client_talks_to_its_region_and_signs_for_it() {
    let variables = [&KEYS[..], &[("AWS_REGION", "eu-west-1"), ("PROBE_REGIONS", ",us-east-2")]].concat();
    let seen = seen_with(&variables);
    for (line, region) in seen.iter().zip(["eu-west-1", "eu-west-1", "us-east-2", "us-east-2"]) {
        assert!(line.contains(&format!(".{region}.amazonaws.com/")), "{line}");
        assert!(line.contains("Credential=ENVKEY/") && line.contains(&format!("/{region}/dynamodb/")), "{line}");
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn what_another_adapters_variables_say_stands_before_what_the_sdk_would_find() {
    let found = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", "http://localhost:1"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:2"),
    ];
    let given = [("PROBE_REGION", "us-east-2"), ("PROBE_ENDPOINT", "http://localhost:6"), ("PROBE_KEY", "GIVENKEY")];
    let seen = seen_with(&[&KEYS[..], &found, &given].concat());
    assert_eq!(seen.len(), 2);
    for line in &seen {
        assert!(line.contains("POST http://localhost:6/ ") && line.contains("Credential=GIVENKEY/"), "{line}");
        assert!(line.contains("/us-east-2/dynamodb/"), "{line}");
    }
    let of_a_table = seen_with(&[&given[..], &[("PROBE_DEFAULT", "eu-north-1")]].concat());
    assert!(of_a_table[0].contains("/eu-north-1/dynamodb/"), "a table's own region comes first: {of_a_table:?}");
}

#[test]
fn an_endpoint_for_dynamodb_is_not_where_a_role_is_assumed() {
    let given = [("PROBE_REGION", "us-east-2"), ("PROBE_ENDPOINT", "http://localhost:6"), ("PROBE_KEY", "GIVENKEY")];
    let seen = seen_with(&[&given[..], &[("AWS_ASSUME_ROLE_ARN", ROLE)]].concat());
    assert!(seen[0].starts_with("POST https://sts.us-east-2.amazonaws.com/"), "{seen:?}");
    assert!(seen[0].contains("Credential=GIVENKEY/"), "{seen:?}");
    assert!(seen[1..].iter().all(|line| line.contains("http://localhost:6/ AWS4-HMAC-SHA256 Credential=ROLEKEY/")));
}

#[test]
fn without_any_region_the_message_says_what_to_set() {
    assert_eq!(seen_with(&KEYS), [NoRegion.to_string()]);
    assert!(NoRegion.to_string().contains("AWS_REGION"));
}

#[test]
fn no_metadata_service_is_asked_when_credentials_and_region_are_given() {
    let with_metadata = [("AWS_EC2_METADATA_DISABLED", "false")];
    for region in ["AWS_REGION", "PROBE_DEFAULT"] {
        let variables = [&KEYS[..], &with_metadata, &[(region, "eu-west-1")]].concat();
        let seen = seen_with(&variables);
        assert!(seen.len() == 2 && seen.iter().all(|line| line.contains("Credential=ENVKEY/")), "{seen:?}");
    }
    let seen = seen_with(&with_metadata);
    assert!(
        seen.iter().any(|line| line.contains("http://169.254.169.254/")),
        "asked where nothing else helps: {seen:?}"
    );
}

#[test]
fn a_role_is_assumed_once_for_all_regions() {
    let role = [("AWS_ASSUME_ROLE_ARN", ROLE), ("AWS_ASSUME_ROLE_EXTERNAL_ID", "outside-1")];
    let sts = [("AWS_ENDPOINT_URL_STS", "http://localhost:4")];
    let regions = [("AWS_REGION", "eu-west-1"), ("PROBE_REGIONS", "eu-west-1,us-east-2")];
    let seen = seen_with(&[&KEYS[..], &role, &sts, &regions].concat());
    let (assume, calls): (Vec<_>, Vec<_>) = seen.iter().partition(|line| line.contains("Action=AssumeRole"));
    let [assume] = assume[..] else { panic!("{seen:?}") };
    assert!(assume.starts_with("POST http://localhost:4/") && assume.contains("Credential=ENVKEY/"), "{assume}");
    for member in ["reader", "&ExternalId=outside-1", "&RoleSessionName=dynamodb-streams-adapter"] {
        assert!(assume.contains(member), "{assume}");
    }
    assert!(calls.len() == 4 && calls.iter().all(|line| line.contains("Credential=ROLEKEY/")), "{calls:?}");
    let seen = seen_with(&[&KEYS[..], &role[..1], &regions].concat());
    assert!(seen[0].contains("Action=AssumeRole&") && !seen[0].contains("ExternalId"), "{}", seen[0]);
}

#[test]
fn a_pods_own_credentials_are_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "a-token").expect("the token is written");
    let token = token.to_str().expect("a path in UTF-8");
    let region = ("AWS_REGION", "eu-west-1");
    let irsa = seen_with(&[region, ("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", token)]);
    assert!(irsa[0].contains("Action=AssumeRoleWithWebIdentity"), "{irsa:?}");
    assert!(irsa[1].contains("Credential=ROLEKEY/"), "{irsa:?}");
    let uri = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let pod = seen_with(&[region, uri, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)]);
    assert!(pod[0].starts_with("GET http://169.254.170.23/v1/credentials"), "{pod:?}");
    assert!(pod[1].contains("Credential=PODKEY/"), "{pod:?}");
}

#[test]
fn a_profile_brings_region_endpoint_and_credentials() {
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().join("config");
    let profile = "[profile p]\nregion = eu-west-1\nendpoint_url = http://localhost:5\ncredential_process = /bin/echo \
                   '{\"Version\": 1, \"AccessKeyId\": \"PROCESSKEY\", \"SecretAccessKey\": \"s\"}'\n";
    let sso = "[profile sso]\nregion = eu-west-1\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n\
               [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://example.awsapps.com/start\n";
    std::fs::write(&config, [profile, sso].concat()).expect("the profile is written");
    let file = ("AWS_CONFIG_FILE", config.to_str().expect("a path in UTF-8"));
    let seen = seen_with(&[file, ("AWS_PROFILE", "p")]);
    assert_eq!(seen.len(), 2);
    for line in seen {
        assert!(line.contains("http://localhost:5/") && line.contains("Credential=PROCESSKEY/"), "{line}");
    }
    let home = ("HOME", home.path().to_str().expect("a path in UTF-8"));
    let seen = seen_with(&[file, ("AWS_PROFILE", "sso"), home]);
    assert!(seen[0].contains("token") && !seen[0].contains("feature"), "SSO is built in: {}", seen[0]);
}

/// The settings for a table of positions where a role reads the tables, at an endpoint with keys of another adapter's variables.
fn for_positions(role: config::PositionsRole, endpoint_url: Option<&str>) -> AwsSettings {
    let overrides = config::AwsOverrides {
        region: Some("eu-west-1".into()),
        endpoint_url: Some("http://reader.example".into()),
        ..config::AwsOverrides::default()
    };
    let aws = config::Aws { assume_role_arn: Some(ROLE.into()), assume_role_external_id: None, overrides };
    let table = config::PositionsTable {
        table: "positions".parse().expect("a name"),
        create: false,
        region: None,
        endpoint_url: endpoint_url.map(str::to_owned),
        role,
        lease_duration: Duration::from_secs(15),
    };
    AwsSettings::for_positions(&aws, &table)
}

#[test]
fn positions_are_reached_as_the_tables_are_that_are_read_unless_something_is_said_of_them() {
    let reader = for_positions(config::PositionsRole::OfReader, None);
    assert_eq!(
        (reader.assume_role_arn.as_deref(), reader.endpoint_url.as_deref()),
        (Some(ROLE), Some("http://reader.example"))
    );
    assert_eq!(reader.region.as_deref(), Some("eu-west-1"));
    let own = for_positions(config::PositionsRole::OfProcess, Some("http://positions.example"));
    assert_eq!((own.assume_role_arn, own.endpoint_url.as_deref()), (None, Some("http://positions.example")));
    let other = "arn:aws:iam::123456789012:role/positions";
    let assumed = for_positions(config::PositionsRole::Assumed(other.into()), None);
    assert_eq!((assumed.assume_role_arn.as_deref(), assumed.assume_role_external_id), (Some(other), None));
}
