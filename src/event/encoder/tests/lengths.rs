//! A body's length is known before the body is made: what is computed against what is written.

use cloudevents::message::MessageAttributeValue;
use proptest::prelude::*;

use super::*;
use crate::records::tests::generator::{self, Choices};

const FORMS: [(EventProfile, EventData); 4] = [
    (EventProfile::Aws, EventData::DynamodbJson),
    (EventProfile::Aws, EventData::Json),
    (EventProfile::Triggermesh, EventData::DynamodbJson),
    (EventProfile::IntegrationSource, EventData::DynamodbJson),
];

const MODES: [EventMode; 3] = [EventMode::Binary, EventMode::Structured, EventMode::Batch];

/// Each form in each mode, with and without overrides.
fn encoders() -> impl Iterator<Item = Encoder> {
    let own = BTreeMap::from([("cluster", "a \"b\" é\u{1}"), ("subject", "fixed")].map(|(n, v)| (n.into(), v.into())));
    let overrides = [BTreeMap::new(), own];
    let packagings = MODES.into_iter().flat_map(move |mode| overrides.clone().map(|own| Packaging::new(mode, &own)));
    packagings.flat_map(|packaging| {
        let packagings = std::iter::repeat(packaging);
        FORMS.into_iter().zip(packagings).map(|((profile, data), packaging)| {
            Encoder::new(EncoderSettings { profile, data, packaging, ..settings() })
        })
    })
}

fn assert_lengths(record: &Record) {
    for encoder in encoders() {
        let (body, computed) = (encoder.encode(record, recorded()).body, encoder.body_len(record, recorded()));
        assert_eq!(computed, body.len(), "{encoder:?}: {}", String::from_utf8_lossy(&body));
        assert!(encoder.body_bound(record) >= computed, "{} < {computed}: {encoder:?}", encoder.body_bound(record));
    }
}

fn record_with(new_image: &str) -> Record {
    record(&format!(
        r#"{{"eventID":"e","eventName":"INSERT","dynamodb":{{"Keys":{{"k":{{"S":"a"}}}},"NewImage":{new_image},"SequenceNumber":"3"}}}}"#
    ))
}

#[test]
fn the_length_of_every_hard_record_is_exact_and_within_its_bound() {
    hard_records().iter().for_each(assert_lengths);
}

