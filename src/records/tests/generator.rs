//! Generated pages, written in every way that JSON allows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// JSON as it will be written: numbers by their text, members in their order.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    Text(String),
    /// A number, `true`, `false`, `null`, or base64 in quotes: the SDK does not undo escapes in that.
    Bare(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Decides white space and escapes, place by place: the bits of a number, over and over.
pub(crate) type Choices = u64;

struct Writer {
    out: String,
    choices: Choices,
}

impl Json {
    pub(crate) fn write(&self, choices: Choices) -> String {
        let mut writer = Writer { out: String::new(), choices };
        writer.json(self);
        writer.out
    }
}

impl Writer {
    fn choose(&mut self, one_in: u64) -> bool {
        self.choices = self.choices.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.choices >> 33).is_multiple_of(one_in)
    }

    fn space(&mut self) {
        for space in [" ", "\n", "\t", "\r"] {
            if self.choose(12) {
                self.out.push_str(space);
            }
        }
    }

    fn json(&mut self, json: &Json) {
        self.space();
        match json {
            Json::Text(text) => self.text(text),
            Json::Bare(bare) => self.out.push_str(bare),
            Json::List(list) => self.sequence('[', list, ']', |writer, item| writer.json(item)),
            Json::Object(members) => self.sequence('{', members, '}', |writer, (name, value)| {
                writer.space();
                writer.text(name);
                writer.space();
                writer.out.push(':');
                writer.json(value);
            }),
        }
        self.space();
    }

    fn sequence<T>(&mut self, open: char, items: &[T], close: char, mut each: impl FnMut(&mut Self, &T)) {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            each(self, item);
        }
        self.space();
        self.out.push(close);
    }

    fn text(&mut self, text: &str) {
        let escape_all = self.choose(40);
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' | '\\' => self.out.extend(['\\', letter]),
                '/' if self.choose(2) => self.out.push_str("\\/"),
                '\n' if self.choose(2) => self.out.push_str("\\n"),
                letter if letter < ' ' || escape_all => self.unicode(letter),
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn unicode(&mut self, letter: char) {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            self.out.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

fn bare(text: impl Into<String>) -> Json {
    Json::Bare(text.into())
}

fn tagged(kind: &str, value: Json) -> Json {
    Json::Object(vec![(kind.into(), value)])
}

/// A name or value: mostly like a real one, at times any text, at times one that looks like JSON or a member's name.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-zA-Z0-9_#:.-]{0,12}", 2 => any::<String>(), 1 => "[{}\\[\\]\",: \\\\]{1,6}", 1 => "Keys|NewImage|S|N|eventID"]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof!["-?(0|[1-9][0-9]{0,37})", "-?[0-9]\\.[0-9]{1,37}", "-?[1-9]E-?1[0-2][0-9]"]
}

fn base64() -> impl Strategy<Value = Json> {
    vec(any::<u8>(), 0..12).prop_map(|bytes| bare(format!("\"{}\"", BASE64.encode(bytes))))
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        any_text().prop_map(|value| tagged("S", text(value))),
        number().prop_map(|value| tagged("N", text(value))),
        base64().prop_map(|value| tagged("B", value)),
    ]
}

fn set(kind: &'static str, values: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    vec(values, 0..4).prop_map(move |values| tagged(kind, Json::List(values)))
}

fn attribute() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        6 => scalar(),
        1 => any::<bool>().prop_map(|flag| tagged("BOOL", bare(flag.to_string()))),
        1 => Just(tagged("NULL", bare("true"))),
        1 => set("SS", any_text().prop_map(text)),
        1 => set("NS", number().prop_map(text)),
        1 => set("BS", base64()),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|list| tagged("L", Json::List(list))),
            btree_map(any_text(), inner, 0..4).prop_map(|map| tagged("M", Json::Object(map.into_iter().collect()))),
        ]
    })
}

fn image() -> impl Strategy<Value = Json> {
    btree_map(any_text(), attribute(), 0..6).prop_map(|map| Json::Object(map.into_iter().collect()))
}

fn keys() -> impl Strategy<Value = Json> {
    btree_map(any_text(), scalar(), 1..=2).prop_map(|map| Json::Object(map.into_iter().collect()))
}

/// Epoch seconds in each of the forms that a number may have.
fn moment() -> impl Strategy<Value = Json> {
    (0..4_000_000_000_u64, 0..1000_u32, 0..4_u8).prop_map(|(seconds, millis, form)| {
        bare(match form {
            0 => format!("{seconds}"),
            1 => format!("{seconds}.{millis:03}"),
            2 => format!("{}.{:09}E9", seconds / 1_000_000_000, seconds % 1_000_000_000),
            _ => format!("{seconds}.0"),
        })
    })
}

