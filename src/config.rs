//! Environment to [`Config`]: pure, no I/O.
//!
//! The caller passes the variables and the [`EnvironmentFacts`] that defaults depend on; nothing here reads the
//! process, its clock or its files. The result is a [`Config`] in which every value is usable as it stands, or
//! [`Mistakes`]: all of them at once, each with the variable, its value (never a secret) and the values that it
//! accepts.
//!
//! Blank values count as not set, values are trimmed, and of a name that comes twice the first counts. A variable is
//! declared and read in its section (`source.rs` to `aws.rs`): parsing, `--help`, the tables in the documents and the
//! spelling check follow the declaration.

mod aws;
mod catalog;
mod checkpoint;
mod delivery;
mod dialects;
mod event;
mod parse;
mod process;
mod reader;
mod scaler;
mod scaling_rules;
mod sdk_variables;
mod sink;
mod source;
mod table_ref;
mod translator;
mod variable;

use std::ffi::OsString;
use std::time::SystemTime;

use reader::{AlreadyReported, Environment, Reader};
use translator::{Translation, Translator};

pub use aws::{Aws, AwsOverrides, Secret, StaticCredentials};
pub use catalog::{help, markdown, variables};
pub use checkpoint::{CheckpointLocation, PositionsRole, PositionsTable};
pub use delivery::{Batch, Delivery, DeliveryOrder, OnUndeliverable, RetryLimits};
pub(crate) use event::is_forbidden_in_attributes;
pub use event::{Event, EventData, EventMode, EventProfile};
#[cfg(feature = "scaler")]
pub(crate) use parse::is_group_name;
pub use process::{LegacyMetrics, Log, LogFormat, PlatformNames, Process};
pub use reader::{GivenValue, Mistake, Mistakes, Warning};
pub(crate) use reader::{POSITIONS_IN_MEMORY, shown_path};
pub use scaler::{AdvertisedAddress, Scaler, ScalerPace, ScalerReplicas, ScalerTls};
pub use scaling_rules::{NotAllowed, Permission, ScalingIdentity, ScalingRequest, ScalingRules};
pub(crate) use sdk_variables::{is_access_key_id, is_endpoint_url, is_region};
pub use sink::{Certificates, ClientCertificateFiles, InvalidCertificates, SinkAddress, SinkCredentials, TokenFile};
pub use source::{OnDataLoss, PollIntervals, Source, StartPosition};
pub use table_ref::{InvalidTableRef, TableRef};
pub use variable::{Accepts, Default, Group, Variable};

/// What defaults and checks depend on besides the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvironmentFacts {
    /// The current time; a start position may not lie behind it.
    pub now: SystemTime,
    /// Whether a person is likely to read the log: it is text by default then.
    pub stdout_is_terminal: bool,
    /// How many files, connections included, the process may have open; none: any number.
    pub open_files: Option<u64>,
    /// How many bytes of memory the process may use; none: any number.
    pub memory_limit: Option<u64>,
}

/// Everything that can be configured, checked.
///
/// Its `Debug` form shows no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What to read, and how.
    pub source: Source,
    /// What events look like.
    pub event: Event,
    /// Where events go.
    pub sink: SinkAddress,
    /// Where events go that cannot be delivered there; set whenever `delivery.on_undeliverable` asks for it.
    pub dead_letter_sink: Option<SinkAddress>,
    /// TLS trust and client credentials for sinks.
    pub sink_credentials: SinkCredentials,
    /// How events are delivered there.
    pub delivery: Delivery,
    /// Memory, shutdown and the port.
    pub process: Process,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of AWS beyond the SDK's own settings.
    pub aws: Aws,
    /// Who this process is to the platform.
    pub platform_names: PlatformNames,
    /// What the operator should hear although it prevents nothing.
    pub warnings: Vec<Warning>,
}

/// What it takes to get at stored positions: all that a subcommand about them needs to be set is `CHECKPOINT_STORE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionsConfig {
    /// Where they are.
    pub location: CheckpointLocation,
    /// Whose they are.
    pub consumer_group: String,
    /// What is asked of AWS where they are in a table.
    pub aws: Aws,
    /// The region in which `TABLE` is read, if its tables name one.
    pub region: Option<String>,
}

impl PositionsConfig {
    /// Reads the variables about positions and AWS.
    ///
    /// # Errors
    /// All mistakes in these; the process should end with 64.
    pub fn from_env_vars<I>(variables: I) -> Result<Self, Mistakes>
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        let (mut reader, aws) = reader_of(variables);
        let positions = Source::read_positions(&mut reader);
        let aws = Aws::read(&mut reader, aws);
        let config = positions.and_then(|(location, consumer_group, tables)| {
            let region = source::common_region(&tables).map(str::to_owned);
            Ok(Self { location, consumer_group, aws: aws?, region })
        });
        match (config, reader.finish()) {
            (Ok(config), (mistakes, _)) if mistakes.is_empty() => Ok(config),
            (_, (mistakes, warnings)) => Err(Mistakes::explained(mistakes, warnings)),
        }
    }
}

/// All that the scaler for KEDA needs to know.
///
/// Its `Debug` form shows no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalerConfig {
    pub scaler: Scaler,
    /// The positions of adapters, for those who scale by lag, and the lease of this scaler's replicas.
    pub positions: Option<PositionsTable>,
    /// The port of probes, metrics and status.
    pub process: Process,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of AWS beyond the SDK's own settings.
    pub aws: Aws,
    /// What the operator should hear although it prevents nothing.
    pub warnings: Vec<Warning>,
}

