//! From whatever the environment holds to the values of our variables.
//!
//! `envy` panics on what is not UTF-8, stops at the first error, takes a blank for a value and refuses a name that comes
//! twice. It is given only what survives here: known names, once each, not blank, UTF-8.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::catalog::{ALL, Given};
use super::mistakes::{Held, Mistake};
use super::reader::Reader;
use super::spelling;
use super::translator::{self, Translation};
use super::warning::Warning;

/// What is set: no blanks, no name that is not UTF-8, the first of each name.
pub(super) struct Environment(BTreeMap<String, OsString>);

/// The value is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut set = BTreeMap::new();
        for (name, value) in variables {
            if let Ok(name) = name.into_string() {
                set.entry(name).or_insert(value);
            }
        }
        set.retain(|_, value| !is_blank(value));
        Self(set)
    }

    /// Says in our variables, where they are not set, what those of other adapters say.
    pub(super) fn translate(&mut self) -> Translation {
        let translation = translator::translate(self);
        for (name, text) in &translation.values {
            self.0.insert((*name).to_owned(), text.into());
        }
        translation
    }

    /// All names that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What a variable holds, trimmed; an error where it is not UTF-8.
    pub(super) fn value(&self, name: &str) -> Option<Result<&str, NotUtf8>> {
        let value = self.0.get(name)?;
        Some(value.to_str().map(str::trim).ok_or(NotUtf8))
    }

    /// Names that look like ours and are not.
    pub(super) fn misspelt(&self) -> Vec<Warning> {
        let is_set = |name: &str| self.is_set(name);
        let suspects = self.0.keys().filter_map(|found| {
            let known = spelling::meant(found, is_set)?;
            Some(Warning::Misspelt { found: found.clone(), known })
        });
        suspects.collect()
    }

    /// The values of our variables; one that is not UTF-8 is a mistake.
    pub(super) fn given(&self, reader: &mut Reader) -> Given {
        let mut values = Vec::new();
        for variable in ALL {
            match self.value(variable.name) {
                None => {}
                Some(Ok(text)) => values.push((variable.name.to_owned(), text.to_owned())),
                Some(Err(NotUtf8)) => {
                    reader.report(Mistake::new(variable, Held::NotUtf8, "only UTF-8 is supported"));
                }
            }
        }
        envy::from_iter(values).expect("every field is an optional text, and each name comes once")
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}
