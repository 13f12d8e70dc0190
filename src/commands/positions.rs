//! The subcommand `positions`: shows, exports, imports, edits and copies what is stored, and creates the table for it.
//!
//! Contract: reading works while an adapter uses the store; changing does not, and says so, unless a table of positions is to be taken
//! from its owner. Each change can be tried with `--dry-run`, which prints what would change and writes nothing. In a file a change of one
//! table is stored as a whole or not at all; in a DynamoDB table entry by entry, in an order in which no change is skipped.

mod edits;
mod listing;
mod stores;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::edits::{Target, forget, key_of, set};
use self::stores::{Refusal, Store};
use crate::checkpoint::{StoredPositions, StoredTable};
use crate::clock;
use crate::command_output::{CommandOutput, EXIT_OK, EXIT_USAGE};
use crate::config::{CheckpointLocation, PositionsConfig};
use crate::records::Position;

pub(super) const ABOUT: &str = "\
Shows, exports, imports, edits and copies stored positions. Changes need an
adapter that does not run. The store is CHECKPOINT_STORE, unless --store or
--file names one.";

/// The arguments of `positions`. The texts are those of its help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct PositionsCommand {
    /// The store, written as in CHECKPOINT_STORE
    #[arg(long, global = true, value_name = "store", conflicts_with = "file")]
    store: Option<String>,
    /// The file of positions
    #[arg(long, global = true, value_name = "path")]
    file: Option<PathBuf>,
    /// The consumer group, instead of CONSUMER_GROUP
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
        #[command(flatten)]
        how: How,
    },
    /// Read a table or a shard again from a position
    Set {
        #[command(flatten)]
        target: Target,
        /// start, "since <time>" or "after <sequence number>"
        #[arg(long, value_name = "position", value_parser = position)]
        to: Position,
        #[command(flatten)]
        how: How,
    },
    /// Forget that ON_DATA_LOSS=stop has stopped a table
    Continue {
        /// The table, as TABLE has it, or its ARN
        #[arg(long, value_name = "table")]
        table: String,
        #[command(flatten)]
        how: How,
    },
    /// Forget a table, or one stream of it
    Forget {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        how: How,
    },
    /// Copy the group's positions to another store
    Copy {
        /// The other store, written as in CHECKPOINT_STORE
        #[arg(long, value_name = "store")]
        to: String,
        /// Replace what the other store has of the same tables
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        how: How,
    },
    /// Create the DynamoDB table of the store, unless it is there
    CreateTable,
}

/// The error stands behind "must be".
fn position(text: &str) -> Result<Position, &'static str> {
    text.parse().map_err(|_| "`start`, `since <time in RFC 3339>` or `after <sequence number>`")
}

/// How a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
struct How {
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// In a DynamoDB table: take the tables from the adapter that owns them
    #[arg(long)]
    take: bool,
}

/// What becomes of what is stored of a table.
type Edit<'e> = dyn Fn(&mut StoredTable) -> Result<(), String> + 'e;

