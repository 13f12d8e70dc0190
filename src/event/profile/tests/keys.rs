//! Different keys have different texts, equal keys equal ones, and both obey the limits of an attribute.

use proptest::prelude::*;

use crate::event::profile::*;

/// A record with such a key; the partition key is `p`, the sort key `s`.
fn record(attributes: &[(&str, KeyType, &str)]) -> Record {
    let keys: Vec<String> = attributes
        .iter()
        .map(|(name, kind, value)| {
            let kind = prefix(*kind).trim_end_matches(':');
            format!("\"{name}\":{{\"{kind}\":{}}}", serde_json::to_string(value).expect("JSON"))
        })
        .collect();
    let body = format!(
        r#"{{"Records":[{{"eventID":"e","eventName":"INSERT","dynamodb":{{"Keys":{{{}}},"SequenceNumber":"1"}}}}]}}"#,
        keys.join(",")
    );
    let page = crate::records::Page::parse(body.into()).expect("a page");
    page.records.into_iter().next().expect("one record").expect("it can be decoded")
}

fn texts(record: &Record, schema_length: usize) -> KeyTexts {
    KeyTexts::of(&record.item_key(&["p", "s"][..schema_length]))
}

fn texts_of(values: &[(KeyType, &str)]) -> KeyTexts {
    let attributes: Vec<_> =
        ["p", "s"].iter().zip(values).map(|(name, (kind, value))| (*name, *kind, *value)).collect();
    texts(&record(&attributes), values.len())
}

fn strings(values: &[&str]) -> KeyTexts {
    texts_of(&values.iter().map(|value| (KeyType::String, *value)).collect::<Vec<_>>())
}

#[test]
fn a_plain_key_is_its_own_subject() {
    for key in ["order-1001", "USER#1", "a/b~c", "eu-west-1:x", "注文 1"] {
        assert_eq!(strings(&[key]).subject, key);
    }
    assert_eq!(texts_of(&[(KeyType::Number, "7")]), KeyTexts { subject: "7".into(), partition_key: "N:7".into() });
    assert_eq!(texts_of(&[(KeyType::Binary, "AB+/")]).partition_key, "B:AB+~1");
}

/// The table in `docs/cloudevents.md`, section "Keys".
#[test]
fn the_manuals_examples_hold() {
    use KeyType::{Binary, Number, String};
    let examples = [
        (vec![(String, "order-1001")], "order-1001", "S:order-1001"),
        (vec![(String, "eu/west")], "eu/west", "S:eu~1west"),
        (vec![(String, "order-1001"), (Number, "7")], "order-1001/7", "S:order-1001/N:7"),
        (vec![(String, "eu/west"), (String, "a~b")], "eu~1west/a~0b", "S:eu~1west/S:a~0b"),
        (vec![(Binary, "ABCD+/+/")], "ABCD+/+/", "B:ABCD+~1+~1"),
        (vec![(String, "order 1")], "order 1", "~9f2ade47576a8d5f18746905c81740ae"),
    ];
    for (key, subject, partition_key) in examples {
        assert_eq!(texts_of(&key), KeyTexts { subject: subject.to_owned(), partition_key: partition_key.to_owned() });
    }
}

#[test]
fn values_of_a_key_with_two_are_told_apart() {
    assert_eq!(strings(&["a", "b/c"]).subject, "a/b~1c");
    assert_eq!(strings(&["a/b", "c"]).subject, "a~1b/c");
    assert_eq!(strings(&["a~1b", "c"]).subject, "a~01b/c");
    assert_eq!(strings(&["a", "b/c"]).partition_key, "S:a/S:b~1c");
}

#[test]
fn the_same_value_of_another_type_has_another_partition_key() {
    let keys =
        [KeyType::String, KeyType::Number, KeyType::Binary].map(|kind| texts_of(&[(kind, "1234")]).partition_key);
    assert_eq!(keys, ["S:1234", "N:1234", "B:1234"]);
}

#[test]
fn the_order_of_the_wire_does_not_matter() {
    let (p, s) = (("p", KeyType::String, "a"), ("s", KeyType::Number, "1"));
    assert_eq!(texts(&record(&[p, s]), 2), texts(&record(&[s, p]), 2));
}

