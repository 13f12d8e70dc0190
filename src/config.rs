//! Environment to [`Config`]: pure, no I/O.
//!
//! The caller passes in the variables and the [`Facts`] that defaults depend on; nothing here looks at the process, its
//! clock or its files. The answer is a [`Config`] in which every value is usable as it stands, or [`Mistakes`]: all of
//! them at once, each with the variable, what it held (never a secret) and what it takes.
//!
//! Blank values count as not set, values are trimmed, and of a name that comes twice the first counts. `variables.rs` is
//! the one definition of the variables: parsing, `--help`, the tables in the documents and the spelling check follow it.

mod access;
mod aws;
mod choice;
mod delivery;
mod dialects;
mod environment;
mod event;
mod help;
mod identity;
mod log;
mod mistakes;
mod overrides;
mod parse;
mod process;
mod reader;
mod sink;
mod source;
mod spelling;
mod table_ref;
mod variable;
mod variables;
mod warning;

use std::ffi::OsString;
use std::time::SystemTime;

use environment::Environment;
use reader::{Reader, Reported};

pub use access::{Access, Certificates, ClientCertificateFiles, InvalidCertificates, TokenFile};
pub use aws::{Aws, AwsOverrides, Secret, StaticCredentials};
pub use delivery::{Batch, Delivery, DeliveryOrder, OnUndeliverable, RetryLimits};
pub use event::{Event, EventData, EventMode, EventProfile};
pub use help::{help, markdown};
pub use identity::Identity;
pub use log::{Log, LogFormat};
pub use mistakes::{Held, Mistake, Mistakes};
pub(crate) use overrides::is_forbidden_in_attributes;
pub use process::{LegacyMetrics, Process};
pub use sink::Sink;
pub use source::{CheckpointStore, OnDataLoss, Pace, Source, StartPosition};
pub use table_ref::{InvalidTableRef, TableRef};
pub use variable::{Fallback, Group, Takes, Variable};
pub use variables::ALL as VARIABLES;
pub(crate) use warning::POSITIONS_IN_MEMORY;
pub use warning::Warning;

/// What defaults and checks depend on besides the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The current time; a start position may not lie behind it.
    pub now: SystemTime,
    /// Whether a person is likely to read the log: it is text by default then.
    pub stdout_is_terminal: bool,
}

/// Everything that can be configured, checked.
///
/// Its `Debug` form shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What to read, and how.
    pub source: Source,
    /// What events look like.
    pub event: Event,
    /// Where events go.
    pub sink: Sink,
    /// Where events go that cannot be delivered there; set whenever `delivery.on_undeliverable` asks for it.
    pub dead_letter_sink: Option<Sink>,
    /// TLS trust and client credentials for sinks.
    pub access: Access,
    /// How events are delivered there.
    pub delivery: Delivery,
    /// Memory, shutdown and the port.
    pub process: Process,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of AWS beyond the SDK's own settings.
    pub aws: Aws,
    /// Who this process is to the platform.
    pub identity: Identity,
    /// What the operator should hear although it prevents nothing.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads all variables together.
    ///
    /// Variables that are not ours are ignored whatever they hold.
    ///
    /// # Errors
    /// All mistakes at once, with the warnings that may explain them; the process should end with 64.
    pub fn from_env_vars<I>(variables: I, facts: &Facts) -> Result<Self, Mistakes>
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        let mut environment = Environment::new(variables);
        let translation = environment.translate();
        let mut reader = Reader::new(environment.misspelt(), translation);
        let given = environment.given(&mut reader);
        reader.take(given);
        let config = Self::read(&mut reader, facts);
        reader.finish(config)
    }

    fn read(reader: &mut Reader, facts: &Facts) -> Result<Self, Reported> {
        reader.refuse_what_comes_later();
        let source = Source::read(reader, facts.now);
        let event = Event::read(reader);
        let sink = Sink::read(reader);
        let access = Access::read(reader, sink.as_ref().is_ok_and(|sink| sink.authorization.is_some()));
        let delivery = Delivery::read(reader, event.as_ref().ok().map(|event| event.mode));
        let dead_letter_sink = Sink::read_dead_letter(reader, delivery.map(|delivery| delivery.on_undeliverable));
        let process = Process::read(reader);
        let identity = Identity::read(reader);
        let component = identity.as_ref().ok().and_then(|identity| identity.component.as_deref());
        let log = Log::read(reader, component, facts.stdout_is_terminal);
        let aws = Aws::read(reader);
        Ok(Self {
            source: source?,
            event: event?,
            sink: sink?,
            access: access?,
            dead_letter_sink: dead_letter_sink?,
            delivery: delivery?,
            process: process?,
            log: log?,
            aws: aws?,
            identity: identity?,
            warnings: Vec::new(),
        })
    }
}
