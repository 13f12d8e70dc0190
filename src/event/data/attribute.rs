//! DynamoDB's attribute values in their JSON form, `{"S":"text"}`, read without copying them.
//!
//! A value is an object of exactly one member, named by one of the ten types, whose content is of that type. Whatever
//! else stands in its place is [`Content::Unknown`]: a form passes it on as AWS sent it, so that nothing is lost.

use super::json_text::{Cursor, Text};

/// How deep values are read; DynamoDB nests them 32 levels deep. What is deeper is passed on as AWS sent it.
///
/// Source: "Quotas in Amazon DynamoDB", Nested attribute depth.
pub(super) const MAX_DEPTH: usize = 64;

/// An attribute's value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'r> {
    /// The value as it was sent.
    pub(super) raw: &'r str,
    /// What it says.
    pub(super) content: Content<'r>,
}

/// What an attribute's value says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'r> {
    /// `S`
    Text(Text<'r>),
    /// `N`
    Number(Text<'r>),
    /// `B`, base64
    Binary(Text<'r>),
    /// `BOOL`
    Flag(bool),
    /// `NULL`, which is always true on AWS
    Null(bool),
    /// `SS`
    TextSet(Texts<'r>),
    /// `NS`
    NumberSet(Texts<'r>),
    /// `BS`
    BinarySet(Texts<'r>),
    /// `L`
    List(List<'r>),
    /// `M`
    Map(Map<'r>),
    /// No attribute value.
    Unknown,
}

/// The texts of a set, in the order of the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'r>(&'r str);

/// The values of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'r>(&'r str);

/// Names and values, in the order of the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map<'r>(&'r str);

impl<'r> Attribute<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        let (mut known, start) = (*cursor, *cursor);
        if let Some(content) = Content::read(&mut known) {
            *cursor = known;
            return Some(Self { raw: start.until(known)?, content });
        }
        Some(Self { raw: cursor.value()?, content: Content::Unknown })
    }
}

impl<'r> Content<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        cursor.take(b'{')?;
        let name = cursor.string()?.decoded();
        cursor.take(b':')?;
        let content = match &*name {
            "S" => Self::Text(cursor.string()?),
            "N" => Self::Number(cursor.string()?),
            "B" => Self::Binary(cursor.string()?),
            "BOOL" => Self::Flag(cursor.flag()?),
            "NULL" => Self::Null(cursor.flag()?),
            "SS" => Self::TextSet(Texts::read(cursor)?),
            "NS" => Self::NumberSet(Texts::read(cursor)?),
            "BS" => Self::BinarySet(Texts::read(cursor)?),
            "L" => Self::List(List(cursor.between('[', ']')?)),
            "M" => Self::Map(Map(cursor.between('{', '}')?)),
            _ => return None,
        };
        cursor.take(b'}')?;
        Some(content)
    }
}

impl<'r> Texts<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        let content = cursor.between('[', ']')?;
        let mut texts = Cursor::new(content);
        while !texts.is_at_end() {
            texts.string()?;
        }
        Some(Self(content))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Text<'r>> {
        parts(self.0, Cursor::string)
    }
}

impl<'r> List<'r> {
    pub(super) fn iter(self) -> impl Iterator<Item = Attribute<'r>> {
        parts(self.0, Attribute::read)
    }
}

impl<'r> Map<'r> {
    /// The attributes of an item or a key. `json` is an object.
    pub(super) fn of_item(json: &'r str) -> Self {
        Self(Cursor::new(json).between('{', '}').unwrap_or_default())
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (Text<'r>, Attribute<'r>)> {
        parts(self.0, |cursor| {
            let name = cursor.string()?;
            cursor.take(b':')?;
            Some((name, Attribute::read(cursor)?))
        })
    }
}

/// The parts of a list or an object, which stand between commas.
fn parts<'r, T>(json: &'r str, read: impl Fn(&mut Cursor<'r>) -> Option<T>) -> impl Iterator<Item = T> {
    let mut cursor = Cursor::new(json);
    std::iter::from_fn(move || if cursor.is_at_end() { None } else { read(&mut cursor) })
}
