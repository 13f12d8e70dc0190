//! The subcommand `positions`: shows, exports, imports and edits what is stored.
//!
//! Contract: reading works while an adapter uses the file; changing does not, and says so. Each change can be tried with `--dry-run`,
//! which prints what would change and writes nothing. A change of one table is stored as a whole or not at all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::{FileStore, OpenError, StoredPositions, StoredShard, StoredStream, StoredTable};
use crate::clock::{self, rfc3339};
use crate::command_output::{CommandOutput, EXIT_FAULT, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::config::{CheckpointLocation, Config, EnvironmentFacts};
use crate::records::Position;

const ABOUT: &str = "\
Shows, exports, imports and edits stored positions. Changes need an adapter that
does not run. The file is that of CHECKPOINT_STORE, unless --file names one.";

/// The arguments of `positions`. The texts are those of its help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(about = ABOUT)]
pub struct PositionsCommand {
    /// The file of positions
    #[arg(long, global = true, value_name = "path")]
    file: Option<PathBuf>,
    /// The consumer group, default unless CONSUMER_GROUP says so
    #[arg(long, global = true, value_name = "name")]
    group: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
enum Action {
    /// Print the positions of all groups, one entry a line
    Show,
    /// Print the positions of all groups as JSON
    Export,
    /// Replace the tables that an export names
    Import {
        /// A file with the output of export
        #[arg(value_name = "path")]
        from: PathBuf,
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Read a table or a shard again from a position
    Set {
        #[command(flatten)]
        target: Target,
        /// start, "since <time>" or "after <sequence number>"
        #[arg(long, value_name = "position")]
        to: Position,
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget a table, or one stream of it
    Forget {
        #[command(flatten)]
        target: Target,
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
struct Target {
    /// The table, as TABLE has it, or its ARN
    #[arg(long, value_name = "table")]
    table: String,
    /// One stream of it, by its ARN
    #[arg(long, value_name = "ARN")]
    stream: Option<String>,
    /// One shard, by its id
    #[arg(long, value_name = "id")]
    shard: Option<String>,
}

/// Why nothing was done: what to print, and the exit code.
struct Refusal(u8, String);

impl PositionsCommand {
    /// Does it.
    pub fn run(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        facts: &EnvironmentFacts,
    ) -> CommandOutput {
        match self.place(variables, facts).and_then(|(file, group)| self.act(&file, &group)) {
            Ok(text) => CommandOutput::done(EXIT_OK, text),
            Err(Refusal(code, why)) => CommandOutput::failed(code, &why),
        }
    }

    /// The file and the group.
    fn place(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        facts: &EnvironmentFacts,
    ) -> Result<(PathBuf, String), Refusal> {
        if let Some(file) = &self.file {
            return Ok((file.clone(), self.group.clone().unwrap_or_else(|| "default".to_owned())));
        }
        let config = Config::from_env_vars(variables, facts);
        let source =
            config.map_err(|mistakes| Refusal(EXIT_USAGE, format!("{mistakes}\nor name the file with --file")))?.source;
        let group = self.group.clone().unwrap_or(source.consumer_group);
        match source.checkpoint {
            CheckpointLocation::File(file) => Ok((file, group)),
            CheckpointLocation::Memory => {
                Err(Refusal(EXIT_USAGE, "CHECKPOINT_STORE is memory: name a file with --file".to_owned()))
            }
        }
    }

    fn act(&self, file: &Path, group: &str) -> Result<String, Refusal> {
        let before = FileStore::look(file)?;
        match &self.action {
            Action::Show => Ok(lines(&before).iter().map(|line| format!("{line}\n")).collect()),
            Action::Export => Ok(export(&before)),
            Action::Import { from, dry_run } => {
                let after = overlaid(before.clone(), import(from)?);
                change(file, &before, &after, *dry_run)
            }
            Action::Set { target, to, dry_run } => {
                let after = edited(&before, group, target, |table| set(table, target, *to, clock::now()))?;
                change(file, &before, &after, *dry_run)
            }
            Action::Forget { target, dry_run } => {
                let after = edited(&before, group, target, |table| forget(table, target))?;
                change(file, &before, &after, *dry_run)
            }
        }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self(EXIT_UNAVAILABLE, error.to_string())
    }
}

fn export(positions: &StoredPositions) -> String {
    let mut text = serde_json::to_string_pretty(positions).expect("maps of texts are always JSON");
    text.push('\n');
    text
}

fn import(from: &Path) -> Result<StoredPositions, Refusal> {
    let refused = |why: String| Refusal(EXIT_USAGE, format!("{} cannot be imported: {why}", from.display()));
    let text = std::fs::read_to_string(from).map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|error| refused(format!("{error}; it must be the output of `positions export`")))
}

fn overlaid(mut positions: StoredPositions, with: StoredPositions) -> StoredPositions {
    for (group, tables) in with {
        positions.entry(group).or_default().extend(tables);
    }
    positions
}

/// The positions with one table changed.
fn edited(
    before: &StoredPositions,
    group: &str,
    target: &Target,
    edit: impl FnOnce(&mut StoredTable) -> Result<(), String>,
) -> Result<StoredPositions, Refusal> {
    let mut after = before.clone();
    let tables = after.entry(group.to_owned()).or_default();
    let known: Vec<&str> = tables.keys().map(String::as_str).collect();
    let key = match known.iter().filter(|key| target.is_of(key)).collect::<Vec<_>>()[..] {
        [key] => (*key).to_owned(),
        ref keys => {
            let (table, known) = (&target.table, known.join(", "));
            let what = if keys.is_empty() { "nothing is stored of" } else { "more than one table is called" };
            return Err(Refusal(EXIT_USAGE, format!("{what} table {table} in group {group}; stored are: {known}")));
        }
    };
    edit(tables.entry(key).or_default()).map_err(|why| Refusal(EXIT_USAGE, why))?;
    Ok(after)
}

/// Reads it again from here: what continues a shard that goes back is read again, too, as the order of each item's changes asks.
fn set(table: &mut StoredTable, target: &Target, to: Position, now: SystemTime) -> Result<(), String> {
    if target.shard.is_none() && matches!(to, Position::After(_)) {
        return Err("a sequence number is a place in one shard: name it with --shard".to_owned());
    }
    let mut is_found = false;
    for stream in table.streams.iter_mut().filter(|stream| target.names(stream) && !stream.done) {
        match &target.shard {
            None => {
                stream.start = to;
                stream.shards.clear();
                is_found = true;
            }
            Some(id) => is_found |= set_shard(stream, id, to, now),
        }
    }
    is_found.then_some(()).ok_or_else(|| target.unknown())
}

fn set_shard(stream: &mut StoredStream, id: &str, to: Position, now: SystemTime) -> bool {
    let Some(shard) = stream.shards.get(id) else { return false };
    let parent = shard.parent().map(str::to_owned);
    let mut behind = BTreeSet::from([id.to_owned()]);
    loop {
        let is_behind = |shard: &StoredShard| shard.parent().is_some_and(|parent| behind.contains(parent));
        let next: Vec<String> =
            stream.shards.iter().filter(|(_, it)| is_behind(it)).map(|(id, _)| id.clone()).collect();
        stream.shards.retain(|id, _| !next.contains(id));
        if next.is_empty() {
            break;
        }
        behind.extend(next);
    }
    stream.shards.insert(id.to_owned(), StoredShard::at(to, now, parent));
    true
}

fn forget(table: &mut StoredTable, target: &Target) -> Result<(), String> {
    if target.shard.is_some() {
        return Err("a shard alone cannot be forgotten: set it to a position".to_owned());
    }
    let before = table.streams.len();
    table.streams.retain(|stream| !target.names(stream));
    (table.streams.len() < before).then_some(()).ok_or_else(|| target.unknown())
}

impl Target {
    /// Whether it means what is stored under this name: the ARN of a table or a stream.
    fn is_of(&self, key: &str) -> bool {
        key == self.table || key.ends_with(&format!(":table/{}", self.table))
    }

    fn names(&self, stream: &StoredStream) -> bool {
        self.stream.as_ref().is_none_or(|arn| *arn == stream.arn)
    }

    fn unknown(&self) -> String {
        "the table has no such stream or shard that is not done with; `positions show` prints all".to_owned()
    }
}

/// Stores what has changed, or only says so.
fn change(file: &Path, before: &StoredPositions, after: &StoredPositions, dry_run: bool) -> Result<String, Refusal> {
    if !dry_run {
        store(file, before, after)?;
    }
    let (old, new) = (lines(before), lines(after));
    let removed = old.difference(&new).map(|line| format!("- {line}\n"));
    let added = new.difference(&old).map(|line| format!("+ {line}\n"));
    let told: String = removed.chain(added).collect();
    let end = match (told.is_empty(), dry_run) {
        (true, _) => "nothing changes\n",
        (false, true) => "nothing was changed: this is a dry run\n",
        (false, false) => "stored\n",
    };
    Ok(told + end)
}

fn store(file: &Path, before: &StoredPositions, after: &StoredPositions) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Refusal(EXIT_FAULT, format!("the runtime cannot start: {error}")))?;
    for (group, tables) in after.iter().filter(|(group, tables)| before.get(*group) != Some(*tables)) {
        let store = FileStore::open(file, group)?;
        // Between the look and the lock another process may have stored something.
        if FileStore::look(file)?.get(group) != before.get(group) {
            return Err(Refusal(EXIT_UNAVAILABLE, "the positions have just changed: try again".to_owned()));
        }
        for (table, snapshot) in tables {
            let saved = runtime.block_on(store.overwrite(table, snapshot.clone()));
            saved.map_err(|error| Refusal(EXIT_UNAVAILABLE, error.to_string()))?;
        }
    }
    Ok(())
}

/// One line for each entry.
fn lines(positions: &StoredPositions) -> BTreeSet<String> {
    let tables =
        positions.iter().flat_map(|(group, tables)| tables.iter().map(move |(table, stored)| (group, table, stored)));
    tables
        .flat_map(|(group, table, stored)| stored.streams.iter().flat_map(move |it| stream_lines(group, table, it)))
        .collect()
}

fn stream_lines(group: &str, table: &str, stream: &StoredStream) -> Vec<String> {
    let name = format!("{group} {table} {}", stream.arn);
    let done = if stream.done { ", done with" } else { "" };
    let mut lines = vec![format!("{name}: shards that are not listed from {}{done}", stream.start)];
    lines.extend(stream.shards.iter().map(|(id, shard)| format!("{name} {id}: {}", described(shard))));
    lines
}

fn described(shard: &StoredShard) -> String {
    match shard {
        StoredShard::Finished { at, .. } => format!("finished at {}", rfc3339(*at)),
        StoredShard::Unfinished(shard) if shard.heads.is_empty() => shard.safe.to_string(),
        StoredShard::Unfinished(shard) => {
            let (lanes, newest) = (shard.heads.len(), shard.newest_settled);
            format!("{}, and {newest} except for records of {lanes} lanes", shard.safe)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(number: u64) -> Position {
        Position::After(number.to_string().parse().expect("digits"))
    }

    /// A shard whose child has a child, and one that has nothing to do with them.
    fn table() -> StoredTable {
        let shard = |id: &str, parent: Option<&str>| {
            (id.to_owned(), StoredShard::at(at(9), UNIX_EPOCH, parent.map(str::to_owned)))
        };
        let shards =
            [shard("a", None), shard("b", Some("a")), shard("c", Some("b")), shard("other", Some("gone"))].into();
        let stream =
            |arn: &str, done, shards| StoredStream { arn: arn.to_owned(), start: Position::Start, done, shards };
        StoredTable { streams: vec![stream("old", true, BTreeMap::new()), stream("new", false, shards)], stopped: None }
    }

    fn target(stream: Option<&str>, shard: Option<&str>) -> Target {
        Target { table: "Orders".to_owned(), stream: stream.map(str::to_owned), shard: shard.map(str::to_owned) }
    }

    #[test]
    fn a_shard_that_goes_back_takes_along_what_continues_it_and_nothing_else() {
        let mut changed = table();
        assert_eq!(set(&mut changed, &target(None, Some("a")), at(3), UNIX_EPOCH), Ok(()));
        let shards = &changed.streams[1].shards;
        assert_eq!(shards.keys().collect::<Vec<_>>(), ["a", "other"]);
        assert_eq!((shards["a"].safe(), shards["other"].safe()), (Some(at(3)), Some(at(9))));
    }

    #[test]
    fn a_table_that_goes_back_begins_there_in_each_stream_that_is_not_done_with() {
        let mut changed = table();
        let since = Position::Since(UNIX_EPOCH);
        assert_eq!(set(&mut changed, &target(None, None), since, UNIX_EPOCH), Ok(()));
        assert_eq!(changed.streams[0], table().streams[0]);
        assert_eq!((changed.streams[1].start, changed.streams[1].shards.len()), (since, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        let refused = |target: Target, to| set(&mut table(), &target, to, UNIX_EPOCH).expect_err("it makes no sense");
        assert!(refused(target(None, None), at(3)).contains("--shard"));
        assert!(refused(target(None, Some("nowhere")), at(3)).contains("positions show"));
        assert!(refused(target(Some("old"), None), Position::Start).contains("done with"));
        assert!(forget(&mut table(), &target(Some("nowhere"), None)).is_err());
        assert!(forget(&mut table(), &target(None, Some("a"))).expect_err("a shard").contains("set it"));
    }

    #[test]
    fn a_stream_or_a_whole_table_can_be_forgotten() {
        let (mut one, mut all) = (table(), table());
        assert_eq!(forget(&mut one, &target(Some("old"), None)), Ok(()));
        assert_eq!(forget(&mut all, &target(None, None)), Ok(()));
        assert_eq!((one.streams.len(), all.streams.len()), (1, 0));
    }
}
