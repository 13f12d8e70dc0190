//! Texts that JSON libraries write in different ways.

use super::*;

/// What each form makes of a text in the wire's JSON, given without its quotes.
fn texts(sent: &str) -> [String; 4] {
    let record = record_of(&format!(r#"{{"t":{{"S":"{sent}"}}}}"#));
    let between = |form, before: &str, after: &str| {
        let data = data_of(&record, form);
        let (_, text) = data.split_once(before).expect("the text is there");
        text.split_once(after).expect("it ends").0.to_owned()
    };
    let wire = between(DYNAMODB_JSON, r#""NewImage":{"t":{"S":""#, "\"}}");
    let plain = between(JSON, r#""new":{"t":""#, "\"}}");
    let go = between(
        TRIGGERMESH,
        r#""NewImage":{"t":{"B":null,"BOOL":null,"BS":null,"L":null,"M":null,"N":null,"NS":null,"NULL":null,"S":""#,
        r#"","SS":null}}"#,
    );
    let gson = between(INTEGRATION_SOURCE, r#""newImage":{"t":{"s":""#, r#"","ss":[]"#);
    [wire, plain, go, gson]
}

#[track_caller]
fn assert_texts(sent: &str, go: &str, gson: &str) {
    assert_eq!(texts(sent), [sent, sent, go, gson], "{sent}");
}

#[test]
fn every_control_character_is_escaped_as_the_original_does() {
    for code in 0..0x20_u8 {
        let unicode = format!("\\u{code:04x}");
        let (go, gson) = match code {
            0x08 => (unicode.as_str(), r"\b"),
            0x09 => (r"\t", r"\t"),
            0x0a => (r"\n", r"\n"),
            0x0c => (unicode.as_str(), r"\f"),
            0x0d => (r"\r", r"\r"),
            _ => (unicode.as_str(), unicode.as_str()),
        };
        assert_texts(&unicode, go, gson);
        assert_texts(&unicode.to_uppercase().replace("\\U", "\\u"), go, gson);
    }
    for short in [r"\t", r"\n", r"\r"] {
        assert_texts(short, short, short);
    }
    assert_texts(r"\b", r"\u0008", r"\b");
    assert_texts(r"\f", r"\u000c", r"\f");
}

#[test]
fn every_other_character_of_ascii_is_escaped_as_the_original_does() {
    for code in 0x20..0x80_u8 {
        let letter = char::from(code).to_string();
        let (go, gson) = match letter.as_str() {
            "<" => (r"\u003c", r"\u003c"),
            ">" => (r"\u003e", r"\u003e"),
            "&" => (r"\u0026", r"\u0026"),
            "=" => ("=", r"\u003d"),
            "'" => ("'", r"\u0027"),
            "\"" => (r#"\""#, r#"\""#),
            "\\" => (r"\\", r"\\"),
            other => (other, other),
        };
        assert_texts(&format!("\\u{code:04X}"), go, gson);
        if !matches!(code, b'"' | b'\\') {
            assert_texts(&letter, go, gson);
        }
    }
    assert_texts(r#"\"\\\/"#, r#"\"\\/"#, r#"\"\\/"#);
    assert_texts(r"\\u0041\\n", r"\\u0041\\n", r"\\u0041\\n");
}

#[test]
fn line_separators_are_escaped_and_their_neighbours_are_not() {
    for separator in ["\u{2028}", "\u{2029}"] {
        let escape = format!("\\u{:04x}", u32::from(separator.chars().next().expect("one")));
        for sent in [separator, &escape] {
            assert_texts(&format!("a{sent}b{sent}"), &format!("a{escape}b{escape}"), &format!("a{escape}b{escape}"));
        }
    }
    for other in ["\u{2027}", "\u{202a}", "\u{20a8}", "\u{80}", "é", "\u{feff}", "\u{ffff}", "😀", "\u{10ffff}"] {
        assert_texts(other, other, other);
    }
}

#[test]
fn a_pair_of_surrogates_is_one_character() {
    assert_texts(r"\ud83d\ude00", "😀", "😀");
    assert_texts(r"x\uD83D\uDE00y", "x😀y", "x😀y");
    assert_texts(r"\udbff\udfff", "\u{10ffff}", "\u{10ffff}");
}

#[test]
fn half_a_pair_of_surrogates_stands_for_no_character() {
    let replacement = "\u{fffd}";
    for half in [r"\ud800", r"\udc00", r"\udfff"] {
        assert_texts(half, replacement, replacement);
        assert_texts(&format!("a{half}b"), "a\u{fffd}b", "a\u{fffd}b");
        assert_texts(&format!("{half}\\n"), "\u{fffd}\\n", "\u{fffd}\\n");
    }
    assert_texts(r"\ude00\ud83d", "\u{fffd}\u{fffd}", "\u{fffd}\u{fffd}");
    assert_texts(r"\ud83d\ud83d\ude00", "\u{fffd}😀", "\u{fffd}😀");
    assert_texts(r"\ud83d\u0041", "\u{fffd}A", "\u{fffd}A");
}

#[test]
fn a_name_is_escaped_like_a_text() {
    let record = record_of(r#"{"\ud83d\ude00 <\u0027=\b\ud800":{"BOOL":true}}"#);
    let begins = |form, name: &str| {
        let data = data_of(&record, form);
        assert!(data.contains(name), "{data}");
    };
    begins(JSON, r#""new":{"\ud83d\ude00 <\u0027=\b\ud800":true}"#);
    begins(TRIGGERMESH, "\"NewImage\":{\"😀 \\u003c'=\\u0008\u{fffd}\":{");
    begins(INTEGRATION_SOURCE, "\"newImage\":{\"😀 \\u003c\\u0027\\u003d\\b\u{fffd}\":{");
}

#[test]
fn the_records_own_members_are_escaped_like_a_text() {
    let record = record(
        r#"{"eventID":"\"<\\\b='\u2028","eventName":"INSERT","dynamodb":{"Keys":{"k":{"S":"a"}},"SequenceNumber":"300000000000000499659"}}"#,
    );
    let go = data_of(&record, TRIGGERMESH);
    assert!(go.contains(r#""EventID":"\"\u003c\\\u0008='\u2028","EventName""#), "{go}");
    let gson = data_of(&record, INTEGRATION_SOURCE);
    assert!(gson.starts_with(r#"{"eventID":"\"\u003c\\\b\u003d\u0027\u2028","#), "{gson}");
}

#[test]
fn half_a_pair_of_surrogates_in_a_key_or_an_id_makes_a_record_undecodable() {
    let good = r#"{"eventID":"e","eventName":"INSERT","dynamodb":{"Keys":{"k":{"S":"a"}},"SequenceNumber":"300000000000000499659"}}"#;
    for (part, broken) in [(r#""S":"a""#, r#""S":"\ud800""#), (r#""k""#, r#""\udc00""#), (r#""e""#, r#""\ud800""#)] {
        let page = Page::parse(format!("{{\"Records\":[{}]}}", good.replace(part, broken)).into()).expect("a page");
        assert!(page.records[0].is_err(), "{broken}: it becomes a gap event, no event that names another item");
    }
}
