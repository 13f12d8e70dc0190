//! What each variable takes and what it refuses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dynamodb_streams_adapter::config::{
    CheckpointLocation, Config, DeliveryOrder, EnvironmentFacts, EventData, EventMode, EventProfile, LogFormat,
    OnDataLoss, OnUndeliverable, RetryLimits, StartPosition, Warning,
};

use crate::support::{NEEDED, accepted, all_refused, facts, now, os, refused};

const BAD_DURATIONS: [&str; 11] =
    ["10", "0", "0s", "-1s", "1", "soon", "s", "999us", "25h", "1M", "99999999999999999999999s"];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn start_position_takes_a_position_or_a_time_that_has_passed() {
    let start = |value| accepted(&[("START_POSITION", value)]).source.start;
    assert_eq!(start("latest"), StartPosition::Latest);
    assert_eq!(start("trim-horizon"), StartPosition::TrimHorizon);
    assert_eq!(start("2026-01-31T12:00:00Z"), StartPosition::At(now()));
    assert_eq!(start("2026-01-31T13:00:00.500+02:00"), StartPosition::At(now() - millis(3_599_500)));
    all_refused(
        "START_POSITION",
        &["LATEST", "earliest", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:01Z", "1769860800"],
    );
    assert!(refused(&[("START_POSITION", "2026-01-31T12:00:01Z")]).to_string().contains("in the future"));
}

#[test]
fn start_position_takes_a_duration_back_from_the_start_of_the_process() {
    let start = |value| accepted(&[("START_POSITION", value)]).source.start;
    let before = |duration| StartPosition::At(now() - duration);
    assert_eq!(start("15m"), before(Duration::from_mins(15)));
    assert_eq!(start("1h30m"), before(Duration::from_mins(90)));
    assert_eq!(start("1ms"), before(millis(1)));
    assert_eq!(start("24h"), before(Duration::from_hours(24)));
    assert_eq!(start("15m"), start("2026-01-31T11:45:00Z"));
    all_refused("START_POSITION", &["-15m", "m", "15", "15 x", "0", "0s", "999us", "24h1ms", "25h", "2days"]);
    all_refused("START_POSITION", &["99999999999999999999999s", "latest-15m"]);
}

#[test]
fn a_start_position_that_is_refused_says_what_would_do() {
    let message = |value| refused(&[("START_POSITION", value)]).to_string();
    for too_long in ["24h1ms", "25h", "7days"] {
        let message = message(too_long);
        assert!(message.contains("keeps records, 24 hours") && message.contains("use trim-horizon"), "{message}");
    }
    assert!(message("15").contains("did you mean 15s?"));
    assert!(message("0s").contains("too small"));
    for unknown in ["yesterday", "1769860800"] {
        let message = message(unknown);
        assert!(message.contains("not a position, a time with its offset or a duration"), "{message}");
        assert!(message.ends_with("or a duration up to 24h such as 15m"), "{message}");
    }
}

#[test]
fn checkpoint_store_takes_memory_or_the_path_of_a_file() {
    let store = |value| accepted(&[("CHECKPOINT_STORE", value)]).source.checkpoint;
    assert_eq!(store("memory"), CheckpointLocation::Memory);
    for (value, path) in [
        ("file:/data/positions.json", "/data/positions.json"),
        ("file:positions.json", "positions.json"),
        ("file:../with blank.json", "../with blank.json"),
        ("file:///data/positions.json", "/data/positions.json"),
    ] {
        assert_eq!(store(value), CheckpointLocation::File(PathBuf::from(path)), "{value}");
    }
    let not_files = ["file:", "file:/", "file:/data/", "file:.", "file:..", "file:/data/.", "file:/data/.."];
    all_refused("CHECKPOINT_STORE", &not_files);
    all_refused("CHECKPOINT_STORE", &["file://host/data/x", "/data/x", "FILE:/x", "none", "DYNAMODB:leases"]);
}

#[test]
fn memory_as_checkpoint_store_is_a_warning_and_a_file_is_not() {
    assert_eq!(accepted(&[]).warnings, [Warning::PositionsInMemory]);
    assert_eq!(accepted(&[("CHECKPOINT_STORE", "memory")]).warnings, [Warning::PositionsInMemory]);
    assert_eq!(accepted(&[("CHECKPOINT_STORE", "file:x")]).warnings, []);
}

#[test]
fn consumer_group_takes_what_fits_into_a_path_or_a_key() {
    let longest = "g".repeat(255);
    for value in ["a", "team-1_eu.blue", &longest] {
        assert_eq!(accepted(&[("CONSUMER_GROUP", value)]).source.consumer_group, value);
    }
    all_refused("CONSUMER_GROUP", &["a b", "a/b", "gröup", "a\nb"]);
    assert_eq!(refused(&[("CONSUMER_GROUP", &"g".repeat(256))]).variable, "CONSUMER_GROUP");
}

#[test]
fn paces_take_durations() {
    let pace = accepted(&[("POLL_INTERVAL", "1s500ms"), ("IDLE_POLL_INTERVAL_MAX", "1m30s")]).source.poll_intervals;
    assert_eq!((pace.poll_interval, pace.idle_poll_interval_max), (millis(1_500), millis(90_000)));
    all_refused("POLL_INTERVAL", &BAD_DURATIONS);
    all_refused("IDLE_POLL_INTERVAL_MAX", &BAD_DURATIONS);
}

#[test]
fn a_number_without_a_unit_is_answered_with_the_number_and_a_unit() {
    assert!(refused(&[("SHUTDOWN_TIMEOUT", "45")]).to_string().contains("did you mean 45s?"));
    assert!(refused(&[("BUFFER_MEMORY", "45")]).to_string().contains("did you mean 45MiB?"));
}

#[test]
fn enumerated_variables_take_their_values_and_name_them_when_they_refuse() {
    let order = |value| accepted(&[("DELIVERY_ORDER", value)]).delivery.order;
    assert_eq!((order("item"), order("shard")), (DeliveryOrder::Item, DeliveryOrder::Shard));
    let on_loss = |value| accepted(&[("ON_DATA_LOSS", value)]).source.on_data_loss;
    assert_eq!((on_loss("continue"), on_loss("stop")), (OnDataLoss::Continue, OnDataLoss::Stop));
    let profile = |value| accepted(&[("EVENT_PROFILE", value)]).event.profile;
    assert_eq!(profile("aws"), EventProfile::Aws);
    assert_eq!(profile("triggermesh"), EventProfile::Triggermesh);
    assert_eq!(profile("integration-source"), EventProfile::IntegrationSource);
    let data = |value| accepted(&[("EVENT_DATA", value)]).event.data;
    assert_eq!((data("dynamodb-json"), data("json")), (EventData::DynamodbJson, EventData::Json));
    assert_eq!(accepted(&[("EVENT_MODE", "binary")]).event.mode, EventMode::Binary);
    assert_eq!(accepted(&[("ON_UNDELIVERABLE", "block")]).delivery.on_undeliverable, OnUndeliverable::Block);
    all_refused("DELIVERY_ORDER", &["Item", "none", "item,shard"]);
    all_refused("ON_DATA_LOSS", &["ignore", "true"]);
    all_refused("EVENT_PROFILE", &["AWS", "knative", "integrationsource", "triggermesh,aws"]);
    all_refused("EVENT_DATA", &["JSON", "plain", "dynamodb"]);
    assert_eq!(refused(&[("DELIVERY_ORDER", "table")]).accepts, "item or shard");
}

#[test]
fn overrides_without_content_are_taken_as_the_controllers_write_them() {
    for value in ["", "{}", r#"{"extensions":{}}"#, r#"{"extensions":null}"#] {
        assert!(accepted(&[("K_CE_OVERRIDES", value)]).event.overrides.is_empty(), "{value}");
    }
    all_refused("K_CE_OVERRIDES", &["no json", "[]", r#"{"extensions":"team"}"#, "{"]);
}

#[test]
fn overrides_are_the_platforms_extensions() {
    let value = r#"{"extensions":{"cluster":"blue","sequence":"7","subject":"fixed","dataschema":"https://a.example/s"},
        "other":1}"#;
    let overrides = accepted(&[("K_CE_OVERRIDES", value)]).event.overrides;
    let pairs: Vec<_> = overrides.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected =
        [("cluster", "blue"), ("dataschema", "https://a.example/s"), ("sequence", "7"), ("subject", "fixed")];
    assert_eq!(pairs, expected);
}

#[test]
fn an_override_that_would_break_an_event_is_named() {
    for (extensions, why) in [
        (r#"{"id":"1"}"#, "id is set by the adapter"),
        (r#"{"source":"/s"}"#, "source is set by the adapter"),
        (r#"{"type":"t"}"#, "type is set by the adapter"),
        (r#"{"specversion":"1.0"}"#, "specversion is set by the adapter"),
        (r#"{"time":"2026-01-01T00:00:00Z"}"#, "time is set by the adapter"),
        (r#"{"datacontenttype":"text/plain"}"#, "datacontenttype is set by the adapter"),
        (r#"{"data":"x"}"#, "data is reserved"),
        (r#"{"Type":"t"}"#, "type is set by the adapter"),
        (r#"{"my-cluster":"x"}"#, "lower-case"),
        (r#"{"clüster":"x"}"#, "lower-case"),
        (r#"{"":"x"}"#, "lower-case"),
        (r#"{"n":1}"#, "the value of n is not a string"),
        (r#"{"n":"a\nb"}"#, "the value of n has control characters"),
        (r#"{"n":"a\uffffb"}"#, "the value of n has control characters"),
        (r#"{"subject":""}"#, "the value of subject is empty"),
        (r#"{"dataschema":"relative"}"#, "not an absolute URI"),
    ] {
        let mistake = refused(&[("K_CE_OVERRIDES", &format!("{{\"extensions\":{extensions}}}"))]);
        assert!(mistake.to_string().contains(why), "{extensions}: {mistake}");
    }
    let endless = format!(r#"{{"extensions":{{"{}":"x"}}}}"#, "n".repeat(70_000));
    let mistake = refused(&[("K_CE_OVERRIDES", &endless)]).to_string();
    assert!(mistake.contains("longer than 100 characters"), "{}", &mistake[..200]);
}

#[test]
fn retry_limits_take_a_number_and_a_duration() {
    let limits = |variables: &[(&str, &str)]| accepted(variables).delivery.limits;
    assert_eq!(limits(&[]), RetryLimits { attempts: None, age: None });
    let both = limits(&[("RETRY_MAX_ATTEMPTS", "5"), ("RETRY_MAX_AGE", "4h")]);
    assert_eq!((both.attempts.map(u32::from), both.age), (Some(5), Some(Duration::from_hours(4))));
    all_refused("RETRY_MAX_ATTEMPTS", &["0", "-1", "1000001", "many", "1.5"]);
    all_refused("RETRY_MAX_AGE", &BAD_DURATIONS);
}

#[test]
fn batches_take_bounds() {
    let of = |name, value| accepted(&[("EVENT_MODE", "batch"), (name, value)]).delivery.batch;
    assert_eq!(of("BATCH_MAX_EVENTS", "1000").events.get(), 1000);
    assert_eq!(of("BATCH_MAX_BYTES", "256KiB").bytes, 256 << 10);
    assert_eq!(of("BATCH_MAX_WAIT", "2s").wait, Duration::from_secs(2));
    assert_eq!(of("BATCH_MAX_WAIT", "0").wait, Duration::ZERO);
    all_refused("BATCH_MAX_EVENTS", &["0", "1001", "many"]);
    all_refused("BATCH_MAX_BYTES", &["1", "100B", "2GiB", "all"]);
    all_refused("BATCH_MAX_WAIT", &["100", "25h", "soon"]);
}

#[test]
fn a_bound_of_batches_without_batch_mode_is_a_warning() {
    let warned = |variables: &[(&str, &str)]| {
        let warnings = accepted(variables).warnings;
        warnings.iter().any(|warning| matches!(warning, Warning::NoEffect { name: "BATCH_MAX_EVENTS", .. }))
    };
    assert!(warned(&[("BATCH_MAX_EVENTS", "10")]));
    assert!(!warned(&[("BATCH_MAX_EVENTS", "10"), ("EVENT_MODE", "batch")]));
    assert!(!warned(&[("BATCH_MAX_EVENTS", "100")]), "that is the default");
}

#[test]
fn dead_letters_need_a_sink_and_a_sink_needs_dead_letters() {
    let mistake = refused(&[("ON_UNDELIVERABLE", "dead-letter")]);
    assert_eq!(mistake.variable, "DEAD_LETTER_SINK");
    assert!(mistake.to_string().contains("required by ON_UNDELIVERABLE=dead-letter"), "{mistake}");
    let sink = ("DEAD_LETTER_SINK", "http://user:hunter2@dead.example/letters");
    let config = accepted(&[("ON_UNDELIVERABLE", "dead-letter"), sink]);
    let dead_letter_sink = config.dead_letter_sink.expect("it is set");
    assert_eq!(dead_letter_sink.uri, "http://dead.example/letters");
    assert!(dead_letter_sink.authorization.is_some());
    for policy in ["block", "drop"] {
        let warnings = accepted(&[("ON_UNDELIVERABLE", policy), sink]).warnings;
        let named =
            warnings.iter().any(|warning| matches!(warning, Warning::NoEffect { name: "DEAD_LETTER_SINK", .. }));
        assert!(named, "{policy}: {warnings:?}");
    }
    let mistake = refused(&[("DEAD_LETTER_SINK", "ftp://user:hunter2@dead.example")]).to_string();
    assert!(mistake.contains("DEAD_LETTER_SINK") && !mistake.contains("hunter2"), "{mistake}");
}

#[test]
fn concurrency_takes_a_number_in_range() {
    for value in ["1", "64", "10000"] {
        assert_eq!(accepted(&[("DELIVERY_CONCURRENCY", value)]).delivery.concurrency.to_string(), value);
    }
    all_refused("DELIVERY_CONCURRENCY", &["0", "-1", "10001", "many", "1.5", "99999999999999999999999"]);
}

#[test]
fn a_ceiling_of_the_rate_takes_a_positive_number_and_there_is_none_by_default() {
    let rate = |value| accepted(&[("DELIVERY_RATE_MAX", value)]).delivery.rate_max;
    for (value, expected) in
        [("500", 500.0), ("0.5", 0.5), (".25", 0.25), ("10.", 10.0), ("0.001", 0.001), ("1000000", 1e6)]
    {
        assert_eq!(rate(value), Some(expected), "{value}");
    }
    assert_eq!(accepted(&[]).delivery.rate_max, None);
    all_refused(
        "DELIVERY_RATE_MAX",
        &["0", "0.0", "0.0009", "-1", "+5", "1e3", "inf", "NaN", "500/s", "1,5", ".", "1.2.3"],
    );
    all_refused("DELIVERY_RATE_MAX", &["1000001", &"9".repeat(40), "many", "0x10", "1_000"]);
}

#[test]
fn a_ceiling_of_an_events_body_takes_a_size() {
    let most = |value| accepted(&[("EVENT_BYTES_MAX", value)]).delivery.event_bytes_max;
    assert_eq!((most("256KiB"), most("1KiB"), most("1GiB"), most("1MB")), (256 << 10, 1 << 10, 1 << 30, 1_000_000));
    assert_eq!(accepted(&[]).delivery.event_bytes_max, 16 << 20);
    all_refused("EVENT_BYTES_MAX", &["0", "1", "1023B", "2GiB", "16", "all", "-1MiB", "1.5MiB"]);
}

#[test]
fn more_requests_than_there_are_files_for_are_cut_with_a_warning() {
    let read = |open_files, wanted: &str| {
        let facts = EnvironmentFacts { open_files, ..facts() };
        let variables = NEEDED.into_iter().chain([("DELIVERY_CONCURRENCY", wanted)]).map(os);
        let config = Config::from_env_vars(variables, &facts).expect("a configuration");
        let said = config.warnings.iter().filter(|warning| matches!(warning, Warning::Cut { .. })).count();
        (config.delivery.concurrency.get(), said)
    };
    for (open_files, wanted, fitting) in [
        (None, "10000", 10_000),
        (Some(u64::MAX), "10000", 10_000),
        (Some(1_048_576), "10000", 10_000),
        (Some(1024), "600", 288),
        (Some(1024), "288", 288),
        (Some(352), "64", 64),
        (Some(256), "64", 32),
        (Some(162), "64", 1),
        (Some(0), "64", 1),
    ] {
        let wanted_too_many = wanted.parse::<usize>().expect("a number") > fitting;
        assert_eq!(read(open_files, wanted), (fitting, usize::from(wanted_too_many)), "{open_files:?} {wanted}");
    }
}

#[test]
fn less_memory_than_the_configuration_can_take_is_said_with_the_numbers() {
    let read = |limit: Option<u64>, buffer: &str, requests: &str| {
        let facts = EnvironmentFacts { memory_limit: limit.map(|mebibytes| mebibytes << 20), ..facts() };
        let variables = [("BUFFER_MEMORY", buffer), ("DELIVERY_CONCURRENCY", requests)];
        let config =
            Config::from_env_vars(NEEDED.into_iter().chain(variables).map(os), &facts).expect("a configuration");
        let said = config.warnings.iter().find(|warning| matches!(warning, Warning::Memory { .. }));
        said.map(ToString::to_string)
    };
    for (limit, buffer, requests, is_too_little) in [
        (None, "64MiB", "64", false),
        (None, "1024GiB", "10000", false),
        (Some(192), "64MiB", "64", false),
        (Some(112), "64MiB", "64", false),
        (Some(111), "64MiB", "64", true),
        (Some(0), "1MiB", "1", true),
        (Some(256), "256MiB", "64", true),
        (Some(192), "64MiB", "1000", true),
    ] {
        let said = read(limit, buffer, requests);
        assert_eq!(said.is_some(), is_too_little, "{limit:?} {buffer} {requests}: {said:?}");
    }
    let said = read(Some(256), "512MiB", "64").expect("a warning");
    for part in
        ["BUFFER_MEMORY (512MiB)", "DELIVERY_CONCURRENCY (64)", "take 560MiB", "its limit is 256MiB", "limits.memory"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_delivery_attempt_lasts_delivery_timeout_else_k_sink_timeout_else_30s() {
    let timeout = |variables: &[_]| accepted(variables).delivery.timeout;
    assert_eq!(timeout(&[("DELIVERY_TIMEOUT", "5s"), ("K_SINK_TIMEOUT", "20")]), millis(5_000));
    assert_eq!(timeout(&[("K_SINK_TIMEOUT", "20")]), millis(20_000));
    for unset in ["", "0", "-1"] {
        assert_eq!(timeout(&[("K_SINK_TIMEOUT", unset)]), millis(30_000), "{unset:?}");
    }
    all_refused("DELIVERY_TIMEOUT", &BAD_DURATIONS);
}

#[test]
fn backoff_takes_two_durations() {
    let backoff = accepted(&[("RETRY_BACKOFF_MIN", "1ms"), ("RETRY_BACKOFF_MAX", "1h")]).delivery.backoff;
    assert_eq!((backoff.min(), backoff.max()), (millis(1), millis(3_600_000)));
    all_refused("RETRY_BACKOFF_MIN", &BAD_DURATIONS);
    all_refused("RETRY_BACKOFF_MAX", &BAD_DURATIONS);
}

#[test]
fn buffer_memory_takes_sizes_from_1_mebibyte() {
    for (value, bytes) in [
        ("1MiB", 1 << 20),
        ("2048KiB", 1 << 21),
        ("64 MiB", 64 << 20),
        ("1GiB", 1 << 30),
        ("2MB", 2_000_000),
        ("5000KB", 5_000_000),
        ("1GB", 1_000_000_000),
        ("1048576B", 1 << 20),
    ] {
        assert_eq!(accepted(&[("BUFFER_MEMORY", value)]).process.buffer_memory, bytes, "{value}");
    }
    all_refused("BUFFER_MEMORY", &["1048576", "1023KiB", "1MB", "0MiB", "64Mi", "64mib", "MiB", "-1MiB", "1.5GiB"]);
    all_refused("BUFFER_MEMORY", &["1025GiB", "17179869185GiB", "99999999999999999999999MiB"]);
}

#[test]
fn shutdown_timeout_takes_a_duration() {
    assert_eq!(accepted(&[("SHUTDOWN_TIMEOUT", "55s")]).process.shutdown_timeout, millis(55_000));
    all_refused("SHUTDOWN_TIMEOUT", &BAD_DURATIONS);
}

#[test]
fn http_address_takes_an_address_or_a_port_alone() {
    let address = |value| accepted(&[("HTTP_ADDRESS", value)]).process.http_address;
    assert_eq!(address(""), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)), "both families");
    assert_eq!(address(":9090"), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9090)), "both families");
    assert_eq!(address("0.0.0.0:9090"), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090)));
    assert_eq!(address("127.0.0.1:0"), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    assert_eq!(address("[::]:8080"), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)));
    all_refused("HTTP_ADDRESS", &["8080", ":", ":http", ":65536", "localhost:8080", "0.0.0.0", "http://0.0.0.0:80"]);
}

#[test]
fn logs_are_json_unless_a_person_reads_or_the_variable_says_so() {
    let format = |value| accepted(&[("LOG_FORMAT", value)]).log.format;
    assert_eq!((format("json"), format("text"), format("")), (LogFormat::Json, LogFormat::Text, LogFormat::Json));
    all_refused("LOG_FORMAT", &["JSON", "pretty"]);
}

#[test]
fn rust_log_takes_what_tracing_takes() {
    for value in ["debug", "warn,dynamodb_streams_adapter=trace", "off", "hyper=info"] {
        assert_eq!(accepted(&[("RUST_LOG", value)]).log.filter, value);
    }
    all_refused("RUST_LOG", &["a=b=c", "adapter=loud"]);
}

#[test]
fn names_are_taken_as_they_are() {
    let names = accepted(&[
        ("NAMESPACE", "shop"),
        ("NAME", "orders source"),
        ("K_COMPONENT", "awsdynamodbsource"),
        ("POD_NAME", "orders-0"),
    ])
    .platform_names;
    assert_eq!(names.namespace.as_deref(), Some("shop"));
    assert_eq!(names.name.as_deref(), Some("orders source"));
    assert_eq!(names.component.as_deref(), Some("awsdynamodbsource"));
    assert_eq!(names.pod.as_deref(), Some("orders-0"));
}

#[test]
fn a_role_to_assume_is_the_arn_of_a_role() {
    for role in ["arn:aws:iam::123456789012:role/reader", "arn:aws-cn:iam::000000000000:role/team/reader"] {
        assert_eq!(accepted(&[("AWS_ASSUME_ROLE_ARN", role)]).aws.assume_role_arn.as_deref(), Some(role));
    }
    let not_roles = ["reader", "arn:aws:iam::123456789012:user/me", "arn:aws:iam::123456789012:role/", "arn:aws:iam"];
    all_refused("AWS_ASSUME_ROLE_ARN", &not_roles);
}

#[test]
fn an_external_id_reaches_the_code_that_needs_it() {
    let role = ("AWS_ASSUME_ROLE_ARN", "arn:aws:iam::123456789012:role/reader");
    let aws = accepted(&[role, ("AWS_ASSUME_ROLE_EXTERNAL_ID", "a:b/c@d=e,f.g+h-i_j")]).aws;
    assert_eq!(aws.assume_role_external_id.expect("it was set").reveal(), "a:b/c@d=e,f.g+h-i_j");
    for bad in ["x", "with blank", "ümlaut"] {
        let mistake = refused(&[role, ("AWS_ASSUME_ROLE_EXTERNAL_ID", bad)]);
        assert_eq!(mistake.variable, "AWS_ASSUME_ROLE_EXTERNAL_ID", "{bad}");
    }
}

#[test]
fn hosts_of_the_port_are_names_in_any_case_without_a_port() {
    let hosts = |value| accepted(&[("ADMIN_HOSTS", value)]).process.admin_hosts;
    assert_eq!(hosts("Adapter.Example.com, adapter.,a_b-c"), ["adapter.example.com", "adapter", "a_b-c"]);
    assert!(accepted(&[]).process.admin_hosts.is_empty());
    all_refused("ADMIN_HOSTS", &["https://x", "x:80", "x/y", "*.x", "[::1]", "a b", "ü"]);
}