impl ScalerConfig {
    /// Reads the variables about the scaler, AWS, positions, ports and logs.
    ///
    /// # Errors
    /// All mistakes in these at once; the process should end with 64.
    pub fn from_env_vars<I>(variables: I, facts: &EnvironmentFacts) -> Result<Self, Mistakes>
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        let (mut reader, overrides) = reader_of(variables);
        let config = Self::read(&mut reader, facts, overrides);
        let (mistakes, mut warnings) = reader.finish();
        // Positions are not the scaler's own.
        warnings.retain(|warning| *warning != Warning::PositionsInMemory);
        match config {
            Ok(config) if mistakes.is_empty() => Ok(Self { warnings, ..config }),
            _ => Err(Mistakes::explained(mistakes, warnings)),
        }
    }

    fn read(reader: &mut Reader, facts: &EnvironmentFacts, overrides: AwsOverrides) -> Result<Self, AlreadyReported> {
        let positions = Source::read_positions(reader);
        let scaler = Scaler::read(reader, positions.as_ref().ok().map(|(location, ..)| location));
        let process = Process::read(reader);
        let platform_names = PlatformNames::read(reader);
        let component = platform_names.as_ref().ok().and_then(|names| names.component.as_deref());
        let log = Log::read(reader, component, facts.stdout_is_terminal);
        let aws = Aws::read(reader, overrides);
        let positions = match positions?.0 {
            CheckpointLocation::DynamoDb(table) => Some(table),
            CheckpointLocation::Memory | CheckpointLocation::File(_) => None,
        };
        let (scaler, process, log, aws) = (scaler?, process?, log?, aws?);
        Ok(Self { scaler, positions, process, log, aws, warnings: Vec::new() })
    }
}

impl Config {
    /// Reads all variables together.
    ///
    /// Variables that are not ours are ignored whatever they hold.
    ///
    /// # Errors
    /// All mistakes at once, with the warnings that may explain them; the process should end with 64.
    pub fn from_env_vars<I>(variables: I, facts: &EnvironmentFacts) -> Result<Self, Mistakes>
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        let (mut reader, aws) = reader_of(variables);
        let config = Self::read(&mut reader, facts, aws);
        Self::finish(config, reader)
    }

    fn read(reader: &mut Reader, facts: &EnvironmentFacts, aws: AwsOverrides) -> Result<Self, AlreadyReported> {
        let source = Source::read(reader, facts.now);
        let event = Event::read(reader);
        let sink = SinkAddress::read(reader);
        let delivery = Delivery::read(reader, event.as_ref().ok().map(|event| event.mode), facts.open_files);
        let dead_letter_sink =
            SinkAddress::read_dead_letter(reader, delivery.map(|delivery| delivery.on_undeliverable));
        let is_https = |sink: &SinkAddress| sink.uri.scheme_str() == Some("https");
        // What cannot be read may have been one.
        let has_https = sink.as_ref().map_or(true, is_https)
            || dead_letter_sink.as_ref().map_or(true, |sink| sink.as_ref().is_some_and(is_https));
        let sink_credentials = SinkCredentials::read(reader, sink.as_ref().ok(), has_https);
        let process = Process::read(reader);
        if let (Ok(process), Ok(delivery), Some(limit)) = (&process, delivery, facts.memory_limit) {
            process.compare_memory(reader, delivery.concurrency, limit);
        }
        let platform_names = PlatformNames::read(reader);
        let component = platform_names.as_ref().ok().and_then(|names| names.component.as_deref());
        let log = Log::read(reader, component, facts.stdout_is_terminal);
        let aws = Aws::read(reader, aws);
        Ok(Self {
            source: source?,
            event: event?,
            sink: sink?,
            sink_credentials: sink_credentials?,
            dead_letter_sink: dead_letter_sink?,
            delivery: delivery?,
            process: process?,
            log: log?,
            aws: aws?,
            platform_names: platform_names?,
            warnings: Vec::new(),
        })
    }

    /// The configuration, if nothing was wrong.
    fn finish(config: Result<Self, AlreadyReported>, reader: Reader) -> Result<Self, Mistakes> {
        let (mistakes, warnings) = reader.finish();
        match config {
            Ok(config) if mistakes.is_empty() => Ok(Self { warnings, ..config }),
            _ => Err(Mistakes::explained(mistakes, warnings)),
        }
    }
}

/// What is set, ready to be read section by section; and what the variables of another adapter say in place of the SDK's search.
fn reader_of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> (Reader, AwsOverrides) {
    let mut environment = Environment::new(variables);
    let Translation { values, origins, aws, mistakes, warnings } = translate(&environment);
    environment.fill(values);
    let warnings = misspelt(&environment).chain(warnings).collect();
    let mut reader = Reader::new(origins, mistakes, warnings);
    reader.take(&environment, catalog::variables());
    (reader, aws)
}

/// What the variables of another adapter and of the AWS SDK mean; nothing where there are none.
fn translate(environment: &Environment) -> Translation {
    let mut translator = Translator::new(environment);
    if dialects::is_integration_source(environment) {
        dialects::translate_integration_source(&mut translator);
    } else if dialects::is_triggermesh(environment) {
        dialects::translate_triggermesh(&mut translator);
    }
    sdk_variables::check(&mut translator);
    translator.translation
}

/// Names that look like ours and are not.
fn misspelt(environment: &Environment) -> impl Iterator<Item = Warning> {
    environment.names().filter_map(|found| {
        let known = catalog::meant(found, |name| environment.is_set(name))?;
        Some(Warning::Misspelt { found: found.to_owned(), known })
    })
}
