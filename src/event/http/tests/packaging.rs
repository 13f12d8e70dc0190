//! Overrides and further extensions on their way into a message.

use cloudevents::{Event, EventBuilder, EventBuilderV10};

use super::*;

fn event() -> Event {
    EventBuilderV10::new().id("1").source("/s").ty("t").subject("own").extension("sequence", "7").build().unwrap()
}

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_override_is_set_and_replaces_the_events_own() {
    let overrides = overrides(&[("cluster", "a b"), ("sequence", "theirs"), ("subject", "fixed")]);
    let message = Packaging::new(EventMode::Binary, &overrides).message_of(&event());
    assert_eq!(message.headers["ce-cluster"], "a%20b");
    assert_eq!(message.headers["ce-sequence"], "theirs");
    assert_eq!(message.headers["ce-subject"], "fixed");
    assert_eq!(message.headers.get_all("ce-sequence").iter().count(), 1);

    let message = Packaging::new(EventMode::Structured, &overrides).message_of(&event());
    let text = std::str::from_utf8(&message.body).unwrap();
    assert_eq!(text.matches("\"sequence\"").count(), 1, "a name twice in {text}");
    assert!(text.contains(r#""sequence":"theirs""#) && text.contains(r#""cluster":"a b""#), "{text}");
}

#[test]
fn what_is_added_on_the_way_wins_over_an_override() {
    let packaging = Packaging::new(EventMode::Binary, &overrides(&[("knativeerrorcode", "0"), ("kept", "k")]));
    let extension = ("knativeerrorcode".to_owned(), MessageAttributeValue::Integer(500));
    let message = packaging.message(&event(), &[extension]);
    assert_eq!(message.headers["ce-knativeerrorcode"], "500");
    assert_eq!(message.headers["ce-kept"], "k");
    assert_eq!(message.headers["ce-sequence"], "7");
}
