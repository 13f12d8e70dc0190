//! Generated records: every form against the same form written the simple way.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::records::tests::generator::{self, Choices, Json};

fn assert_as_simple(record: &Record) {
    let plain = data_of(record, JSON);
    assert_eq!(naive::with_digits(&plain), naive::json(record), "{plain}");
    let go = data_of(record, TRIGGERMESH);
    assert_eq!(naive::parsed(&go), naive::triggermesh(record), "{go}");
    let java = data_of(record, INTEGRATION_SOURCE);
    assert_eq!(naive::parsed(&java), naive::integration_source(record), "{java}");
}

/// Any JSON where an attribute's value is due, often one that is nearly right.
fn anything() -> impl Strategy<Value = Json> {
    let name = || prop_oneof![4 => "S|N|B|BOOL|NULL|SS|NS|BS|L|M", 1 => "[a-zA-Z]{0,3}"].boxed();
    let leaf = prop_oneof![
        "null|true|false|-?[1-9][0-9]{0,3}".prop_map(Json::Bare),
        "[a-z0-9=\"\\\\\u{e9}\u{1f600}\u{2028}<]{0,5}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(6, 32, 4, move |inner| {
        let several = btree_map(name(), inner.clone(), 0..3);
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Json::List),
            4 => (name(), inner).prop_map(|member| Json::Object(vec![member])),
            1 => several.prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_form_of_every_record_is_as_the_simple_way_makes_it(json in generator::record(), choices: Choices) {
        let record = record(&json.write(choices));
        assert_as_simple(&record);
        assert_eq!(data_of(&record, TRIGGERMESH), naive::written_by_go(&naive::triggermesh(&record)));
    }

    #[test]
    fn what_is_no_attribute_value_is_passed_on_as_it_was_sent(
        values in vec(anything(), 1..4), choices: Choices,
    ) {
        let image = values.into_iter().enumerate().map(|(index, value)| (format!("a{index}"), value));
        assert_as_simple(&record_of(&Json::Object(image.collect()).write(choices)));
    }

    #[test]
    fn every_decimal_text_becomes_a_json_number_of_its_value(
        text in "[+-]?[0-9]{0,4}(\\.[0-9]{0,4})?([eE][+-]?[0-9]{0,2})?",
    ) {
        let data = data_of(&record_of(&format!(r#"{{"n":{{"N":"{text}"}}}}"#)), JSON);
        let item = data.split_once(r#""new":{"n":"#).expect("the number is there").1;
        let written = item.strip_suffix("}}").expect("and the last");
        match text.parse::<f64>() {
            Ok(value) => {
                let is_json = serde_json::from_str::<&RawValue>(written).is_ok();
                prop_assert!(is_json && !written.starts_with('"'), "{written}");
                prop_assert_eq!(written.parse::<f64>(), Ok(value));
            }
            Err(_) => prop_assert_eq!(written, format!("\"{text}\"")),
        }
    }
}
