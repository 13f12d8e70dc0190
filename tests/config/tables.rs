//! How tables and the sink are named.

use dynamodb_streams_adapter::config::TableRef;

use crate::support::{accepted, all_refused, refused};

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-31T12:00:00.000";
const OLDER: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-30T12:00:00.000";

fn table(text: &str) -> TableRef {
    text.parse().unwrap_or_else(|error| panic!("{text} was refused: {error}"))
}

#[test]
fn a_name_says_nothing_about_region_and_account() {
    let longest = "t".repeat(255);
    for name in ["abc", "Orders_2.eu-x", &longest] {
        let table = table(name);
        assert_eq!((table.as_str(), table.table_name()), (name, name));
        assert_eq!((table.region(), table.table_arn(), table.stream_arn()), (None, None, None));
    }
}

#[test]
fn an_arn_gives_table_and_region_and_a_stream_its_own_arn() {
    let (by_table, by_stream) = (table(ARN), table(STREAM));
    assert_eq!((by_table.as_str(), by_stream.as_str()), (ARN, STREAM));
    for table in [&by_table, &by_stream] {
        assert_eq!(table.table_name(), "orders");
        assert_eq!(table.region(), Some("eu-west-1"));
        assert_eq!(table.table_arn(), Some(ARN));
    }
    assert_eq!(by_table.stream_arn(), None);
    assert_eq!(by_stream.stream_arn(), Some(STREAM));
}

#[test]
fn arns_of_other_partitions_and_of_emulators_are_arns() {
    for (arn, region) in [
        ("arn:aws-cn:dynamodb:cn-north-1:123456789012:table/orders", "cn-north-1"),
        ("arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/orders", "us-gov-west-1"),
        ("arn:aws:dynamodb:ddblocal:000000000000:table/orders/stream/2026-01-31T12:00:00.123", "ddblocal"),
        ("arn:aws:dynamodb:dynoxide:000000000000:table/orders/stream/1795225204.671977519", "dynoxide"),
    ] {
        assert_eq!((table(arn).as_str(), table(arn).region()), (arn, Some(region)));
        assert_eq!(table(arn).table_name(), "orders");
    }
}

#[test]
fn several_tables_are_separated_by_commas_and_keep_their_order() {
    let tables = accepted(&[("TABLE", " orders , users,,arn:aws:dynamodb:x:1:table/users ,")]).source.tables;
    let names: Vec<&str> = tables.iter().map(TableRef::as_str).collect();
    assert_eq!(names, ["orders", "users", "arn:aws:dynamodb:x:1:table/users"]);
}

#[test]
fn what_names_no_table_is_refused() {
    all_refused("TABLE", &["ab", "or ders", "orders/x", "tablé", "a:b"]);
    all_refused(
        "TABLE",
        &[
            "arn:aws:dynamodb:eu-west-1:123456789012:orders",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/ab",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/index/by-date",
            "arn:aws:dynamodb::123456789012:table/orders",
            "arn:aws:kinesis:eu-west-1:123456789012:table/orders",
            "arn:gcp:dynamodb:eu-west-1:123456789012:table/orders",
            "arn:aws:dynamodb",
        ],
    );
    assert_eq!(refused(&[("TABLE", ", ,")]).variable, "TABLE");
    assert_eq!(refused(&[("TABLE", &"t".repeat(256))]).variable, "TABLE");
}

#[test]
fn a_table_named_twice_is_refused() {
    for tables in [
        "orders,users,orders".to_owned(),
        format!("{ARN},{ARN}"),
        format!("{STREAM},{STREAM}"),
        format!("{ARN},{STREAM}"),
        format!("{STREAM},{ARN}"),
    ] {
        assert!(refused(&[("TABLE", &tables)]).to_string().contains("named twice"), "{tables}");
    }
    assert_eq!(accepted(&[("TABLE", &format!("{STREAM},{OLDER}"))]).source.tables.len(), 2);
}

#[test]
fn a_sink_is_an_http_url_with_a_host() {
    for (value, uri) in [
        ("http://broker.example", "http://broker.example/"),
        ("https://broker.example:8443/a/b?c=d", "https://broker.example:8443/a/b?c=d"),
        ("HTTP://broker.example/x", "http://broker.example/x"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://broker.example/a?b", "http://broker.example/a?b"),
    ] {
        let sink = accepted(&[("K_SINK", value)]).sink;
        assert_eq!(sink.uri.to_string(), uri);
        assert_eq!(sink.authorization, None);
    }
    for (value, why) in [
        ("ftp://broker.example/", "begin with http://"),
        ("broker.example", "begin with http://"),
        ("/default", "begin with http://"),
        ("http://", ""),
        ("http:///default", ""),
        ("http://:8080/", "host"),
        ("http://broker.example:99999/", ""),
        ("http://broker.example:0/", "port"),
        ("http://broker.example:/", "port"),
        ("http://bro ker/", "URL"),
        ("mailto:x@y", ""),
    ] {
        let mistake = refused(&[("K_SINK", value)]);
        assert_eq!(mistake.variable, "K_SINK", "{value}");
        assert!(mistake.why.contains(why), "{value}: {mistake}");
    }
}

#[test]
fn credentials_in_the_sink_become_basic_authentication_and_leave_the_url() {
    let header = |value: &str| {
        let sink = accepted(&[("K_SINK", value)]).sink;
        assert_eq!(sink.uri.to_string(), "http://broker.example/x");
        sink.authorization.expect("credentials were given").to_str().expect("base64").to_owned()
    };
    assert_eq!(header("http://Aladdin:open%20sesame@broker.example/x"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(header("http://user@broker.example/x"), "Basic dXNlcjo=");
    assert_eq!(refused(&[("K_SINK", "http://us%3Aer:x@broker.example/")]).variable, "K_SINK");
}
