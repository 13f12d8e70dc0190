//! Variables of AWS that other SDKs read: the bundle of authorities, the number of attempts.

use crate::harness::{World, failure, named, text};
use crate::server::{Server, status};
use crate::service::serve;
use crate::support::adapter::Plan;
use crate::support::sink::TestSink;
use crate::support::tls::{Authority, TlsFront};
use crate::support::wait_for;

const QUIET: &str = r#"{"Records":[],"NextShardIterator":"x"}"#;

/// A service behind TLS, and the file with its authority.
struct Behind {
    authority: Authority,
    front: TlsFront,
    folder: tempfile::TempDir,
    _service: Server,
}

impl Behind {
    async fn start() -> Self {
        let (service, _) = serve(&[QUIET.to_owned()]).await;
        let authority = Authority::named("of a proxy that opens TLS");
        let front = TlsFront::before(&authority, &service.url()).await;
        let behind = Self { authority, front, folder: tempfile::tempdir().unwrap(), _service: service };
        behind.write("authority.pem", &behind.authority.pem());
        behind
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn bundle(&self) -> String {
        self.folder.path().join("authority.pem").to_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_in_aws_ca_bundle_are_trusted_wherever_it_is_set() {
    let (behind, sink) = (Behind::start().await, TestSink::start().await);
    let profile = behind.write("config", &format!("[default]\nca_bundle = {}\n", behind.bundle()));
    let two =
        behind.write("two.pem", &format!("# ours\n{}\n{}", Authority::named("another").pem(), behind.authority.pem()));
    for (name, value) in [("AWS_CA_BUNDLE", &behind.bundle()), ("AWS_CA_BUNDLE", &two), ("AWS_CONFIG_FILE", &profile)] {
        let plan = Plan::at(&behind.front.origin(), &sink, "orders").env(name, value);
        let _adapter = plan.start_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_known_has_signed_is_told_with_the_variable_to_set() {
    let (behind, sink) = (Behind::start().await, TestSink::start().await);
    let other = behind.write("other.pem", &Authority::named("another").pem());
    for bundle in [None, Some(other)] {
        let plan = Plan::at(&behind.front.origin(), &sink, "orders");
        let plan = match &bundle {
            Some(path) => plan.env("AWS_CA_BUNDLE", path),
            None => plan,
        };
        let adapter = plan.start().await;
        wait_for("a word about it", || !adapter.logged_code("DSA-AWS-FAILING").is_empty()).await;
        let said = adapter.logged_code("DSA-AWS-FAILING")[0]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("AWS_CA_BUNDLE"), "{bundle:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_fix_for_such_a_certificate_is_about_trust() {
    let behind = Behind::start().await;
    let world = World::new().await.env("AWS_ENDPOINT_URL", behind.front.origin());
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "table"));
    assert!(text(failure(&checks), "remedy").contains("AWS_CA_BUNDLE"), "{checks:#?}");
    let world = World::new().await.env("AWS_ENDPOINT_URL_STS", behind.front.origin());
    let (checks, _) = world.json().await;
    assert_eq!(named(&checks, "warn"), ["identity"]);
    assert!(text(crate::harness::of(&checks, "identity"), "remedy").contains("AWS_CA_BUNDLE"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_cannot_be_read_is_refused_at_the_start() {
    let (behind, sink) = (Behind::start().await, TestSink::start().await);
    let broken = behind.authority.pem().replace("-----END", "----");
    let unusable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content) in
        [("empty", ""), ("text", "no certificate"), ("broken", broken.as_str()), ("unusable", unusable)]
    {
        let path = behind.write(name, content);
        let plan = Plan::at(&behind.front.origin(), &sink, "orders").env("AWS_CA_BUNDLE", path);
        let run = crate::harness::run(plan.command()).await;
        assert_eq!(run.code, Some(64), "{name}: {}", run.err);
        assert!(run.err.contains("AWS_CA_BUNDLE"), "{name}: {}", run.err);
    }
    let plan = Plan::at(&behind.front.origin(), &sink, "orders").env("AWS_CA_BUNDLE", "/nonexistent");
    let run = crate::harness::run(plan.command()).await;
    assert!(run.code == Some(64) && run.err.contains("/nonexistent"), "{}", run.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_as_many_attempts_as_aws_max_attempts_says() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("config");
    std::fs::write(&profile, "[default]\nmax_attempts = 2\n").unwrap();
    for (name, value, attempts) in [
        ("AWS_MAX_ATTEMPTS", "1", 1),
        ("AWS_MAX_ATTEMPTS", " 2\n", 2),
        ("AWS_CONFIG_FILE", profile.to_str().unwrap(), 2),
        ("UNRELATED", "1", 3),
    ] {
        let (service, sink) = (Server::start(|_| status(500)).await, TestSink::start().await);
        let adapter = Plan::at(&service.url(), &sink, "orders").env(name, value).start().await;
        wait_for("a failed call", || !adapter.logged("DescribeTable failed").is_empty()).await;
        let of_first =
            service.seen().iter().take_while(|seen| seen.header("x-amz-target").ends_with("DescribeTable")).count();
        assert!(of_first >= attempts, "{name}={value}: {of_first}");
        let seen = service.seen();
        let told = |seen: &crate::server::Seen| seen.header("amz-sdk-request").to_owned();
        assert!(seen.iter().all(|seen| told(seen).ends_with(&format!("max={attempts}"))), "{:?}", told(&seen[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_sdks_read_and_nothing_here_is_a_warning_that_names_what_to_set() {
    let (service, _) = serve(&[QUIET.to_owned()]).await;
    let sink = TestSink::start().await;
    for (name, value, named) in [
        ("AWS_RETRY_MODE", "adaptive", Some("AWS_MAX_ATTEMPTS")),
        ("AWS_RETRY_MODE", "legacy", Some("AWS_MAX_ATTEMPTS")),
        ("AWS_RETRY_MODE", "standard", None),
        ("AWS_STS_REGIONAL_ENDPOINTS", "legacy", Some("AWS_ENDPOINT_URL_STS")),
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional", None),
        ("AWS_DEFAULT_PROFILE", "p", Some("AWS_PROFILE")),
        ("AWS_SECURITY_TOKEN", "t", Some("AWS_SESSION_TOKEN")),
        ("AWS_DEFAULTS_MODE", "cross-region", Some("AWS_MAX_ATTEMPTS")),
    ] {
        let adapter = Plan::at(&service.url(), &sink, "orders").env(name, value).start_ready().await;
        let said = adapter.logged_code("DSA-CONFIG");
        let warning = said.iter().map(|line| line["message"].as_str().unwrap()).find(|text| text.starts_with(name));
        assert_eq!(warning.is_some(), named.is_some(), "{name}={value}");
        assert!(named.is_none_or(|named| warning.unwrap().contains(named)), "{warning:?}");
    }
    for value in ["0", "many", "101", "-1"] {
        let run =
            crate::harness::run(Plan::at(&service.url(), &sink, "orders").env("AWS_MAX_ATTEMPTS", value).command());
        let run = run.await;
        assert!(run.code == Some(64) && run.err.contains("AWS_MAX_ATTEMPTS"), "{value}: {}", run.err);
    }
}