impl PositionsCommand {
    /// Does it.
    pub fn run(&self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> CommandOutput {
        let variables: Vec<_> = variables.into_iter().collect();
        match self.act(&variables) {
            Ok(text) => CommandOutput::done(EXIT_OK, text),
            Err(Refusal(code, why)) => CommandOutput::failed(code, &why),
        }
    }

    fn act(&self, variables: &[(OsString, OsString)]) -> Result<String, Refusal> {
        let config = self.config(variables)?;
        let group = self.group.clone().unwrap_or_else(|| config.consumer_group.clone());
        let store = Store::open(&config)?;
        match &self.action {
            Action::Show => Ok(listing::show(&store.look()?)),
            Action::Export => Ok(listing::export(&store.look()?)),
            Action::Import { from, how } => overlay(&store, &import(from)?, *how),
            Action::Set { target, to, how } => {
                edit(&store, &group, &target.table, *how, &|table| set(table, target, *to, clock::now()))
            }
            Action::Continue { table, how } => edit(&store, &group, table, *how, &|table| {
                table.stopped = None;
                Ok(())
            }),
            Action::Forget { target, how } => edit(&store, &group, &target.table, *how, &|table| forget(table, target)),
            Action::Copy { to, replace, how } => {
                let other = Store::open(&with_store(variables, Some(to))?)?;
                copy(&store, &other, &group, *replace, *how)
            }
            Action::CreateTable => store.create_table(),
        }
    }
    /// What the variables say, and the store that an argument names instead of theirs.
    fn config(&self, variables: &[(OsString, OsString)]) -> Result<PositionsConfig, Refusal> {
        match &self.file {
            Some(file) => {
                let config = with_store(variables, Some("memory"))?;
                Ok(PositionsConfig { location: CheckpointLocation::File(file.clone()), ..config })
            }
            None => with_store(variables, self.store.as_deref()),
        }
    }
}

fn with_store(variables: &[(OsString, OsString)], store: Option<&str>) -> Result<PositionsConfig, Refusal> {
    const NAME: &str = "CHECKPOINT_STORE";
    let named = store.map(|store| (OsString::from(NAME), OsString::from(store)));
    // Of a name that comes twice the first counts.
    let config = PositionsConfig::from_env_vars(named.into_iter().chain(variables.iter().cloned()));
    config.map_err(|mistakes| Refusal(EXIT_USAGE, mistakes.to_string()))
}

/// One table with a change.
fn edit(store: &Store, group: &str, table: &str, how: How, edit: &Edit<'_>) -> Result<String, Refusal> {
    let before = store.look()?;
    let key = key_of(&before, group, table).map_err(|why| Refusal(EXIT_USAGE, why))?;
    let mut changes = Changes::default();
    changes.make(store, group, &key, &before, how, edit)?;
    Ok(changes.told(how))
}

/// All tables of these positions as they are there.
fn overlay(store: &Store, wanted: &StoredPositions, how: How) -> Result<String, Refusal> {
    let before = store.look_or_nothing()?;
    let mut changes = Changes::default();
    for (group, key, table) in tables(wanted) {
        let replace = |stored: &mut StoredTable| {
            *stored = table.clone();
            Ok(())
        };
        changes.make(store, group, key, &before, how, &replace)?;
    }
    Ok(changes.told(how))
}

/// The tables of a group as they are in one store, in another one.
fn copy(from: &Store, to: &Store, group: &str, replace: bool, how: How) -> Result<String, Refusal> {
    let mut wanted = from.look()?;
    wanted.retain(|name, _| name == group);
    if wanted.is_empty() {
        return Err(Refusal(EXIT_USAGE, format!("nothing is stored of group {group}: name another one with --group")));
    }
    let there = to.look_or_nothing()?;
    let known =
        tables(&wanted).filter(|(group, key, _)| there.get(*group).is_some_and(|tables| tables.contains_key(*key)));
    let known: Vec<&str> = known.map(|(_, key, _)| key).collect();
    if !known.is_empty() && !replace {
        let why = format!("the other store has positions of {} already: replace them with --replace", known.join(", "));
        return Err(Refusal(EXIT_USAGE, why));
    }
    overlay(to, &wanted, how)
}

/// Group, name and table of each that is stored.
fn tables(positions: &StoredPositions) -> impl Iterator<Item = (&str, &str, &StoredTable)> {
    positions.iter().flat_map(|(group, tables)| tables.iter().map(move |(key, table)| (&**group, &**key, table)))
}

fn import(from: &Path) -> Result<StoredPositions, Refusal> {
    let refused = |why: String| Refusal(EXIT_USAGE, format!("{} cannot be imported: {why}", from.display()));
    let text = std::fs::read_to_string(from).map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|error| refused(format!("{error}; it must be the output of `positions export`")))
}

/// What was changed so far, or would be.
#[derive(Default)]
struct Changes {
    before: StoredPositions,
    after: StoredPositions,
}

impl Changes {
    /// Changes one table, or only says how: `seen` is what is stored without anybody's lock.
    fn make(
        &mut self,
        store: &Store,
        group: &str,
        key: &str,
        seen: &StoredPositions,
        how: How,
        edit: &Edit<'_>,
    ) -> Result<(), Refusal> {
        let seen = seen.get(group).and_then(|tables| tables.get(key)).cloned().unwrap_or_default();
        let edited = |before: &StoredTable| {
            let mut after = before.clone();
            edit(&mut after).map_err(|why| Refusal(EXIT_USAGE, why)).map(|()| after)
        };
        let (before, after) = match edited(&seen)? {
            after if how.dry_run || after == seen => (seen, after),
            _ => store.change(group, key, how.take, &edited)?,
        };
        self.before.entry(group.to_owned()).or_default().insert(key.to_owned(), before);
        self.after.entry(group.to_owned()).or_default().insert(key.to_owned(), after);
        Ok(())
    }

    fn told(&self, how: How) -> String {
        let told = listing::differences(&self.before, &self.after);
        let end = match (told.is_empty(), how.dry_run) {
            (true, _) => "nothing changes\n",
            (false, true) => "nothing was changed: this is a dry run\n",
            (false, false) => "stored\n",
        };
        told + end
    }
}
