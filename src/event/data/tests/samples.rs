//! The nine hard records, byte for byte.

use super::*;

fn assert_every_body(form: (EventProfile, EventData), file: &'static str) {
    let (records, bodies) = (hard_records(), bodies(file));
    assert_eq!((records.len(), bodies.len()), (9, 9));
    for (index, (record, body)) in records.iter().zip(bodies).enumerate() {
        assert_eq!(data_of(record, form), body, "record {index}");
    }
}

#[test]
fn triggermesh_users_get_the_bytes_that_they_got() {
    assert_every_body(TRIGGERMESH, include_str!("../../../../tests/data/triggermesh-record.json"));
}

#[test]
fn integration_source_users_get_the_bytes_that_they_got() {
    assert_every_body(INTEGRATION_SOURCE, include_str!("../../../../tests/data/integration-source-record.json"));
}