/// A member that may be absent, or null, which means the same.
fn maybe(value: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Option<Json>> {
    option::weighted(0.85, prop_oneof![9 => value, 1 => Just(bare("null"))]).boxed()
}

fn always(value: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Option<Json>> {
    value.prop_map(Some).boxed()
}

/// An object of these members, in any order, unknown ones between them.
fn object(members: Vec<(&'static str, BoxedStrategy<Option<Json>>)>) -> impl Strategy<Value = Json> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    (values, option::weighted(0.2, attribute())).prop_flat_map(move |(values, unknown)| {
        let named = names.iter().zip(values).filter_map(|(name, value)| Some((name.to_string(), value?)));
        let unknown = unknown.map(|value| ("AddedLater".to_owned(), value));
        Just(named.chain(unknown).collect::<Vec<_>>()).prop_shuffle().prop_map(Json::Object)
    })
}

fn identity() -> impl Strategy<Value = Json> {
    let member = || prop_oneof!["Service", "dynamodb\\.amazonaws\\.com", ""].prop_map(text);
    object(vec![("PrincipalId", maybe(member())), ("Type", maybe(member()))])
}

fn change() -> impl Strategy<Value = Json> {
    object(vec![
        ("ApproximateCreationDateTime", maybe(moment())),
        ("Keys", always(keys())),
        ("NewImage", maybe(image())),
        ("OldImage", maybe(image())),
        ("SequenceNumber", always("[0-9]{1,79}".prop_map(text))),
        ("SizeBytes", maybe((0..i64::MAX).prop_map(|size| bare(size.to_string())))),
        ("StreamViewType", maybe("KEYS_ONLY|NEW_IMAGE|OLD_IMAGE|NEW_AND_OLD_IMAGES".prop_map(text))),
    ])
}

/// One record that can be decoded.
pub(crate) fn record() -> impl Strategy<Value = Json> {
    object(vec![
        ("awsRegion", maybe("eu-west-1|ddblocal|".prop_map(text))),
        ("dynamodb", always(change())),
        ("eventID", always("[0-9a-f]{32}|[a-z/\"\\\\]{1,5}".prop_map(text))),
        ("eventName", always("INSERT|MODIFY|REMOVE".prop_map(text))),
        ("eventSource", maybe("aws:dynamodb".prop_map(text))),
        ("eventVersion", maybe("1\\.[01]".prop_map(text))),
        ("userIdentity", maybe(identity())),
    ])
}

/// A page of records that can be decoded.
pub(super) fn page() -> impl Strategy<Value = Json> {
    page_with(record())
}

fn page_with(record: impl Strategy<Value = Json> + 'static) -> impl Strategy<Value = Json> {
    object(vec![
        ("NextShardIterator", maybe("(arn:[ -~]{1,40})?".prop_map(text))),
        ("Records", maybe(vec(record, 0..5).prop_map(Json::List))),
    ])
}

/// A page of records of which any member may be absent, null or empty.
pub(super) fn loose_page() -> impl Strategy<Value = Json> {
    let change = object(vec![
        ("Keys", maybe(prop_oneof![3 => keys().boxed(), 1 => Just(Json::Object(Vec::new())).boxed()])),
        ("NewImage", maybe(image())),
        ("SequenceNumber", maybe("[0-9]{0,79}".prop_map(text))),
        ("StreamViewType", maybe("(KEYS_ONLY)?".prop_map(text))),
    ]);
    page_with(object(vec![
        ("awsRegion", maybe("(eu-west-1)?".prop_map(text))),
        ("dynamodb", maybe(prop_oneof![9 => change.boxed(), 1 => Just(Json::Object(Vec::new())).boxed()])),
        ("eventID", maybe("[0-9a-f]{0,3}".prop_map(text))),
        ("eventName", maybe("(INSERT)?".prop_map(text))),
        ("userIdentity", maybe(prop_oneof![1 => identity().boxed(), 1 => Just(Json::Object(Vec::new())).boxed()])),
    ]))
}

/// A page of these records.
pub(super) fn page_of(records: impl Iterator<Item = Json>) -> Json {
    Json::Object(vec![("Records".into(), Json::List(records.collect()))])
}

/// The record with something wrong that makes it undecodable.
pub(super) fn spoilt(record: Json, choices: Choices) -> Json {
    let Json::Object(mut members) = record else {
        return record;
    };
    match choices % 5 {
        0 => return bare("7"),
        1 => return Json::Object(Vec::new()),
        2 => members.retain(|(name, _)| name != "eventID"),
        3 => members.iter_mut().filter(|(name, _)| name == "dynamodb").for_each(|(_, value)| *value = text("none")),
        _ => members.iter_mut().filter(|(name, _)| name == "eventName").for_each(|(_, value)| *value = text("READ")),
    }
    Json::Object(members)
}
