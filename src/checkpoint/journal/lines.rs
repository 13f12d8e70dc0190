//! The file's format, version 2: a header, and a line for each entry that changed. Pure.
//!
//! ```text
//! {"format":"dynamodb-streams-adapter/checkpoint","version":2,"whole":481}
//! 0a1b2c3d 175 + {"stream":[1,{"group":"default","table":"Orders","arn":"arn:aws:…","place":0,"start":"start","done":false}]}
//! 1b2c3d4e 128 2 {"shard":[1,"shardId-0001",{"safe":"after 300000000000000499659","verified_at":"2026-01-02T04:00:00Z"}]}
//! ```
//!
//! A line has its checksum (the first 32 bits of SHA-256 of mark and JSON), the length of its JSON, a mark, and the JSON. The mark is
//! `+` if the save that wrote the line goes on; a save's last line has the number of its lines. `whole` is how many bytes behind the
//! header were there when the file was put in its place.
//!
//! | line | meaning |
//! |---|---|
//! | `stream` | a stream by its number in this file, its place among its table's streams, and what is stored of it besides its shards |
//! | `shard` | a shard of that stream; a parent that is absent is as before |
//! | `heads` | the same, with the heads that changed only; of a lane with `null` there is none any more |
//! | `forget` | a shard, or the whole stream where there is `null`, is not stored any more |
//! | `stop` | a group's table is read no further |
//! | `continue` | it is read again |
//!
//! Of a file's end, what is not a whole save is no save: it was under way when the machine lost its power. Anything else that is not
//! as it was written is damage, and the file is refused. That the last save of all was written and its sync confirmed cannot be seen
//! in the file: damage in it is taken for a save that was under way.

use std::collections::{BTreeMap, BTreeSet};
use std::str;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::{
    ShardText, StopChange, StoredChanges, StoredPositions, StoredShard, StoredStop, StoredStream, StoredTable,
    StreamChanges,
};
use crate::error_text::shown;
use crate::records::{LaneId, Position, RecordNumber};

const FORMAT: &str = "dynamodb-streams-adapter/checkpoint";
const VERSION: u32 = 2;

/// The mark of a line that another one of its save follows.
const GOES_ON: &str = "+";

/// Why a file's content cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Something else than a file, such as a pipe, from which reading might never end.
    #[error("it is {0} and not a file")]
    NotAFile(&'static str),
    /// Nothing that this program writes is so large.
    #[error("it has {0} bytes, and no file of positions has more than {MAX_BYTES}")]
    TooLarge(u64),
    /// Not what this program writes.
    #[error("it is not a file of positions ({})", shown(.0))]
    NotOurs(String),
    /// Written before the first release.
    #[error("its format has version 1, which no release of this adapter has written and this one does not read")]
    VersionOne,
    /// Written by a newer version.
    #[error("its format has version {0}, this adapter supports version {VERSION}: use a newer adapter")]
    Newer(u32),
    /// A line is not as it was written.
    #[error("line {0} is damaged")]
    Damaged(usize),
    /// A line is as it was written and makes no sense.
    #[error("line {line} makes no sense: {}", shown(.why))]
    Nonsense { line: usize, why: String },
}

/// The most bytes of a file of positions: it is read into memory as a whole. With the default of `BUFFER_MEMORY` it has not a tenth of it.
pub(super) const MAX_BYTES: usize = 1 << 30;

/// The highest number of a stream in a file. The next one is one above it, and this leaves room for more than there will be.
const HIGHEST_NUMBER: u32 = u32::MAX >> 1;

/// The file's first line.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    #[serde(default)]
    whole: usize,
}

