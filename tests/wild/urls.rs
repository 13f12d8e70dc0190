//! URLs as people write them: with letters of their language, blanks and characters that no request line may hold.

use std::time::SystemTime;

use dynamodb_streams_adapter::config::{Config, EnvironmentFacts, Mistakes};

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

fn read(variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let facts =
        EnvironmentFacts { now: SystemTime::now(), stdout_is_terminal: false, open_files: None, memory_limit: None };
    let needed = [("TABLE", "orders"), ("K_SINK", "http://broker/default")];
    let needed = needed.iter().filter(|(name, _)| !variables.iter().any(|(given, _)| given == name));
    Config::from_env_vars(needed.chain(variables).map(|(name, value)| (name.into(), value.into())), &facts)
}

/// What is written, and what is sent.
const URLS: [(&str, &str); 18] = [
    ("http://h/événements", "http://h/%C3%A9v%C3%A9nements"),
    ("http://h/事件/新?表=注文", "http://h/%E4%BA%8B%E4%BB%B6/%E6%96%B0?%E8%A1%A8=%E6%B3%A8%E6%96%87"),
    ("http://h/a b?c d=e f", "http://h/a%20b?c%20d=e%20f"),
    ("http://h/a\tb", "http://h/a%09b"),
    ("http://h/{tenant}/<a>|b\\c^d`e\"f", "http://h/%7Btenant%7D/%3Ca%3E%7Cb%5Cc%5Ed%60e%22f"),
    ("http://h/100%/%zz/%", "http://h/100%25/%25zz/%25"),
    ("http://h?q=ä", "http://h/?q=%C3%A4"),
    ("http://h/ä#fragment", "http://h/%C3%A4"),
    // What is right already stays to the letter.
    (
        "http://h/%C3%A9v%c3%a9/%2F..%2f/a/../b//c;d=e?x=[1]&y=a+b",
        "http://h/%C3%A9v%c3%a9/%2F..%2f/a/../b//c;d=e?x=[1]&y=a+b",
    ),
    ("http://h:80/a:b@c", "http://h:80/a:b@c"),
    ("https://h/~a!$&'()*,-._", "https://h/~a!$&'()*,-._"),
    // Hosts of other scripts.
    ("http://bücher.example/x", "http://xn--bcher-kva.example/x"),
    ("http://BÜCHER.example:8080", "http://xn--bcher-kva.example:8080/"),
    ("https://例え.テスト/", "https://xn--r8jz45g.xn--zckzah/"),
    ("http://straße.example/ä", "http://xn--strae-oqa.example/%C3%A4"),
    ("http://faß。example/", "http://xn--fa-hia.example/"),
    ("http://[::1]:8080/ü", "http://[::1]:8080/%C3%BC"),
    ("http://127.0.0.1/ü", "http://127.0.0.1/%C3%BC"),
];

#[test]
fn a_url_is_sent_percent_encoded_and_what_is_right_already_stays_as_it_is() {
    for (written, sent) in URLS {
        let sink = read(&[("K_SINK", written)]).unwrap_or_else(|mistakes| panic!("{written}: {mistakes}")).sink;
        assert_eq!(sink.uri.to_string(), sent, "{written}");
        let dead_letters = [("ON_UNDELIVERABLE", "dead-letter"), ("DEAD_LETTER_SINK", written)];
        assert_eq!(read(&dead_letters).unwrap().dead_letter_sink.unwrap().uri.to_string(), sent, "{written}");
    }
}

#[test]
fn a_user_and_password_are_sent_as_they_are_written() {
    for (written, sent) in [
        ("http://jürgen:geheim@h/x", "Basic asO8cmdlbjpnZWhlaW0="),
        ("http://user:pass wörd^{}@h/x", "Basic dXNlcjpwYXNzIHfDtnJkXnt9"),
        ("http://user:50%25@h/x", "Basic dXNlcjo1MCU="),
        ("http://user:50%@h/x", "Basic dXNlcjo1MCU="),
    ] {
        let sink = read(&[("K_SINK", written)]).unwrap_or_else(|mistakes| panic!("{written}: {mistakes}")).sink;
        assert_eq!(sink.authorization.unwrap().to_str().unwrap(), sent, "{written}");
        assert_eq!(sink.uri.to_string(), "http://h/x");
    }
}

#[test]
fn what_names_no_host_stays_a_mistake() {
    for written in
        ["http://ä ö/", "http://bro ker/", "http://\u{ad}/", "http://xn--ü/", "http://h\\evil/", "héllo", "http:///é"]
    {
        assert!(read(&[("K_SINK", written)]).is_err(), "{written}");
    }
}

#[test]
fn the_endpoint_of_an_integration_source_is_encoded_too() {
    let kamelet = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_";
    let names = ["TABLE", "OVERRIDEENDPOINT", "URIENDPOINTOVERRIDE"].map(|name| format!("{kamelet}{name}"));
    let values = ["orders", "true", "http://bücher.example:8000/ä"];
    let variables: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
    let endpoint = read(&variables).unwrap().aws.overrides.endpoint_url;
    assert_eq!(endpoint.as_deref(), Some("http://xn--bcher-kva.example:8000/%C3%A4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_a_request_line_that_every_server_takes() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let url = sink.url().replace("/events", "/événements/a b");
    let _adapter = Plan::new(&aws, &sink, "orders").env("K_SINK", url).start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the event", || sink.distinct() == 1).await;
    assert_eq!(sink.received()[0].path, "/%C3%A9v%C3%A9nements/a%20b");
}
