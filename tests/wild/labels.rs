//! Tables that have the same name: of two regions, of two accounts, or two streams of one table. What is said of one is never said
//! of another.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use dynamodb_streams_adapter::config::{Config, EnvironmentFacts};

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

const IRELAND: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
const VIRGINIA: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";
const ANOTHER: &str = "arn:aws:dynamodb:eu-west-1:210987654321:table/orders";
const RETURNS: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/returns";
const CHINA: &str = "arn:aws-cn:dynamodb:eu-west-1:123456789012:table/orders";

fn stream(label: &str) -> String {
    format!("{IRELAND}/stream/{label}")
}

/// What each entry of `TABLE` is called.
fn labels(tables: &[&str]) -> Vec<String> {
    let variables = [("TABLE", tables.join(",")), ("K_SINK", "http://sink".to_owned())];
    let facts =
        EnvironmentFacts { now: SystemTime::now(), stdout_is_terminal: false, open_files: None, memory_limit: None };
    let config = Config::from_env_vars(variables.map(|(name, value)| (name.into(), value.into())), &facts).unwrap();
    config.source.tables.iter().map(|table| config.source.label(table)).collect()
}

#[test]
fn a_table_has_its_bare_name_where_no_other_has_it_and_else_as_much_as_tells_it_apart() {
    let (older, newer) = (stream("2026-01-30T12:00:00.000"), stream("2026-01-31T12:00:00.000"));
    let table: [(&[&str], &[&str]); 8] = [
        (&["orders"], &["orders"]),
        (&[IRELAND], &["orders"]),
        (&[&older], &["orders"]),
        (&["orders", RETURNS], &["orders", "returns"]),
        (&[IRELAND, VIRGINIA, RETURNS], &["eu-west-1/123456789012/orders", "us-east-1/123456789012/orders", "returns"]),
        (&[IRELAND, ANOTHER], &["eu-west-1/123456789012/orders", "eu-west-1/210987654321/orders"]),
        (&["orders", VIRGINIA], &["orders", "us-east-1/123456789012/orders"]),
        (
            &[&older, &newer, VIRGINIA],
            &[
                "eu-west-1/123456789012/orders/2026-01-30T12:00:00.000",
                "eu-west-1/123456789012/orders/2026-01-31T12:00:00.000",
                "us-east-1/123456789012/orders",
            ],
        ),
    ];
    for (tables, expected) in table {
        assert_eq!(labels(tables), expected, "{tables:?}");
    }
    let all = labels(&[IRELAND, CHINA, VIRGINIA, ANOTHER, "returns", RETURNS]);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
}

/// One of the two is read and stands still; the other one has nothing to read.
#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_table_is_not_overwritten_by_that_of_another_of_its_name() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|_| Reaction::Hang);
    aws.script().clock_behind = Duration::from_secs(7200);
    let tables = [IRELAND, VIRGINIA];
    let adapter = Plan::new(&aws, &sink, &tables.join(",")).start().await;
    aws.write("orders", 3, 1);
    wait_for("requests", || sink.received().len() == 3).await;
    let metrics = adapter.get("/metrics").await.1;
    let lags: Vec<f64> = labels(&tables)
        .iter()
        .map(|label| {
            let series = format!("dynamodb_streams_adapter_lag_seconds{{table=\"{label}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
        })
        .collect();
    assert!(lags.iter().any(|lag| *lag >= 7000.0) && lags.contains(&0.0), "{lags:?}");
    let status = adapter.status().await;
    let shown: Vec<&str> =
        status["tables"].as_array().unwrap().iter().map(|it| it["table"].as_str().unwrap()).collect();
    assert_eq!(shown, labels(&tables));
    let why = adapter.get("/readyz").await.1;
    assert!(labels(&tables).iter().any(|label| why.contains(&format!("table {label}: "))), "{why}");
    assert!(adapter.logged("reading stream").iter().all(|line| labels(&tables).iter().any(|it| line["table"] == **it)));
}