/// What is stored of all tables and consumer groups.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Document {
    /// By their numbers in the file.
    streams: BTreeMap<u32, Stream>,
    /// Of the tables that are read no further, by group and table.
    stops: BTreeMap<(String, String), StoredStop>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stream {
    text: StreamText,
    shards: BTreeMap<String, StoredShard>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamText {
    group: String,
    table: String,
    arn: String,
    place: usize,
    start: Position,
    done: bool,
}

type Heads = BTreeMap<LaneId, RecordNumber>;

/// The heads that changed, by lane; none: the lane has none any more.
type HeadChanges = BTreeMap<LaneId, Option<RecordNumber>>;

/// What is said of one entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Stream(u32, StreamText),
    Shard(u32, String, ShardText),
    Heads(u32, String, HeadChanges, ShardText),
    Forget(u32, Option<String>),
    Stop(String, String, StoredStop),
    Continue(String, String),
}

impl Document {
    /// What is stored of a group's table.
    pub(super) fn get(&self, group: &str, table: &str) -> Option<StoredTable> {
        let mut streams: Vec<&Stream> = self.of(group, table).map(|(_, stream)| stream).collect();
        streams.sort_by_key(|stream| stream.text.place);
        let streams: Vec<StoredStream> = streams.into_iter().map(Stream::stored).collect();
        let stopped = self.stops.get(&(group.to_owned(), table.to_owned())).cloned();
        (!streams.is_empty() || stopped.is_some()).then_some(StoredTable { streams, stopped })
    }

    /// The tables of a group of which anything is stored, each once.
    pub(super) fn tables(&self, group: &str) -> impl Iterator<Item = &str> {
        let of_streams = self.streams.values().map(|stream| (&stream.text.group, &stream.text.table));
        let all = of_streams.chain(self.stops.keys().map(|(group, table)| (group, table)));
        let of_group: BTreeSet<&str> = all.filter(|(of, _)| *of == group).map(|(_, table)| &**table).collect();
        of_group.into_iter()
    }

    /// What is stored of all groups' tables.
    pub(super) fn all(&self) -> StoredPositions {
        let mut all = StoredPositions::new();
        let of_streams = self.streams.values().map(|stream| (&stream.text.group, &stream.text.table));
        for (group, table) in of_streams.chain(self.stops.keys().map(|(group, table)| (group, table))) {
            let stored = self.get(group, table).unwrap_or_default();
            all.entry(group.clone()).or_default().insert(table.clone(), stored);
        }
        all
    }