#[test]
fn a_long_subject_is_cut_between_characters_and_completed_by_a_hash() {
    let fits = "é".repeat(85) + "xx";
    assert_eq!(strings(&[&fits]).subject, fits, "85 times 6, and 2: just 512");
    let long = "é".repeat(86);
    let subject = strings(&[&long]).subject;
    assert_eq!(
        subject,
        format!("{}~{}", "é".repeat(79), hash_text(&format!("S:{long}"))),
        "79 times 6 leave room for 33"
    );
    assert!(wire_len(&subject) <= 512);
}

#[test]
fn what_cloudevents_forbids_in_a_text_is_left_to_the_hash() {
    for key in ["line\nfeed", "line\u{85}feed", "line\u{fdd0}feed", "line\u{1fffe}feed"] {
        assert_eq!(strings(&[key]).subject, format!("line~{}", hash_text(&format!("S:{key}"))));
    }
}

#[test]
fn a_key_named_like_anothers_subject_does_not_share_it() {
    let long = "x".repeat(600);
    let first = strings(&[&long]).subject;
    let second = strings(&[&first]).subject;
    assert_ne!(first, second);
    assert_ne!(strings(&[&second]).subject, second);
}

#[test]
fn the_hash_is_the_one_that_the_manual_promises() {
    assert_eq!(
        hash_text("S:order 1"),
        "9f2ade47576a8d5f18746905c81740ae",
        "printf 'S:order 1' | sha256sum | cut -c1-32"
    );
}

/// Texts that are nearly equal: made of separators, escapes and little else, now and then very long.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "/", "~", "0", "1", ":", "S:", "~0", "~1", " ", "%", "%2F", "\n", "é", "\\",
    ]);
    let short = prop::collection::vec(piece.clone(), 1..6);
    let long = (prop::collection::vec(piece, 1..4), 100_usize..300)
        .prop_map(|(pieces, times)| pieces.iter().cycle().take(times).copied().collect());
    prop_oneof![4 => short, 1 => long].prop_map(|pieces: Vec<&str>| pieces.concat())
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![any::<i32>().prop_map(|n| n.to_string()), "-?[1-9](\\.[1-9]{1,3})?E[1-9]{1,2}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn different_single_keys_have_different_texts(one in tricky(), other in tricky()) {
        prop_assume!(one != other);
        let (one, other) = (strings(&[&one]), strings(&[&other]));
        prop_assert_ne!(one.subject, other.subject);
        prop_assert_ne!(one.partition_key, other.partition_key);
    }

    #[test]
    fn different_double_keys_have_different_texts(one in (tricky(), tricky()), other in (tricky(), tricky())) {
        prop_assume!(one != other);
        let (one, other) = (strings(&[&one.0, &one.1]), strings(&[&other.0, &other.1]));
        prop_assert_ne!(one.subject, other.subject);
        prop_assert_ne!(one.partition_key, other.partition_key);
    }

    #[test]
    fn moving_a_boundary_changes_the_texts(text in tricky(), first in 0_usize..20, second in 0_usize..20) {
        let cut = |at: usize| (0..=at % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).expect("0 is one");
        let (first, second) = (cut(first), cut(second));
        prop_assume!(first != second);
        let one = strings(&[&text[..first], &text[first..]]);
        let other = strings(&[&text[..second], &text[second..]]);
        prop_assert_ne!(one.subject, other.subject);
        prop_assert_ne!(one.partition_key, other.partition_key);
    }

    #[test]
    fn different_sort_numbers_have_different_texts(p in tricky(), one in number(), other in number()) {
        prop_assume!(one != other);
        let texts = |n: &str| texts_of(&[(KeyType::String, &p), (KeyType::Number, n)]);
        let (one, other) = (texts(&one), texts(&other));
        prop_assert_ne!(one.subject, other.subject);
        prop_assert_ne!(one.partition_key, other.partition_key);
    }

    #[test]
    fn both_texts_obey_the_limits(p in any::<String>(), s in tricky()) {
        for texts in [strings(&[&p]), strings(&[&p, &s])] {
            prop_assert!(wire_len(&texts.subject) <= MAX_SUBJECT);
            prop_assert!(!texts.subject.is_empty());
            prop_assert!(!texts.subject.chars().any(is_forbidden_in_attributes));
            prop_assert!(texts.partition_key.len() <= MAX_PARTITION_KEY);
            prop_assert_eq!(wire_len(&texts.partition_key), texts.partition_key.len());
        }
    }
}
