use super::*;

fn page(body: &str) -> Page {
    Page::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn record(sequence: &str) -> String {
    format!(
        r#"{{"eventID":"e{sequence}","eventName":"INSERT","awsRegion":"eu-west-1","dynamodb":{{"Keys":{{"id":{{"S":"x"}}}},
        "SequenceNumber":"{sequence}","NewImage":{{"id":{{"S":"x"}}}}}}}}"#
    )
}

fn sample() -> Page {
    page(include_str!("../../../tests/data/aws-record.json"))
}

#[test]
fn every_member_is_read_as_it_was_sent() {
    let page = sample();
    assert_eq!(page.records.len(), 9);
    assert!(page.next_iterator.unwrap().ends_with("ExampleNextShardIterator=="));
    let first = page.records[0].as_ref().unwrap();
    assert_eq!(first.event_id(), "0a1b2c3d4e5f60718293a4b5c6d7e8f9");
    assert_eq!(first.operation(), Operation::Insert);
    assert_eq!(first.event_version(), Some("1.1"));
    assert_eq!(first.event_source(), Some("aws:dynamodb"));
    assert_eq!(first.region(), Some("eu-west-1"));
    assert_eq!(first.sequence_number().as_str(), "300000000000000499659");
    assert_eq!(first.created_at_millis(), Some(1_767_323_045_000));
    assert_eq!(first.keys(), r#"{"line":{"N":"7"},"orderId":{"S":"order-1001"}}"#);
    assert!(first.new_image().unwrap().starts_with(r#"{"line":{"N":"7"},"orderId""#));
    assert_eq!(first.old_image(), None);
    assert_eq!(first.size_bytes(), Some(512));
    assert_eq!(first.view_type(), Some("NEW_AND_OLD_IMAGES"));
    assert_eq!(first.identity(), None);
    let expired = page.records[2].as_ref().unwrap();
    assert!(expired.is_ttl_delete());
    assert_eq!(page.records[6].as_ref().unwrap().created_at(), None);
    assert_eq!(
        page.records[7].as_ref().unwrap().created_at_millis(),
        Some(1_767_323_051_789)
    );
}

#[test]
fn one_malformed_record_does_not_cost_the_other_999() {
    let broken = [
        r#"{"eventID":"b","eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"x"}}}}"#,
        r#"{"eventID":"b","eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"x"}},"SequenceNumber":7}}"#,
        r#"{"eventID":"b","eventName":"INSERT","dynamodb":{"Keys":[],"SequenceNumber":"500"}}"#,
        r#"{"eventID":"b","eventName":"OTHER","dynamodb":{"Keys":{"id":{"S":"x"}},"SequenceNumber":"500"}}"#,
        r#"{"eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"x"}},"SequenceNumber":"500"}}"#,
        r#"{"eventID":"b","eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"x"}},"SequenceNumber":"500","NewImage":7}}"#,
        r#"{"eventID":"b","eventName":"INSERT"}"#,
        "null",
        "7",
        "\"text\"",
    ];
    for broken in broken {
        let mut records: Vec<String> = (1..=1000).map(|n| record(&n.to_string())).collect();
        records[499] = broken.to_owned();
        let page = page(&format!(
            r#"{{"Records":[{}],"NextShardIterator":"i"}}"#,
            records.join(",")
        ));
        assert_eq!(page.records.len(), 1000);
        for (index, record) in page.records.iter().enumerate() {
            match record {
                Ok(record) => assert_eq!(record.sequence_number().as_str(), (index + 1).to_string()),
                Err(_) => assert_eq!(index, 499, "{broken}"),
            }
        }
        let undecodable = page.records[499].as_ref().unwrap_err();
        assert!(!undecodable.reason.is_empty());
        if broken.contains("\"500\"") {
            assert_eq!(undecodable.sequence_number.unwrap().as_str(), "500", "{broken}");
        }
    }
}

#[test]
fn what_is_no_page_is_a_fault_of_the_transport() {
    let whole = include_str!("../../../tests/data/aws-record.json");
    let cut = [0, 1, 20, whole.len() / 2, whole.len() - 4];
    let bodies = cut.iter().map(|at| whole.as_bytes()[..*at].to_vec());
    let others = [
        "{}",
        "null",
        "[]",
        r#"{"Records":null}"#,
        r#"{"Records":{}}"#,
        "<html></html>",
    ];
    for body in bodies.chain(others.iter().map(|text| text.as_bytes().to_vec())) {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(Page::parse(Bytes::from(body)).is_err(), "{text}");
    }
}

#[test]
fn a_page_without_a_next_iterator_may_carry_records() {
    let last = page(&format!(r#"{{"Records":[{}]}}"#, record("1")));
    assert_eq!((last.records.len(), last.next_iterator), (1, None));
    let empty = page(r#"{ "NextShardIterator" : null, "Records" : [ ] }"#);
    assert_eq!((empty.records.len(), empty.next_iterator), (0, None));
}

#[test]
fn a_detached_record_says_the_same_and_lets_go_of_its_page() {
    for record in sample().records {
        let mut record = record.unwrap();
        let before = format!(
            "{:?}",
            (record.event_id(), record.keys(), record.new_image(), record.old_image())
        );
        let more = format!(
            "{:?}",
            (
                record.identity(),
                record.region(),
                record.view_type(),
                record.event_source()
            )
        );
        let cost = record.cost();
        record.detach();
        assert_eq!(
            before,
            format!(
                "{:?}",
                (record.event_id(), record.keys(), record.new_image(), record.old_image())
            )
        );
        assert_eq!(
            more,
            format!(
                "{:?}",
                (
                    record.identity(),
                    record.region(),
                    record.view_type(),
                    record.event_source()
                )
            )
        );
        assert_eq!(record.cost(), cost);
        assert_eq!(record.page.len() + Record::OVERHEAD, cost, "the page is still held");
    }
}

#[test]
fn reasons_quote_no_item_data() {
    let page = page(r#"{"Records":[{"eventID":"secret-id","eventName":"INSERT","dynamodb":"secret-text"}]}"#);
    let undecodable = page.records[0].as_ref().unwrap_err();
    assert!(!undecodable.reason.contains("secret"), "{}", undecodable.reason);
}