    /// The number of the next stream.
    pub(super) fn next_number(&self) -> u32 {
        self.streams.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    /// What a file must be told so that this, and nothing else, is stored of a group's table.
    pub(super) fn replacing(&self, group: &str, table: &str, stored: &StoredTable, next_number: &mut u32) -> Vec<Line> {
        let is_gone = |stream: &Stream| !stored.streams.iter().any(|stored| stored.arn == stream.text.arn);
        let gone = self.of(group, table).filter(|(_, stream)| is_gone(stream));
        let mut lines: Vec<Line> = gone.map(|(number, _)| Line::Forget(number, None)).collect();
        for (place, stream) in stored.streams.iter().enumerate() {
            let (number, known) = self.known_or_next(group, table, &stream.arn, next_number);
            let (group, table, arn) = (group.to_owned(), table.to_owned(), stream.arn.clone());
            let text = StreamText { group, table, arn, place, start: stream.start, done: stream.done };
            lines.extend(stream_lines(known, number, text, &stream.shards));
        }
        lines.extend(self.stop_line(group, table, stored.stopped.as_ref()));
        lines
    }

    /// What a file must be told so that a group's table is stopped like this, or not at all.
    fn stop_line(&self, group: &str, table: &str, stopped: Option<&StoredStop>) -> Option<Line> {
        let of = (group.to_owned(), table.to_owned());
        let is_known = self.stops.get(&of) == stopped;
        (!is_known).then(|| match stopped {
            Some(stop) => Line::Stop(of.0, of.1, stop.clone()),
            None => Line::Continue(of.0, of.1),
        })
    }

    /// What a file must be told so that these changes are stored of a group's table.
    pub(super) fn changing(
        &self,
        group: &str,
        table: &str,
        changes: &StoredChanges,
        next_number: &mut u32,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        for StreamChanges { arn, place, start, done, shards } in &changes.streams {
            let (number, known) = self.known_or_next(group, table, arn, next_number);
            let (place, start) = known.map_or((*place, *start), |known| (known.text.place, known.text.start));
            let (group, table, arn) = (group.to_owned(), table.to_owned(), arn.clone());
            let text = StreamText { group, table, arn, place, start, done: *done };
            lines.extend(stream_line(known, number, text));
            let stored = |id: &str| known.and_then(|known| known.shards.get(id));
            if *done {
                let ids = known.iter().flat_map(|known| known.shards.keys());
                lines.extend(ids.map(|id| Line::Forget(number, Some(id.clone()))));
                continue;
            }
            for (id, shard) in shards {
                match shard {
                    Some(shard) => lines.extend(shard_lines(stored(id), number, id, shard)),
                    None => lines.extend(stored(id).map(|_| Line::Forget(number, Some(id.clone())))),
                }
            }
        }
        match &changes.stopped {
            Some(StopChange::Stop(stop)) => lines.extend(self.stop_line(group, table, Some(stop))),
            Some(StopChange::Continue) => lines.extend(self.stop_line(group, table, None)),
            None => {}
        }
        lines
    }

    /// A stream's number, and what is known of it; of an unknown one a number of its own.
    fn known_or_next(&self, group: &str, table: &str, arn: &str, next_number: &mut u32) -> (u32, Option<&Stream>) {
        let known = self.of(group, table).find(|(_, stream)| stream.text.arn == arn);
        known.map_or_else(
            || {
                *next_number += 1;
                (*next_number - 1, None)
            },
            |(number, stream)| (number, Some(stream)),
        )
    }

    /// Takes in what a file was told, which was made for what is here.
    pub(super) fn apply_all(&mut self, lines: &[Line]) {
        for line in lines {
            self.apply(line).expect("they were made for what is here");
        }
    }

    /// A whole file in which this is stored.
    pub(super) fn to_text(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (number, stream) in &self.streams {
            lines.extend(stream_lines(None, *number, stream.text.clone(), &stream.shards));
        }
        let stops = self.stops.iter();
        lines.extend(stops.map(|((group, table), stop)| Line::Stop(group.clone(), table.clone(), stop.clone())));
        let body = encode(&lines);
        let header = Header { format: FORMAT.to_owned(), version: VERSION, whole: body.len() };
        let mut text = json(&header);
        text.push(b'\n');
        text.extend(body);
        text
    }

    fn of(&self, group: &str, table: &str) -> impl Iterator<Item = (u32, &Stream)> {
        let streams = self.streams.iter().map(|(number, stream)| (*number, stream));
        streams.filter(move |(_, stream)| stream.text.group == group && stream.text.table == table)
    }

    fn apply(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Stream(number, _) if *number > HIGHEST_NUMBER => {
                return Err(format!("the number {number} of a stream is above {HIGHEST_NUMBER}"));
            }
            Line::Stream(number, text) => {
                let shards = self.streams.remove(number).map(|stream| stream.shards).unwrap_or_default();
                self.streams.insert(*number, Stream { text: text.clone(), shards });
            }
            Line::Shard(number, id, text) => self.known(*number)?.put(id, text.clone())?,
            Line::Heads(number, id, changes, text) => {
                let stream = self.known(*number)?;
                let mut heads = stream.shards.get(id).map(heads_of).cloned().unwrap_or_default();
                heads.extend(changes.iter().filter_map(|(lane, head)| Some((*lane, (*head)?))));
                heads.retain(|lane, _| changes.get(lane).is_none_or(Option::is_some));
                stream.put(id, ShardText { heads, ..text.clone() })?;
            }
            Line::Forget(number, Some(id)) => {
                self.known(*number)?.shards.remove(id);
            }
            Line::Forget(number, None) => {
                self.streams.remove(number);
            }
            Line::Stop(group, table, stop) => {
                self.stops.insert((group.clone(), table.clone()), stop.clone());
            }
            Line::Continue(group, table) => {
                self.stops.remove(&(group.clone(), table.clone()));
            }
        }
        Ok(())
    }

    fn known(&mut self, number: u32) -> Result<&mut Stream, String> {
        self.streams.get_mut(&number).ok_or_else(|| format!("there is no stream {number}"))
    }
}

