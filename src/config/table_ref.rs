//! A table as the user names it: by its name, its ARN, or a stream's ARN.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Source: `CreateTable` in the DynamoDB developer guide, "Naming rules".
const NAME_LENGTHS: RangeInclusive<usize> = 3..=255;

/// A table as the user named it.
///
/// Whatever follows `/stream/` is opaque: emulators write something else than a date there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRef {
    text: String,
    table: String,
    arn: Option<Arn>,
}

/// What an ARN adds to a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Arn {
    region: String,
    table_arn: String,
    is_stream: bool,
}

/// The text names no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTableRef {
    /// It is neither a name nor an ARN.
    #[error("not a table name: 3 to 255 of the characters a-z A-Z 0-9 _ . -")]
    Name,
    /// It begins like an ARN.
    #[error("not the ARN of a table or a stream: arn:aws:dynamodb:<region>:<account>:table/<name>[/stream/<label>]")]
    Arn,
}

impl TableRef {
    /// Exactly what the user wrote.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The table's name.
    pub fn table_name(&self) -> &str {
        &self.table
    }

    /// The region, where an ARN says it; emulators have names of their own here.
    pub fn region(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.region.as_str())
    }

    /// The table's ARN, from its own or from a stream's.
    pub fn table_arn(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.table_arn.as_str())
    }

    /// What it may be called, from the shortest on.
    pub(super) fn labels(&self) -> Vec<String> {
        let Some(Arn { region, table_arn, .. }) = &self.arn else { return vec![self.table.clone()] };
        let account = table_arn.split(':').nth(4).unwrap_or_default();
        let long = format!("{region}/{account}/{}", self.table);
        let stream = self.text.split_once("/stream/").map(|(_, stream)| format!("{long}/{stream}"));
        [Some(self.table.clone()), Some(long), stream].into_iter().flatten().collect()
    }

    /// Whether both name the same. Two streams of one table are two things to read; a table includes its streams.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let are_streams = self.stream_arn().is_some() && other.stream_arn().is_some();
        match are_streams || self.arn.is_none() {
            true => self.text == other.text,
            false => self.table_arn() == other.table_arn(),
        }
    }

    /// The stream's ARN: only this stream is meant, even when the table gets another.
    pub fn stream_arn(&self) -> Option<&str> {
        self.arn.as_ref().filter(|arn| arn.is_stream).map(|_| self.as_str())
    }
}

impl FromStr for TableRef {
    type Err = InvalidTableRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("arn:") {
            return from_arn(text).ok_or(InvalidTableRef::Arn);
        }
        match is_table_name(text) {
            true => Ok(Self { text: text.to_owned(), table: text.to_owned(), arn: None }),
            false => Err(InvalidTableRef::Name),
        }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn from_arn(text: &str) -> Option<TableRef> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", partition, "dynamodb", region, account, resource] = parts.as_slice() else {
        return None;
    };
    let is_partition = partition == "aws" || partition.strip_prefix("aws-").is_some_and(is_word);
    let path = resource.strip_prefix("table/")?;
    let (table, label) = match path.split_once("/stream/") {
        Some((table, label)) => (table, Some(label)),
        None => (path, None),
    };
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !is_partition || !is_word(region) || !is_word(account) || !is_table_name(table) || !label.is_none_or(is_label) {
        return None;
    }
    let table_arn = format!("arn:{partition}:dynamodb:{region}:{account}:table/{table}");
    let arn = Arn { region: region.to_owned(), table_arn, is_stream: label.is_some() };
    Some(TableRef { text: text.to_owned(), table: table.to_owned(), arn: Some(arn) })
}

fn is_table_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    NAME_LENGTHS.contains(&text.len()) && text.bytes().all(is_allowed)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
