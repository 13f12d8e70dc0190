//! What one owner knows of the entries of a table, and what it does not know of its own writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entries::{self, Entry, EntryError, EntryName};
use super::items::{Expected, Stamp};
use super::plan::Entries;
use crate::checkpoint::{SaveError, StoreError, StoredTable};

/// Entries as they were found, with their stamps.
pub(super) type Found = BTreeMap<EntryName, (Stamp, Entry)>;

/// Of one owner.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What is stored for certain.
    entries: Found,
    is_taken_over: bool,
    /// Writes of which nobody knows whether they happened, or will. An entry is written again only after that is known.
    unknown: BTreeMap<EntryName, Attempt>,
    /// Why this owner writes nothing any more.
    fenced: Option<String>,
}

/// One write of an entry.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub expected: Expected,
    pub stamp: Stamp,
    /// None: it is deleted.
    pub to: Option<Entry>,
    /// It was sent before, and may happen even if it is refused now.
    pub is_repeated: bool,
}

impl Attempt {
    /// To write this under an epoch, onto what has this stamp.
    pub(super) fn onto(stored: Option<Stamp>, to: Option<Entry>, epoch: u64) -> Self {
        let expected = stored.map_or(Expected::Absent, Expected::Is);
        let version = stored.map_or(1, |stored| stored.version + 1);
        Self { expected, stamp: Stamp { epoch, version }, to, is_repeated: false }
    }
}

/// Why an entry is not as it was to be.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    NotDone(String),
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Fenced(String),
}

impl Ledger {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All is as it was found, whatever was thought before.
    pub(super) fn read(&self, found: Found) {
        let mut known = self.known();
        (known.entries, known.fenced) = (found, None);
        let Known { entries, unknown, .. } = &mut *known;
        // What met another entry than it expects never happens any more, or has happened.
        unknown.retain(|name, attempt| {
            attempt.expected == entries.get(name).map_or(Expected::Absent, |(stamp, _)| Expected::Is(*stamp))
        });
    }

    pub(super) fn found(&self) -> Found {
        self.known().entries.clone()
    }

    /// No earlier owner changes what was read any more.
    pub(super) fn take_over(&self, found: Found) {
        self.read(found);
        self.known().is_taken_over = true;
    }

    pub(super) fn is_taken_over(&self) -> bool {
        self.known().is_taken_over
    }

    /// Looks at the entries that are stored for certain.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Entries<'_>) -> T) -> T {
        let known = self.known();
        look(&known.entries.iter().map(|(name, (_, entry))| (name, entry)).collect())
    }

    /// All that is stored for certain.
    pub(super) fn stored(&self) -> Result<Option<StoredTable>, EntryError> {
        self.look(|entries| entries::stored(entries.iter().map(|(name, entry)| (*name, *entry))))
    }

    /// Whether one of these entries is older than what is known here of it.
    pub(super) fn is_ahead_of(&self, found: &Found) -> bool {
        let is_older =
            |(name, (known, _)): (&EntryName, &(Stamp, Entry))| found.get(name).is_some_and(|it| it.0 < *known);
        self.known().entries.iter().any(is_older)
    }

    /// What has to be written under an epoch so that an entry becomes this; nothing if it is so. Of an entry whose last write nobody knows,
    /// that one comes first. From here on nobody knows of this one.
    pub(super) fn begin(&self, name: &EntryName, to: Option<&Entry>, epoch: u64) -> Result<Option<Attempt>, Failure> {
        let mut known = self.known();
        if let Some(why) = &known.fenced {
            return Err(Failure::Fenced(why.clone()));
        }
        if let Some(attempt) = known.unknown.get(name) {
            return Ok(Some(Attempt { is_repeated: true, ..attempt.clone() }));
        }
        let stored = known.entries.get(name);
        if stored.map(|(_, entry)| entry) == to {
            return Ok(None);
        }
        let attempt = Attempt::onto(stored.map(|(stamp, _)| *stamp), to.cloned(), epoch);
        known.unknown.insert(name.clone(), attempt.clone());
        Ok(Some(attempt))
    }

    /// It was refused: it was not written, and will not be, unless it was sent before.
    pub(super) fn give_up(&self, name: &EntryName, attempt: &Attempt) {
        if !attempt.is_repeated {
            self.known().unknown.remove(name);
        }
    }

    pub(super) fn confirm(&self, name: &EntryName, attempt: Attempt) {
        let mut known = self.known();
        known.unknown.remove(name);
        match attempt.to {
            Some(entry) => known.entries.insert(name.clone(), (attempt.stamp, entry)),
            None => known.entries.remove(name),
        };
    }

    /// This owner writes nothing any more.
    pub(super) fn fence(&self, why: String) -> Failure {
        self.known().fenced.get_or_insert_with(|| why.clone());
        Failure::Fenced(why)
    }
}

impl Failure {
    /// What counts of two: the end of a tenure, else that something is not known.
    pub(super) fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Fenced(_), _) | (Self::Unknown(_), Self::Unknown(_) | Self::NotDone(_)) => self,
            (_, Self::Fenced(_) | Self::Unknown(_)) => other,
            (Self::NotDone(_), Self::NotDone(_)) => self,
        }
    }
}

impl From<Failure> for SaveError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotDone(why) => Self::NotStored(StoreError(why)),
            Failure::Unknown(why) => Self::Unknown(StoreError(why)),
            Failure::Fenced(why) => Self::Fenced(StoreError(why)),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}
