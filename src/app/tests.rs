//! Which ends of tasks are faults. What the parts of a table do together is in the files below; [`harness`] runs them.

pub(super) mod harness;
mod leases;
mod left_out;
mod listings;
mod losses;
mod start;

use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::harness::{FakeServices, Setup, event, settings};
use super::*;
use crate::sink::{HttpSink, SinkSettings};

/// All tasks of a process with one table, and the sink whose credentials are read as long as it is there.
async fn tasks() -> (Tasks, HttpSink) {
    let (services, health) = (FakeServices::with_shards(&["a"]), Arc::new(Health::default()));
    let table = services.table(Setup::default(), &health);
    let admin = Arc::new(Admin {
        health: health.clone(),
        metrics: Metrics::new("t", "t").unwrap(),
        refresh: Box::new(|| {}),
        status: Box::new(|| serde_json::Value::Null),
        hosts: Default::default(),
    });
    let ports = Ports { all: TcpListener::bind("127.0.0.1:0").await.unwrap(), metrics: None };
    let (sink, reloader) = HttpSink::new(SinkSettings::new(http::Uri::from_static("http://sink/"), 1)).unwrap();
    let (dispatcher, credentials) = (services.dispatcher(settings()), vec![reloader]);
    let mut tasks = Tasks::start(vec![table], dispatcher, credentials, health.clone(), &event());
    tasks.take_over(Server::start(ports, admin));
    (tasks, sink)
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_task_that_ends_unasked_is_a_fault_and_the_rest_still_ends_in_order() {
    for task in ["dispatcher", "reader of credentials", "table", "checkpointer", "server of probes"] {
        let (mut tasks, sink) = tasks().await;
        let mut sink = Some(sink);
        assert!(tasks.fault().now_or_never().is_none(), "nothing has ended yet");
        match task {
            "reader of credentials" => drop(sink.take()),
            _ => tasks.stop_early(task),
        }
        let fault = timeout(SOON, tasks.fault()).await.unwrap_or_else(|_| panic!("{task} has ended unnoticed"));
        assert_eq!(fault.to_string(), format!("the task {task} has ended unexpectedly"));
        timeout(SOON, tasks.stop(Duration::from_secs(1))).await.expect("the rest does not end").unwrap();
    }
}

#[tokio::test]
async fn a_dispatcher_that_fails_while_it_stops_is_a_fault() {
    let (mut tasks, _sink) = tasks().await;
    tasks.fail_while_stopping();
    let stopped = timeout(SOON, tasks.stop(Duration::from_secs(1))).await.expect("the rest does not end");
    assert!(matches!(stopped, Err(Fault::Dispatcher(_))), "{stopped:?}");
}

/// `telemetry` may not know `records`, where the reasons are declared.
#[test]
fn every_reason_of_a_loss_is_exported_before_the_first_loss() {
    use crate::records::LossReason::{self, ShardMissing, StreamMissing, Trimmed, Undecodable};
    let reasons = [Trimmed, ShardMissing, StreamMissing, Undecodable].map(LossReason::as_str);
    assert_eq!(reasons, crate::telemetry::metrics::LOSS_REASONS);
}

#[test]
fn the_counters_of_knatives_adapters_have_the_source_of_each_table_also_where_names_collide() {
    let arns = ["eu-west-1", "us-east-1"].map(|region| format!("arn:aws:dynamodb:{region}:123456789012:table/orders"));
    let variables =
        [("TABLE", arns.join(",")), ("K_SINK", "http://sink".to_owned()), ("LEGACY_METRICS", "on".to_owned())];
    let facts = config::EnvironmentFacts {
        now: crate::clock::now(),
        stdout_is_terminal: false,
        open_files: None,
        memory_limit: None,
    };
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let config = Config::from_env_vars(variables, &facts).expect("a configuration");
    let sources = legacy_counters(&config).expect("they are on").event_sources;
    let labels = ["eu-west-1", "us-east-1"].map(|region| format!("{region}/123456789012/orders"));
    assert_eq!(sources, labels.into_iter().zip(arns).collect::<Vec<_>>());
}
