//! What stands where an attribute's value is due and is none, and what is nested too deep.

use serde_json::value::RawValue;

use super::*;

/// No attribute value: no form knows what it means, so all pass it on.
pub(super) const UNKNOWN: [&str; 34] = [
    "null",
    "true",
    "7",
    "1.5e3",
    r#""text""#,
    "[]",
    r#"[{"S":"x"}]"#,
    "{}",
    r#"{ }"#,
    r#"{"X":"unknown type"}"#,
    r#"{"s":"lower case"}"#,
    r#"{"":1}"#,
    r#"{"S":"x","N":"1"}"#,
    r#"{"S":"x","S":"y"}"#,
    r#"{"S":"x","Later":null}"#,
    r#"{"S":7}"#,
    r#"{"S":null}"#,
    r#"{"S":["x"]}"#,
    r#"{"N":5}"#,
    r#"{"B":[1]}"#,
    r#"{"BOOL":"true"}"#,
    r#"{"BOOL":1}"#,
    r#"{"BOOL":null}"#,
    r#"{"NULL":null}"#,
    r#"{"NULL":"true"}"#,
    r#"{"SS":"x"}"#,
    r#"{"SS":["x",7]}"#,
    r#"{"NS":[1]}"#,
    r#"{"BS":{}}"#,
    r#"{"SS":[["x"]]}"#,
    r#"{"L":{}}"#,
    r#"{"M":[]}"#,
    r#"{"M":null}"#,
    r#"{ "L" : "}]," }"#,
];

/// What each form makes of an image, up to the end of the data.
fn images(image: &str) -> [String; 4] {
    let record = record_of(image);
    let words = [r#""NewImage":"#, r#""new":"#, r#""NewImage":"#, r#""newImage":"#];
    std::array::from_fn(|form| {
        let data = data_of(&record, FORMS[form]);
        data.split_once(words[form]).expect("the image is there").1.to_owned()
    })
}

#[test]
fn what_is_no_attribute_value_is_passed_on_as_it_was_sent_and_its_neighbours_are_not_touched() {
    let neighbours = [r#"{"S":"x"}"#, r#""x""#, r#"{"B":null"#, r#"{"s":"x","ss""#];
    for unknown in UNKNOWN {
        let images = images(&format!(r#"{{"a":{unknown},"b":{{"S":"x"}}}}"#));
        for (image, neighbour) in images.iter().zip(neighbours) {
            assert!(image.starts_with(&format!(r#"{{"a":{unknown},"b":{neighbour}"#)), "{unknown}: {image}");
        }
    }
}

#[test]
fn what_is_no_attribute_value_is_passed_on_inside_a_list_and_a_map_too() {
    for unknown in UNKNOWN {
        for nested in [format!(r#"{{"L":[{{"S":"x"}},{unknown}]}}"#), format!(r#"{{"M":{{"a":{unknown}}}}}"#)] {
            for image in &images(&format!(r#"{{"a":{nested}}}"#))[1..] {
                assert!(image.contains(unknown) && !image.contains(&nested), "{nested}: {image}");
            }
        }
    }
}

#[test]
fn a_false_null_is_none_in_plain_json() {
    let data = data_of(&record_of(r#"{"a":{"NULL":false},"b":{"NULL":true}}"#), JSON);
    assert!(data.contains(r#""new":{"a":{"NULL":false},"b":null}"#), "{data}");
}

#[test]
fn binary_that_is_not_base64_is_passed_on_as_it_was_sent() {
    for broken in ["A", "AB", "A===", "%%%%", "AAE", "+/8=\\n", "\\ud800"] {
        let image = format!(r#"{{"a":{{"B":"{broken}"}},"b":{{"BS":["AQI=","{broken}"]}},"c":{{"B":"/w=="}}}}"#);
        let java = data_of(&record_of(&image), INTEGRATION_SOURCE);
        let expected = format!(
            r#""newImage":{{"a":{{"B":"{broken}"}},"b":{{"BS":["AQI=","{broken}"]}},"c":{{"b":{{"bytes":[-1]}},"ss":"#
        );
        assert!(java.contains(&expected), "{java}");
        let plain = data_of(&record_of(&image), JSON);
        assert!(plain.contains(&format!(r#""new":{{"a":"{broken}","b":["AQI=","{broken}"],"c":"/w=="}}"#)), "{plain}");
    }
}

#[test]
fn every_byte_is_signed_in_the_integration_sources_binary() {
    use base64::Engine as _;
    let all: Vec<u8> = (0..=255).collect();
    let base64 = base64::prelude::BASE64_STANDARD.encode(&all);
    let java = data_of(&record_of(&format!(r#"{{"a":{{"B":"{base64}"}}}}"#)), INTEGRATION_SOURCE);
    let signed: Vec<String> = all.iter().map(|byte| (*byte as i8).to_string()).collect();
    assert!(java.contains(&format!(r#"{{"b":{{"bytes":[{}]}},"ss""#, signed.join(","))), "{java}");
}

#[test]
fn of_a_name_sent_twice_readers_find_the_last_value() {
    let record = record_of(r#"{"b":{"S":"0"},"a":{"S":"1"},"\u0061":{"S":"2"},"a":{"S":"3"}}"#);
    for (form, path) in
        [(TRIGGERMESH, "/Dynamodb/NewImage/a/S"), (INTEGRATION_SOURCE, "/dynamodb/newImage/a/s"), (JSON, "/new/a")]
    {
        let data = data_of(&record, form);
        assert_eq!(naive::parsed(&data).pointer(path), Some(&"3".into()), "{data}");
    }
    assert_eq!(data_of(&record, TRIGGERMESH).matches("\"a\":").count(), 1, "Go has a map and writes it once");
}

fn nested(levels: usize) -> String {
    let pair = levels / 2;
    format!(r#"{{"a":{}{{"S":"deep"}}{}}}"#, r#"{"L":[{"M":{"m":"#.repeat(pair), "}}]}".repeat(pair))
}

#[test]
fn as_deep_as_dynamodb_nests_every_value_is_in_its_form() {
    let record = record_of(&nested(32));
    for (form, deep) in [
        (JSON, r#"{"m":"deep"}"#),
        (TRIGGERMESH, r#""S":"deep","SS":null"#),
        (INTEGRATION_SOURCE, r#""s":"deep","ss":[]"#),
    ] {
        let data = data_of(&record, form);
        assert!(data.contains(deep) && !data.contains(r#"{"S":"deep"}"#), "{data}");
        naive::parsed(&data);
    }
}

#[test]
fn what_is_nested_deeper_than_dynamodb_can_is_passed_on_as_it_was_sent_and_crashes_nothing() {
    for levels in [60, 62, 64, 66, 1_000, 20_000] {
        let record = record_of(&nested(levels));
        for form in FORMS {
            let data = data_of(&record, form);
            serde_json::from_str::<&RawValue>(&data).expect("JSON, too deep for some readers");
            let is_passed_on = data.contains(r#"{"S":"deep"}"#);
            assert_eq!(is_passed_on, form == DYNAMODB_JSON || levels >= 64, "{levels} levels, {form:?}");
            assert!(data.contains("deep"));
        }
    }
}
