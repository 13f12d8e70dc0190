//! What readers of a page rely on, case by case. `oracle` compares whole generated pages with the AWS SDK.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::record::UserIdentity;
use super::{KeyType, MalformedPage, Operation, Page, Record, Undecodable, item_key};

pub(crate) mod generator;
pub(crate) mod oracle;

const SAMPLE: &[u8] = include_bytes!("../../tests/data/aws-record.json");

/// A record that lacks nothing; `change` replaces the text of one member.
fn record_with(from: &str, to: &str) -> String {
    let record = r#"{"eventID":"id-1","eventName":"INSERT","dynamodb":{"Keys":{"k":{"S":"a"}},"NewImage":{"k":{"S":"a"}},"SequenceNumber":"100000000000000000001"}}"#;
    assert!(record.contains(from), "{from} is part of the record");
    record.replacen(from, to, 1)
}

fn parse(body: impl Into<String>) -> Page {
    Page::parse(Bytes::from(body.into())).expect("a page")
}

fn page_of(records: &[&str]) -> Page {
    parse(format!(r#"{{"Records":[{}],"NextShardIterator":"next"}}"#, records.join(",")))
}

fn only(page: &Page) -> &Result<Record, Undecodable> {
    assert_eq!(page.records.len(), 1);
    &page.records[0]
}

#[track_caller]
fn decoded(record: &str) -> Record {
    only(&page_of(&[record])).clone().expect("decodable")
}

#[track_caller]
fn refused(record: &str) -> Undecodable {
    only(&page_of(&[record])).clone().expect_err("undecodable")
}

#[test]
fn every_accessor_says_what_the_sample_holds() {
    let page = Page::parse(Bytes::from_static(SAMPLE)).expect("the sample page");
    assert_eq!(page.bytes, SAMPLE.len());
    assert!(page.next_iterator.expect("not the last page").ends_with("ExampleNextShardIterator=="));
    let records: Vec<Record> = page.records.into_iter().map(|record| record.expect("decodable")).collect();
    assert_eq!(records.len(), 9);

    let ttl = &records[2];
    assert_eq!(ttl.event_id(), "2c3d4e5f60718293a4b5c6d7e8f90a1b");
    assert_eq!((ttl.operation(), ttl.operation_name()), (Operation::Remove, "REMOVE"));
    assert_eq!((ttl.event_version(), ttl.event_source()), (Some("1.1"), Some("aws:dynamodb")));
    assert_eq!((ttl.region(), ttl.view_type()), (Some("eu-west-1"), Some("NEW_AND_OLD_IMAGES")));
    assert_eq!(ttl.sequence_number().as_str(), "300000000000000499660");
    assert_eq!(ttl.created_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_047)));
    assert_eq!(ttl.keys(), r#"{"line":{"N":"2"},"orderId":{"S":"order-1002"}}"#);
    assert_eq!(ttl.new_image(), None);
    assert!(ttl.old_image().is_some_and(|image| image.ends_with(r#""status":{"S":"NEW"}}"#)));
    assert_eq!(ttl.size_bytes(), Some(96));
    let identity = UserIdentity { principal_id: Some("dynamodb.amazonaws.com"), kind: Some("Service") };
    assert_eq!(ttl.identity(), Some(identity));

    let deleted_by_ttl: Vec<bool> = records.iter().map(Record::is_ttl_delete).collect();
    assert_eq!(deleted_by_ttl, [false, false, true, false, false, false, false, false, false]);
    assert_eq!(records[6].created_at_millis(), None);
    assert_eq!(records[7].created_at_millis(), Some(1_767_323_051_789));
}

#[test]
fn a_record_is_the_very_bytes_that_were_sent() {
    let page = Page::parse(Bytes::from_static(SAMPLE)).expect("the sample page");
    let lines = std::str::from_utf8(SAMPLE).expect("text").lines().skip(1);
    for (record, line) in page.records.iter().zip(lines) {
        let record = record.as_ref().expect("decodable");
        assert_eq!(record.raw(), line.trim_end_matches(','));
        assert_eq!(record.len(), record.raw().len());
    }
}

#[test]
fn white_space_anywhere_changes_no_value() {
    let sample: serde_json::Value = serde_json::from_slice(SAMPLE).expect("JSON");
    let compact = parse(sample.to_string());
    let spacious = parse(serde_json::to_string_pretty(&sample).expect("JSON").replace('\n', "\r\n\t "));
    for (compact, spacious) in compact.records.iter().zip(&spacious.records) {
        let (compact, spacious) = (compact.as_ref().expect("decodable"), spacious.as_ref().expect("decodable"));
        assert_eq!(compact.event_id(), spacious.event_id());
        let [compact, spacious] = [compact.raw(), spacious.raw()]
            .map(|raw| serde_json::from_str::<serde_json::Value>(raw).expect("a whole JSON object"));
        assert_eq!(compact, spacious);
    }
}

#[test]
fn one_malformed_record_costs_none_of_its_neighbours() {
    let good = record_with("", "");
    for bad in
        ["7", "null", "[]", "{}", r#"{"dynamodb":7}"#, r#"{"dynamodb":{}}"#, r#"{"dynamodb":null,"eventID":"x"}"#]
    {
        let page = page_of(&[&good, bad, &good]);
        let kept: Vec<bool> = page.records.iter().map(Result::is_ok).collect();
        assert_eq!(kept, [true, false, true], "{bad}");
        assert_eq!(page.records[2].as_ref().expect("decodable").raw(), good, "{bad}");
        assert_eq!(page.next_iterator.as_deref(), Some("next"));
    }
}

#[test]
fn an_undecodable_record_still_tells_its_place() {
    let flaws = [
        (r#""INSERT""#, r#""READ""#, "eventName"),
        (r#""INSERT""#, "1", "eventName"),
        (r#"{"k":{"S":"a"}}"#, "{}", "Keys"),
        (r#""Keys":{"k":{"S":"a"}},"#, "", "Keys"),
        (r#""NewImage":{"k":{"S":"a"}}"#, r#""NewImage":"text""#, "NewImage"),
        (r#""NewImage":{"k":{"S":"a"}}"#, r#""OldImage":[]"#, "OldImage"),
    ];
    for (from, to, named) in flaws {
        let refused = refused(&record_with(from, to));
        assert!(refused.reason.contains(named), "{}", refused.reason);
        assert_eq!(refused.sequence_number, Some("100000000000000000001".parse().expect("digits")));
    }
}

#[test]
fn a_record_without_place_or_identity_is_undecodable() {
    for number in [r#""""#, r#""12x""#, r#""-1""#, "100000000000000000001", "null", r#""1 2""#] {
        let refused = refused(&record_with(r#""100000000000000000001""#, number));
        assert!(refused.reason.contains("SequenceNumber"), "{}", refused.reason);
        assert_eq!(refused.sequence_number, None);
    }
    for id in ["null", "7", "{}"] {
        let refused = refused(&record_with(r#""id-1""#, id));
        assert!(refused.reason.contains("eventID"), "{}", refused.reason);
        assert!(refused.sequence_number.is_some());
    }
}

#[test]
fn a_reason_never_repeats_item_data() {
    for keys in [r#"{"k":{"S":7,"secret":1}}"#, r#"{"k":{"B":"secret!"}}"#, r#""secret""#, r#"{"k":"secret"}"#] {
        let refused = refused(&record_with(r#"{"k":{"S":"a"}}"#, keys));
        assert!(refused.reason.contains("Keys") || refused.reason.contains("base64"), "{}", refused.reason);
        assert!(!refused.reason.contains("secret"), "{}", refused.reason);
    }
    let malformed = Page::parse(Bytes::from_static(br#"{"Records":"secret"}"#)).expect_err("not a page");
    assert!(!malformed.to_string().contains("secret"), "{malformed}");
}

#[test]
fn a_page_printed_for_debugging_shows_no_item_data() {
    let page = page_of(&[&record_with(r#"{"S":"a"}"#, r#"{"S":"secret"}"#)]);
    let printed = format!("{page:?}");
    assert!(printed.contains("id-1") && printed.contains("100000000000000000001"), "{printed}");
    assert!(!printed.contains("secret"), "{printed}");
}

#[test]
fn null_is_the_same_as_absent() {
    let record =
        decoded(&record_with(r#""NewImage":{"k":{"S":"a"}}"#, r#""NewImage":null,"OldImage":null,"SizeBytes":null"#));
    assert_eq!((record.new_image(), record.old_image(), record.size_bytes()), (None, None, None));
    assert_eq!(page_of(&[]).next_iterator.as_deref(), Some("next"));
    assert_eq!(parse(r#"{"Records":[],"NextShardIterator":null}"#).next_iterator, None);
}

#[test]
fn what_the_promises_do_not_rest_on_may_be_of_a_wrong_type() {
    let wrong = r#""eventID":"id-1","eventVersion":1,"awsRegion":{},"eventSource":[],"userIdentity":"me""#;
    let record = decoded(&record_with(r#""eventID":"id-1""#, wrong));
    assert_eq!((record.event_version(), record.region(), record.event_source()), (None, None, None));
    assert_eq!(record.identity(), None);
    let wrong = r#""ApproximateCreationDateTime":"soon","SizeBytes":-1,"StreamViewType":1,"SequenceNumber""#;
    let record = decoded(&record_with(r#""SequenceNumber""#, wrong));
    assert_eq!((record.created_at(), record.size_bytes(), record.view_type()), (None, None, None));
}

#[test]
fn escapes_are_decoded_in_short_members_and_kept_in_images() {
    let text = record_with(r#""id-1""#, r#""id\u002d\"1\"","awsRegion":"eu\/w","eventVersion":"""#)
        .replace(r#""INSERT""#, r#""\u0049NSERT""#)
        .replace(r#""10000"#, r#""\u003110000"#)
        .replace(r#""NewImage":{"k":{"S":"a"}}"#, r#""NewImage":{"k":{"S":"\u0061\/"}}"#);
    let mut record = decoded(&text);
    for _ in 0..2 {
        assert_eq!((record.event_id(), record.region(), record.event_version()), ("id-\"1\"", Some("eu/w"), Some("")));
        assert_eq!(record.operation(), Operation::Insert);
        assert_eq!(record.sequence_number().as_str(), "1100000000000000000001");
        assert_eq!(record.new_image(), Some(r#"{"k":{"S":"\u0061\/"}}"#));
        assert_eq!((record.raw(), record.len()), (&*text, text.len()));
        record.detach();
    }
}

#[test]
fn names_with_escapes_mean_the_same() {
    let text = record_with(r#""eventID""#, r#""event\u0049D""#).replace(r#""dynamodb""#, r#""dynamod\u0062""#);
    let text = text.replace(r#""Keys""#, r#""\u004beys""#);
    let record = decoded(&text);
    assert_eq!((record.event_id(), record.keys(), record.raw()), ("id-1", r#"{"k":{"S":"a"}}"#, &*text));
}

#[test]
fn of_a_pages_member_sent_twice_the_last_counts_and_a_null_counts_as_any_other() {
    let record = record_with("id-1", "id-1");
    for (body, records, next) in [
        (
            format!(r#"{{"Records":[],"NextShardIterator":"a","Records":[{record}],"NextShardIterator":"b"}}"#),
            1,
            Some("b"),
        ),
        (format!(r#"{{"Records":[{record}],"Records":null}}"#), 0, None),
        (format!(r#"{{"NextShardIterator":"a","Rec\u006frds":[{record}],"NextShardIterator":null}}"#), 1, None),
    ] {
        let page = parse(body.clone());
        assert_eq!((page.records.len(), page.next_iterator.as_deref()), (records, next), "{body}");
        oracle::assert_same(&page, &oracle::Oracle::new().decode(&Bytes::from(body)));
    }
}

#[test]
fn of_a_member_sent_twice_the_last_counts() {
    let text = record_with(r#""eventID":"id-1""#, r#""eventID":"id-0","dynamodb":{"Keys":7},"eventID":"id-1""#);
    let record = decoded(&text);
    assert_eq!((record.event_id(), record.keys(), record.raw()), ("id-1", r#"{"k":{"S":"a"}}"#, &*text));
}

#[test]
fn braces_in_values_do_not_end_a_record() {
    for tail in [r#","x":"}""#, r#","x":{"y":"}}"}"#, r#", "x" : [ "}" , {} ] "#] {
        let text = record_with(r#"000001"}}"#, &format!("000001\",\"z\":\"}}\"}}{tail}}}"));
        let page = page_of(&[&text, &text]);
        assert_eq!(page.records[0].as_ref().expect("decodable").raw(), text);
        assert_eq!(page.records[1].as_ref().expect("decodable").raw(), text);
    }
}

#[test]
fn a_body_that_is_no_page_is_a_fault_of_the_transport() {
    let cut_off = &SAMPLE[..SAMPLE.len() - 5];
    let bodies: [&[u8]; 10] = [
        b"",
        b"null",
        b"[]",
        b" [[],null]",
        b"<html>",
        br#"{"Records":{}}"#,
        br#"{"Records":""}"#,
        br#"{"Records":[],"NextShardIterator":7}"#,
        b"{\"Records\":[\"\xff\"]}",
        cut_off,
    ];
    for body in bodies {
        let parsed = Page::parse(Bytes::copy_from_slice(body));
        assert!(parsed.is_err(), "{}", String::from_utf8_lossy(body));
    }
    assert!(matches!(Page::parse(Bytes::copy_from_slice(cut_off)), Err(MalformedPage::NotJson(_))));
}

#[test]
fn a_record_shares_its_page_until_it_is_detached() {
    let body = Bytes::from(format!(r#"{{"Records":[{}]}}"#, record_with("", "")));
    let mut page = Page::parse(body.clone()).expect("a page");
    let record = page.records[0].as_mut().expect("decodable");
    assert!(body.as_ptr_range().contains(&record.raw().as_ptr()), "no copy of the record was made");
    let before = (record.event_id().to_owned(), record.raw().to_owned(), record.cost());
    record.detach();
    assert!(!body.as_ptr_range().contains(&record.raw().as_ptr()), "the record left its page");
    assert_eq!(before, (record.event_id().to_owned(), record.raw().to_owned(), record.cost()));
    drop(page);
    assert!(body.is_unique(), "nothing holds the page any more");
}

#[test]
fn a_page_is_paid_for_by_its_records() {
    let page = Page::parse(Bytes::from_static(SAMPLE)).expect("the sample page");
    let cost: usize = page.records.iter().flatten().map(Record::cost).sum();
    assert!(cost >= page.bytes, "{cost} for {} bytes", page.bytes);
}

#[test]
fn a_records_key_is_what_its_keys_say() {
    let page = Page::parse(Bytes::from_static(SAMPLE)).expect("the sample page");
    let schema = ["orderId", "line"];
    for record in page.records.iter().flatten() {
        let parsed = item_key::parse(record.keys()).expect("checked when the record was parsed");
        assert_eq!(record.item_key(&schema).map(Cow::Borrowed), parsed.ordered_by(&schema));
    }
}

#[test]
fn a_key_with_escapes_is_decoded_and_its_text_kept() {
    let keys = r#"{"\u0061\"":{"S":"x\n\/"},"b":{"B":"q83\/"}}"#;
    let mut record = decoded(&record_with(r#"{"k":{"S":"a"}}"#, keys));
    for _ in 0..2 {
        let key = record.item_key(&["b", "a\""]);
        let attributes: Vec<_> = key.attributes().map(|of| (of.name, of.kind, of.value)).collect();
        assert_eq!(attributes, [("b", KeyType::Binary, "q83/"), ("a\"", KeyType::String, "x\n/")]);
        assert_eq!(record.keys(), keys);
        record.detach();
    }
}
