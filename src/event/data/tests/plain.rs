//! Plain JSON, as people read it.

use super::*;

fn item(image: &str) -> String {
    let data = data_of(&record_of(image), JSON);
    let (_, item) = data.split_once(r#""new":"#).expect("the image is there");
    item.strip_suffix('}').expect("the object ends").to_owned()
}

#[test]
fn every_type_has_its_plain_form_and_keeps_its_place() {
    assert_eq!(
        data_of(&hard_records()[0], JSON),
        concat!(
            r#"{"operation":"INSERT","keys":{"line":7,"orderId":"order-1001"},"new":{"line":7,"orderId":"order-1001","#,
            r#""string":"plain","emptyString":"","number":-12.5,"binary":"AAECf4D9/v8+Pj4/Pz8=","emptyBinary":"","#,
            r#""true":true,"false":false,"null":null,"stringSet":["b","a",""],"numberSet":[3,-1,2.5],"#,
            r#""binarySet":["AQI=","/w==",""],"emptyList":[],"emptyMap":{},"#,
            r#""list":["x",3.14,null,false,"+/8=",[],{}],"#,
            r#""map":{"level1":{"level2":[{"level3":{"deep":["p","q"],"flag":true,"none":null,"bytes":"3q2+7w=="}},"#,
            r#"[[1]]]}}}}"#
        )
    );
}

#[test]
fn a_number_keeps_every_digit() {
    let data = data_of(&hard_records()[1], JSON);
    for number in [
        r#""n38":12345678901234567890123456789012345678,"#,
        r#""n38frac":-1.2345678901234567890123456789012345678,"#,
        r#""tiny":1E-130,"minusTiny":-1E-130,"huge":9.9999999999999999999999999999999999999E+125,"#,
        r#""beyondDouble":9007199254740993,"zero":0,"many":[1E-130,12345678901234567890123456789012345678,0],"#,
    ] {
        assert!(data.contains(number), "{data}");
    }
}

#[test]
fn an_absent_image_is_absent() {
    let records = hard_records();
    let members = |index: usize| {
        let data = naive::parsed(&data_of(&records[index], JSON));
        data.as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(members(1), "keys new old operation");
    assert_eq!(members(2), "keys old operation");
    assert_eq!(members(3), "keys new operation");
    assert_eq!(data_of(&records[8], JSON), r#"{"operation":"REMOVE","keys":{"n":1E-130}}"#);
}

#[test]
fn names_that_look_like_types_are_names() {
    let data = data_of(&hard_records()[7], JSON);
    let item = concat!(
        r#""S":"S","N":1,"B":"Qg==","BOOL":true,"NULL":null,"SS":["SS"],"NS":[1],"BS":["Qg=="],"L":["L"],"#,
        r#""M":{"M":{"S":"deep","N":"not a number","M":{}},"L":[{"S":null}]}"#
    );
    assert!(data.contains(item), "{data}");
}

#[test]
fn a_number_that_json_cannot_write_stays_a_text() {
    assert_eq!(
        item(r#"{"a":{"N":"NaN"},"b":{"N":""},"c":{"NS":["+1","Infinity",".5"]},"d":{"N":"\u0037"}}"#),
        r#"{"a":"NaN","b":"","c":[1,"Infinity",0.5],"d":7}"#
    );
}

#[test]
fn white_space_of_the_wire_does_not_matter() {
    assert_eq!(
        item(concat!(
            "{ \"a\" : { \"L\" : [ { \"N\" : \"1\" } , {\"S\":\" x \"} ,\n{\"SS\":[ \"p\" ,\t\"q\" ]}, {\"L\":[ ]},",
            "{\"M\":{ }} ] } , \"b\":\r{\"BOOL\": false } }"
        )),
        r#"{"a":[1," x ",["p","q"],[],{}],"b":false}"#
    );
}
