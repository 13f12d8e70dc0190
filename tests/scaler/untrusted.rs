//! What anybody may send who may create a ScaledObject.

use tonic::Code;

use crate::keda::{Keda, plan, reference, scaler, trigger};
use crate::support::aws::FakeAws;

const RULES: &str = r#"[
    {"namespaces": ["shop"], "tables": ["orders*"], "regions": ["eu-west-1"]},
    {"namespaces": ["test"], "tables": ["*"], "regions": ["eu-west-1"], "endpoints": ["http://ENDPOINT"]}
]"#;

#[tokio::test]
async fn what_no_rule_allows_is_refused_before_aws_is_asked() {
    let aws = FakeAws::with_table("orders", 1).await;
    aws.script().create_table("salaries", 1);
    let endpoint = aws.endpoint();
    let rules = RULES.replace("http://ENDPOINT", &endpoint);
    let scaler = plan(&endpoint).env("SCALER_RULES", rules).start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = |namespace, table, more: &[(&str, &str)]| {
        reference(namespace, &[&[("tableName", table), ("awsRegion", "eu-west-1")], more].concat())
    };
    for refused in [
        of("shop", "salaries", &[]),
        of("other", "orders", &[]),
        of("", "orders", &[]),
        reference("shop", &[("tableName", "orders"), ("awsRegion", "eu-central-1")]),
        of("shop", "orders", &[("awsEndpoint", "http://169.254.169.254/latest/meta-data")]),
        of("shop", "orders", &[("awsEndpoint", &endpoint)]),
        of("shop", "arn:aws:dynamodb:eu-west-1:999900001111:table/orders", &[]),
    ] {
        let errors = [
            keda.spec(&refused).await.expect_err("refused").code(),
            keda.values(&refused).await.expect_err("refused").code(),
            keda.is_active(&refused).await.expect_err("refused").code(),
        ];
        assert_eq!(errors, [Code::PermissionDenied; 3], "{refused:?}");
    }
    assert!(aws.script().calls.0.is_empty());
    assert_eq!(keda.value(&of("shop", "orders", &[])).await, 1.0);
    assert_eq!(keda.value(&of("test", "salaries", &[("awsEndpoint", &endpoint)])).await, 1.0);
    assert_eq!(keda.value(&reference("shop", &[("tableName", "orders")])).await, 1.0, "the rule's only region");
}

#[tokio::test]
async fn a_mistake_in_the_metadata_is_an_invalid_argument_in_every_call() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let long = "x".repeat(10_000);
    for wrong in [
        reference("shop", &[("awsRegion", "eu-west-1")]),
        trigger("orders", &[("shardCount", "0")]),
        trigger("orders", &[("shardCount", "two")]),
        trigger("orders", &[("metric", "iterator-age")]),
        trigger("orders\n", &[("scaleToZero", "\u{0}")]),
        trigger(&long, &[]),
        trigger("orders", &[("awsEndpoint", "file:///etc/passwd")]),
    ] {
        let codes = [
            keda.spec(&wrong).await.expect_err("wrong").code(),
            keda.named_values(&wrong, "x").await.expect_err("wrong").code(),
            keda.is_active(&wrong).await.expect_err("wrong").code(),
        ];
        assert_eq!(codes, [Code::InvalidArgument; 3]);
    }
    assert!(aws.script().calls.0.is_empty());
}

#[tokio::test]
async fn requests_that_are_too_large_and_other_protocols_do_not_disturb_other_callers() {
    use std::io::Write as _;
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let huge = "x".repeat(1 << 20);
    let error = keda.is_active(&trigger("orders", &[("more", &huge)])).await.expect_err("too large");
    assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
    let address = scaler.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    let silent: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    for text in ["GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage"] {
        std::net::TcpStream::connect(&address).unwrap().write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(keda.value(&trigger("orders", &[])).await, 1.0);
    drop(silent);
}

#[test]
fn a_scaler_without_rules_does_not_start() {
    let output = plan("http://127.0.0.1:1").without("SCALER_RULES").command().output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("SCALER_RULES"), "{text}");
}