impl Stream {
    fn stored(&self) -> StoredStream {
        let StreamText { arn, start, done, .. } = self.text.clone();
        StoredStream { arn, start, done, shards: self.shards.clone() }
    }

    fn put(&mut self, id: &str, text: ShardText) -> Result<(), String> {
        let parent = text.parent.clone().or_else(|| self.shards.get(id)?.parent().map(str::to_owned));
        let shard = StoredShard::try_from(ShardText { parent, ..text }).map_err(|error| error.to_string())?;
        self.shards.insert(id.to_owned(), shard);
        Ok(())
    }
}

/// What must be said of a stream, besides its shards, of which this is known.
fn stream_line(known: Option<&Stream>, number: u32, text: StreamText) -> Option<Line> {
    known.is_none_or(|known| known.text != text).then_some(Line::Stream(number, text))
}

/// What must be said of a stream of which this is known.
fn stream_lines(
    known: Option<&Stream>,
    number: u32,
    text: StreamText,
    shards: &BTreeMap<String, StoredShard>,
) -> Vec<Line> {
    let mut lines = Vec::from_iter(stream_line(known, number, text));
    let forget = |id: &String| Line::Forget(number, Some(id.clone()));
    let stored = known.iter().flat_map(|known| known.shards.keys());
    lines.extend(stored.filter(|id| !shards.contains_key(*id)).map(forget));
    let known = |id: &str| known.and_then(|known| known.shards.get(id));
    lines.extend(shards.iter().flat_map(|(id, shard)| shard_lines(known(id), number, id, shard)));
    lines
}

/// What must be said of a shard of which this is known.
fn shard_lines(known: Option<&StoredShard>, number: u32, id: &str, shard: &StoredShard) -> Vec<Line> {
    if known == Some(shard) {
        return Vec::new();
    }
    let (mut lines, mut text, id) = (Vec::new(), ShardText::from(shard.clone()), id.to_owned());
    let known_parent = known.and_then(StoredShard::parent);
    match (known_parent, &text.parent) {
        (Some(_), None) => lines.push(Line::Forget(number, Some(id.clone()))),
        (known, parent) if known == parent.as_deref() => text.parent = None,
        _ => {}
    }
    let changes = known.filter(|_| lines.is_empty()).map(|known| head_changes(heads_of(known), &text.heads));
    lines.push(match changes.filter(|changes| 2 * changes.len() < text.heads.len()) {
        Some(changes) => Line::Heads(number, id, changes, ShardText { heads: BTreeMap::new(), ..text }),
        None => Line::Shard(number, id, text),
    });
    lines
}

fn heads_of(shard: &StoredShard) -> &Heads {
    static NONE: Heads = Heads::new();
    match shard {
        StoredShard::Unfinished(shard) => &shard.heads,
        StoredShard::Finished { .. } => &NONE,
    }
}

fn head_changes(before: &Heads, after: &Heads) -> HeadChanges {
    let changed = after.iter().filter(|(lane, head)| before.get(lane) != Some(head));
    let gone = before.keys().filter(|lane| !after.contains_key(lane));
    changed.map(|(lane, head)| (*lane, Some(*head))).chain(gone.map(|lane| (*lane, None))).collect()
}

/// One save: what is to be added to a file, so that all of it counts or nothing.
pub(super) fn encode(lines: &[Line]) -> Vec<u8> {
    let mut save = Vec::with_capacity(lines.len() * 160);
    for (number, line) in lines.iter().enumerate() {
        let is_last = number + 1 == lines.len();
        let (mark, json) = (if is_last { lines.len().to_string() } else { GOES_ON.to_owned() }, json(line));
        let marked = [mark.as_bytes(), b" ", &json].concat();
        save.extend(format!("{} {} ", checksum(&marked), json.len()).into_bytes());
        save.extend(marked);
        save.push(b'\n');
    }
    save
}