#[test]
fn what_grows_most_stays_within_the_bound() {
    let several = |value: &str, times: usize| vec![value; times].join(",");
    let grows = [
        r#"{"S":""}"#,
        r#"{"S":"<<<<<<<<<<"}"#,
        r#"{"S":"\b'=\u0001"}"#,
        "{\"S\":\"\u{2028}\"}",
        r#"{"B":""}"#,
        r#"{"B":"gICA"}"#,
        r#"{"BS":["","gA=="]}"#,
        r#"{"BS":[]}"#,
        r#"{"M":{}}"#,
        r#"{"L":[]}"#,
        r#"{"N":""}"#,
        r#"{"N":".5"}"#,
        r#"{"NULL":true}"#,
        r#"{"NULL":false}"#,
        r#"{"BOOL":true}"#,
        r#"{"M":{"<":{"S":"<"}}}"#,
        r#"{}"#,
    ];
    for value in grows {
        assert_lengths(&record_with(&format!(r#"{{"l":{{"L":[{}]}}}}"#, several(value, 500))));
    }
    // Lists that hold nothing but a list have no commas between them, and grow most of all.
    let nested = format!("{}{}", r#"{"L":["#.repeat(60), "]}".repeat(60));
    assert_lengths(&record_with(&format!(r#"{{"l":{{"L":[{}]}}}}"#, several(&nested, 20))));
}

#[test]
fn of_a_name_that_comes_twice_only_the_last_counts() {
    let image = r#"{"a":{"S":"1"},"\u0061":{"S":"22"},"b":{"M":{"c":{"N":"1"},"c":{"N":"333"}}},"a":{"S":"4444"}}"#;
    assert_lengths(&record_with(image));
}

#[test]
fn base64_is_judged_as_a_whole_however_long_it_is() {
    let long = "gIBA".repeat(1000);
    for base64 in [&*long, &format!("{long}gA=="), &format!("{long}gA="), &format!("gA=={long}"), &format!("{long}*")] {
        let record = record_with(&format!(r#"{{"b":{{"B":"{base64}"}},"s":{{"BS":["{base64}","gA=="]}}}}"#));
        assert_lengths(&record);
    }
    let padded_amid = format!(r#"{{"b":{{"B":"{}"}}}}"#, format!("{}gA==", "gIBA".repeat(255)).repeat(2));
    assert_lengths(&record_with(&padded_amid));
    let java = Encoder::new(EncoderSettings { profile: EventProfile::IntegrationSource, ..settings() });
    let body = java.encode(&record_with(&padded_amid), recorded()).body;
    assert!(String::from_utf8_lossy(&body).contains(&padded_amid), "what is not base64 is passed on");
}

/// An item of 400 KB by AWS's rule.
#[test]
fn the_length_of_the_worst_item_takes_no_memory() {
    let empty_texts = vec![r#"{"S":""}"#; 390_000].join(",");
    let list = record_with(&format!(r#"{{"l":{{"L":[{empty_texts}]}}}}"#));
    let names = (0..60_000).map(|number| format!(r#""{number}":{{"S":""}}"#)).collect::<Vec<_>>().join(",");
    let map = record_with(&format!("{{{names}}}"));
    for encoder in FORMS.map(|(profile, data)| Encoder::new(EncoderSettings { profile, data, ..settings() })) {
        for (record, most) in [(&list, 8 * 1024), (&map, map.len())] {
            let mut len = 0;
            let used = allocation_counter::measure(|| len = encoder.body_len(record, recorded()));
            assert!(
                used.bytes_max <= most as u64,
                "{} bytes of memory for {}: {encoder:?}",
                used.bytes_max,
                record.len()
            );
            let used = allocation_counter::measure(|| assert!(encoder.body_bound(record) >= len));
            assert_eq!(used.count_total, 0, "a bound costs nothing");
        }
    }
}

proptest! {
    #[test]
    fn the_length_of_every_record_is_exact_and_within_its_bound(json in generator::record(), choices: Choices) {
        assert_lengths(&record(&json.write(choices)));
    }
}

#[test]
fn an_event_without_data_is_the_same_event() {
    let extensions = [("knativeerrorcode".to_owned(), MessageAttributeValue::Integer(413))];
    for record in hard_records() {
        let mut whole = encoder().encode_with(&record, recorded(), &extensions);
        let bare = encoder().encode_without_data(&record, recorded(), &extensions);
        assert_eq!(
            whole.headers.remove("content-type").as_ref().map(|value| value.as_bytes()),
            Some(&b"application/json"[..])
        );
        assert_eq!((&bare.headers, &bare.body[..]), (&whole.headers, &b""[..]));
    }
}

#[test]
fn an_event_without_data_is_json_without_data() {
    let extensions = [("knativeerrorcode".to_owned(), MessageAttributeValue::Integer(413))];
    for encoder in encoders().filter(|encoder| encoder.packaging.is_structured()) {
        for record in hard_records() {
            let whole = encoder.encode_with(&record, recorded(), &extensions);
            let mut whole: Value = serde_json::from_slice(&whole.body).expect("an object");
            let bare = encoder.encode_without_data(&record, recorded(), &extensions);
            assert_eq!(bare.headers["content-type"], "application/cloudevents+json");
            let members = whole.as_object_mut().expect("an object");
            assert!(members.remove("data").is_some() && members.remove("datacontenttype").is_some());
            assert_eq!(serde_json::from_slice::<Value>(&bare.body).expect("an object"), whole);
            serde_json::from_slice::<cloudevents::Event>(&bare.body).expect("the SDK takes it for an event");
        }
    }
}
