//! Every metric under its name; the counters of Knative's adapters as they count.

use super::*;

#[test]
fn every_metric_of_the_contract_is_exported_under_its_name() {
    let metrics = Metrics::new("1.2.3", "abc").unwrap();
    let table = metrics.table("orders");
    table.delivery_attempts.with_label_values(&["orders", "202"]).inc();
    table.dead_letter_attempts.with_label_values(&["orders", "202"]).inc();
    table.shards.with_label_values(&["orders", "reading"]).set(1);
    table.lease_changes.with_label_values(&["orders", "taken"]).inc();
    table.lease_held.with_label_values(&["orders"]).set(1);
    table.lease_duration.with_label_values(&["orders"]).set(15.0);
    table.last_progress.with_label_values(&["orders"]).set(1.0);
    table.clock_offset.with_label_values(&["orders"]).set(1.0);
    table.aws_calls.with_label_values(&["orders", "GetRecords", "empty"]).inc();
    table.aws_call_duration.with_label_values(&["orders", "GetRecords"]).observe(0.01);
    metrics.sinks().show("sink", SinkGauges { capacity: Some(500.0), ..UNKNOWN });
    metrics.sinks().show_longest_lane(0);
    let scaler = metrics.scaler();
    scaler.answered("IsActive", "Ok");
    scaler.aws_called("DescribeStream", "ok");
    scaler.show_tables("active", 1);
    scaler.show_reads(true);
    scaler.stream_opened(true);
    let text = metrics.encode().unwrap();
    for definition in ALL.iter() {
        let name = format!("# TYPE {}{} ", PREFIX, definition.name);
        assert!(text.contains(&name), "{name} is missing");
    }
    assert!(text.contains("process_resident_memory_bytes"));
    assert!(text.contains(r#"build_info{revision="abc",version="1.2.3"} 1"#), "{text}");
}

/// What is known of a sink before anything was sent.
const UNKNOWN: SinkGauges =
    SinkGauges { is_up: true, rate_limit: None, capacity: None, in_flight: 0, in_flight_limit: 64 };

/// Prometheus reads `inf` as it reads `+Inf`.
#[test]
fn a_rate_without_limit_is_infinite_and_a_capacity_that_is_not_measured_has_no_series() {
    let metrics = Metrics::new("1.2.3", "abc").unwrap();
    let sinks = metrics.sinks();
    sinks.show("sink", UNKNOWN);
    let text = metrics.encode().unwrap();
    assert!(text.contains("sink_request_rate_limit{sink=\"sink\"} inf"), "{text}");
    assert!(text.contains("sink_up{sink=\"sink\"} 1"), "{text}");
    assert!(!text.contains("sink_request_rate_capacity{"), "{text}");
    assert!(!text.contains("dead-letter\"}"), "{text}");
    sinks.show("sink", SinkGauges { is_up: false, rate_limit: Some(490.0), capacity: Some(500.0), ..UNKNOWN });
    let text = metrics.encode().unwrap();
    assert!(text.contains("sink_request_rate_limit{sink=\"sink\"} 490"), "{text}");
    assert!(text.contains("sink_request_rate_capacity{sink=\"sink\"} 500"), "{text}");
    assert!(text.contains("sink_up{sink=\"sink\"} 0"), "{text}");
    sinks.show("sink", UNKNOWN);
    assert!(!metrics.encode().unwrap().contains("sink_request_rate_capacity{"), "a capacity that is forgotten is gone");
}

#[test]
fn the_documentation_lists_exactly_the_metrics_there_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let documented = std::fs::read_to_string(path).unwrap();
    assert_eq!(documented, markdown(), "run the tests with UPDATE_DOCS=1 to write it anew");
}

fn shown(registry: &Registry) -> String {
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

fn settings() -> LegacySettings {
    LegacySettings {
        component: "awsdynamodbsource".into(),
        name: "orders".into(),
        namespace: "shop".into(),
        resource_group: "awsdynamodbsources.sources.triggermesh.io".into(),
        event_type: "com.amazon.dynamodb.stream_record".into(),
        event_sources: vec![("Orders".into(), "arn:aws:dynamodb:eu-west-1:1:table/Orders".into())],
    }
}

#[test]
fn an_event_is_counted_once_and_its_repetitions_apart() {
    let registry = Registry::new();
    let table = Legacy::new(&registry, settings()).unwrap().table("Orders");
    table.attempted(1, true, "503");
    table.attempted(1, false, "timeout");
    table.attempted(1, false, "reset");
    table.attempted(1, false, "202");
    let text = shown(&registry);
    let fixed = "event_source=\"arn:aws:dynamodb:eu-west-1:1:table/Orders\",\
                 event_type=\"com.amazon.dynamodb.stream_record\",name=\"orders\",namespace_name=\"shop\",\
                 resource_group=\"awsdynamodbsources.sources.triggermesh.io\"";
    let line = |name: &str, code: &str, class: &str, error: &str, timeout: &str| {
        format!(
            "awsdynamodbsource_{name}{{{fixed},response_code=\"{code}\",response_code_class=\"{class}\",\
             response_error=\"{error}\",response_timeout=\"{timeout}\"}} 1\n"
        )
    };
    assert!(text.contains("# TYPE awsdynamodbsource_event_count counter\n"), "{text}");
    for expected in [
        line("event_count", "503", "5xx", "", ""),
        line("retry_event_count", "", "", "timeout", "true"),
        line("retry_event_count", "", "", "reset", "false"),
        line("retry_event_count", "202", "2xx", "", ""),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 4, "{text}");
}

#[test]
fn any_component_makes_a_name_that_can_be_read() {
    for (component, name) in [("my.source-1", "my_source_1"), ("1st", "key_1st"), ("", "adapter")] {
        let registry = Registry::new();
        let settings = LegacySettings { component: component.into(), ..settings() };
        Legacy::new(&registry, settings).unwrap().table("other").attempted(1, true, "200");
        let text = shown(&registry);
        assert!(text.contains(&format!("\n{name}_event_count{{event_source=\"other\"")), "{component}: {text}");
    }
}