/// Reads a file's content and checks every value in it.
pub(super) fn parse(text: &[u8]) -> Result<Document, FormatError> {
    let (begin, whole) = parse_header(text)?;
    let replaced_to = begin.saturating_add(whole);
    let (mut document, mut save) = (Document::default(), Vec::new());
    // What was read, and what of it was whole saves.
    let (mut at, mut whole_to, mut number) = (begin, begin, 1);
    while at < text.len() {
        number += 1;
        let damaged = Err(FormatError::Damaged(number));
        let Some(Checked { json, lines, end }) = checked_line(text, at) else {
            match at >= replaced_to && is_torn(text, at, save.len()) {
                true => break,
                false => return damaged,
            }
        };
        at = end;
        let nonsense = |why: String| FormatError::Nonsense { line: number, why };
        save.push((number, serde_json::from_slice::<Line>(json).map_err(|error| nonsense(error.to_string()))?));
        if let Some(lines) = lines {
            if lines != save.len() {
                return damaged;
            }
            whole_to = at;
            for (line, said) in save.drain(..) {
                document.apply(&said).map_err(|why| FormatError::Nonsense { line, why })?;
            }
        }
    }
    match whole_to < replaced_to {
        true => Err(FormatError::Damaged(number + 1)),
        false => Ok(document),
    }
}

/// Where the header ends, and how much was behind it from the beginning.
fn parse_header(text: &[u8]) -> Result<(usize, usize), FormatError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(FormatError::Empty);
    }
    let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
    // Version 1 is one JSON text of many lines.
    let header = serde_json::from_slice::<Header>(&text[..end]).or_else(|_| serde_json::from_slice(text));
    let header = header.map_err(|error| FormatError::NotOurs(error.to_string()))?;
    match (header.format.as_str(), header.version) {
        (FORMAT, VERSION) => Ok((end, header.whole)),
        (FORMAT, 1) => Err(FormatError::VersionOne),
        (FORMAT, 0) => Err(FormatError::NotOurs("version 0 does not exist".to_owned())),
        (FORMAT, newer) => Err(FormatError::Newer(newer)),
        (other, _) => Err(FormatError::NotOurs(format!("its format is {other:?}"))),
    }
}

/// A line that is as it was written.
struct Checked<'t> {
    json: &'t [u8],
    /// Of how many lines the save consists that ends with it.
    lines: Option<usize>,
    /// Where the next one begins.
    end: usize,
}

fn checked_line(text: &[u8], at: usize) -> Option<Checked<'_>> {
    let length = text[at..].iter().position(|byte| *byte == b'\n')?;
    let mut parts = text[at..at + length].splitn(3, |byte| *byte == b' ');
    let (sum, size, marked) = (parts.next()?, parts.next()?, parts.next()?);
    let space = marked.iter().position(|byte| *byte == b' ')?;
    let (mark, json) = (str::from_utf8(&marked[..space]).ok()?, &marked[space + 1..]);
    let lines = if mark == GOES_ON { None } else { Some(mark.parse().ok()?) };
    let is_whole = checksum(marked).as_bytes() == sum && json.len().to_string().as_bytes() == size;
    is_whole.then_some(Checked { json, lines, end: at + length + 1 })
}

/// Whether what begins here, is not as it was written, and follows so many lines of its save, can be a save that was under way when
/// the power was lost. Then no save ends behind it; or the same one does, but some of its lines are not there: parts of it never
/// reached the disk, which has zeros in their place.
fn is_torn(text: &[u8], at: usize, lines_before: usize) -> bool {
    let starts = (at..text.len()).filter(|start| text[start - 1] == b'\n');
    let intact: Vec<Checked> = starts.filter_map(|start| checked_line(text, start)).collect();
    let mut ends = intact.iter().filter_map(|line| Some((line.lines?, line.end)));
    match (ends.next(), ends.next()) {
        (None, _) => true,
        (Some((lines, end)), None) => {
            end == text.len() && lines > lines_before + intact.len() && text[at..].contains(&0)
        }
        _ => false,
    }
}

fn checksum(marked: &[u8]) -> String {
    let digest = Sha256::digest(marked);
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps of texts are always JSON")
}
