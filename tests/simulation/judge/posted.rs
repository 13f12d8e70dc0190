//! What an event that is posted tells.

use serde::Deserialize;

use crate::aws::ChangeNumber;

/// What one part of a request tells.
#[derive(Debug, Clone)]
pub enum Posted {
    Change(ChangeNumber),
    Gap(Told),
    Unknown(String),
}

/// A gap, as its event tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    #[serde(skip)]
    pub(super) id: String,
    pub(super) stream: String,
    pub(super) shard: Option<String>,
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    pub(super) reason: String,
}

impl Told {
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }
}

impl Posted {
    pub fn id(&self) -> String {
        match self {
            Self::Change(number) => format!("c{number}"),
            Self::Gap(told) => told.id.clone(),
            Self::Unknown(id) => id.clone(),
        }
    }
}
