//! Where positions are stored: in memory, in a file, or in a DynamoDB table with a region, an endpoint and a role of its own; and
//! how long a process may go on without renewing its lease there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::aws::role_arn;
use super::parse::{self, InvalidValue};
use super::reader::{AlreadyReported, Reader, Warning};
use super::sdk_variables::{endpoint_url, is_region};
use super::table_ref::{InvalidTableRef, TableRef};
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    CHECKPOINT_STORE as checkpoint_store: Location = location {
        group: Group::Positions,
        default: Default::Value("memory"),
        accepts: Accepts::Phrase("`memory`, `file:<path>` or `dynamodb:<table>`, where the table is a name or an ARN"),
        meaning: "Where positions are stored. `memory`: a restart loses them, and the adapter warns at the start. A \
            file belongs on a volume. A DynamoDB table needs no volume: one process reads a table, others wait and \
            take over.",
    }
    CHECKPOINT_TABLE_CREATE as checkpoint_table_create: bool = parse::flag {
        group: Group::Positions,
        default: Default::Value("false"),
        accepts: Accepts::OneOf(parse::FLAGS),
        meaning: "Creates the table of `CHECKPOINT_STORE=dynamodb:<table>` at the start where it is missing, with \
            on-demand billing.",
    }
    CHECKPOINT_REGION as checkpoint_region: String = region {
        group: Group::Positions,
        accepts: Accepts::Phrase("an AWS region, such as `eu-west-1`"),
        meaning: "Region of the table of positions. Not set: that of its ARN, else the one in which `TABLE` is read.",
    }
    CHECKPOINT_ENDPOINT_URL as checkpoint_endpoint_url: String = endpoint {
        group: Group::Positions,
        accepts: Accepts::Phrase("an http or https URL, such as `http://localhost:8000`"),
        meaning: "Endpoint of DynamoDB for the table of positions. Not set: that of the reader, such as \
            `AWS_ENDPOINT_URL`.",
    }
    CHECKPOINT_ROLE_ARN as checkpoint_role_arn: PositionsRole = positions_role {
        group: Group::Positions,
        accepts: Accepts::Phrase(
            "the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/positions`, or `none` for the process's \
            own identity",
        ),
        meaning: "IAM role that reads and writes the table of positions, assumed with the credentials that the SDK \
            finds. Not set: `AWS_ASSUME_ROLE_ARN`, if that is set.",
    }
    LEASE_DURATION as lease_duration: Duration = lease_duration {
        group: Group::Positions,
        default: Default::Value("15s"),
        accepts: Accepts::Phrase("a duration from `3s` to `10m`, such as `15s`"),
        meaning: "With `CHECKPOINT_STORE=dynamodb:<table>`: how long a process may read a table without renewing its \
            lease, which it does every third of that time. After a crash another process takes over about that much \
            later.",
    }
}

/// The shortest lease: a renewal has a third of it to come through.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// The longest lease: after a crash nobody reads for that long.
const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// Where positions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointLocation {
    /// In the process: lost with it.
    Memory,
    /// In this file.
    File(PathBuf),
    /// In a DynamoDB table.
    DynamoDb(PositionsTable),
}

/// A DynamoDB table of positions, and how to get at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionsTable {
    /// A table, never a stream; none of those that are read, as far as can be told without asking AWS.
    pub table: TableRef,
    /// Whether it is created where it is missing.
    pub create: bool,
    /// The region where one is named, by its variable or by the table's ARN.
    pub region: Option<String>,
    /// Where DynamoDB is, instead of where the reader looks for it.
    pub endpoint_url: Option<String>,
    /// Whose permissions are used.
    pub role: PositionsRole,
    /// For how long a lease is claimed and renewed: 3 s to 10 min.
    pub lease_duration: Duration,
}

/// With whose permissions positions are read and written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PositionsRole {
    /// Those with which the tables are read.
    #[default]
    OfReader,
    /// Those of the credentials that the SDK finds, whatever role reads the tables.
    OfProcess,
    /// Those of this role, assumed with the credentials that the SDK finds.
    Assumed(String),
}

/// What `CHECKPOINT_STORE` says by itself.
enum Location {
    Memory,
    File(PathBuf),
    Table(TableRef),
}

/// The setting that reads the others.
const UNLESS_DYNAMODB: &str = "CHECKPOINT_STORE=dynamodb:<table>";

impl CheckpointLocation {
    /// `read_tables` are those of `TABLE`, if they are known.
    pub(super) fn read(reader: &mut Reader, read_tables: Option<&[TableRef]>) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let location = reader.value(&given.checkpoint_store);
        let create = reader.value(&given.checkpoint_table_create);
        let region = reader.optional(&given.checkpoint_region);
        let endpoint_url = reader.optional(&given.checkpoint_endpoint_url);
        let role = reader.optional(&given.checkpoint_role_arn);
        let lease_duration = reader.value(&given.lease_duration);
        let table = match location? {
            Location::Table(table) => table,
            Location::File(path) => {
                warn_of_what_has_no_effect(reader, &given);
                return Ok(Self::File(path));
            }
            Location::Memory => {
                warn_of_what_has_no_effect(reader, &given);
                reader.warn(Warning::PositionsInMemory);
                return Ok(Self::Memory);
            }
        };
        let (region, endpoint_url, role) = (region?, endpoint_url?, role?);
        if let (Some(region), Some(of_arn)) = (region.as_deref(), table.region())
            && region != of_arn
        {
            let why = format!("the ARN in CHECKPOINT_STORE names the region {of_arn}");
            return Err(reader.refused(&given.checkpoint_region, why.into()));
        }
        let is_elsewhere = region.is_some() || endpoint_url.is_some() || role.is_some();
        let is_same = |read: &TableRef| is_same_table(&table, read, is_elsewhere);
        if read_tables.is_some_and(|tables| tables.iter().any(is_same)) {
            let why = "TABLE names this table too: each stored position would be a change to deliver";
            return Err(reader.refused(&given.checkpoint_store, why.into()));
        }
        Ok(Self::DynamoDb(PositionsTable {
            region: region.or_else(|| table.region().map(str::to_owned)),
            table,
            create: create?,
            endpoint_url,
            role: role.unwrap_or_default(),
            lease_duration: lease_duration?,
        }))
    }
}

fn warn_of_what_has_no_effect(reader: &mut Reader, given: &Given) {
    reader.warn_no_effect(&given.checkpoint_table_create, UNLESS_DYNAMODB);
    reader.warn_no_effect(&given.checkpoint_region, UNLESS_DYNAMODB);
    reader.warn_no_effect(&given.checkpoint_endpoint_url, UNLESS_DYNAMODB);
    reader.warn_no_effect(&given.checkpoint_role_arn, UNLESS_DYNAMODB);
    reader.warn_no_effect(&given.lease_duration, UNLESS_DYNAMODB);
}

/// Whether the table of positions is one that is read. A name alone may mean a table of another account, region or service.
fn is_same_table(positions: &TableRef, read: &TableRef, is_elsewhere: bool) -> bool {
    match (positions.table_arn(), read.table_arn()) {
        (Some(positions), Some(read)) => positions == read,
        _ => !is_elsewhere && positions.table_name() == read.table_name(),
    }
}

fn location(text: &str) -> Result<Location, InvalidValue> {
    if text == "memory" {
        return Ok(Location::Memory);
    }
    if let Some(table) = text.strip_prefix("dynamodb:") {
        return table_of_positions(table).map(Location::Table);
    }
    let path = text.strip_prefix("file:").ok_or("unknown store")?;
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("a file URL with a host".into()),
        None => path,
    };
    let is_directory = path.ends_with("/.") || path.ends_with('/') || Path::new(path).file_name().is_none();
    match is_directory {
        true => Err("not the path of a file".into()),
        false => parse::path(path).map(Location::File),
    }
}

fn table_of_positions(text: &str) -> Result<TableRef, InvalidValue> {
    let table: TableRef = text.parse().map_err(|error: InvalidTableRef| error.to_string())?;
    match table.stream_arn() {
        Some(_) => Err("the ARN of a stream: positions are stored in a table".into()),
        None => Ok(table),
    }
}

fn region(text: &str) -> Result<String, InvalidValue> {
    match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("not a region name".into()),
    }
}

fn endpoint(text: &str) -> Result<String, InvalidValue> {
    endpoint_url(&parse::sendable_url(text)?)
}

fn positions_role(text: &str) -> Result<PositionsRole, InvalidValue> {
    match text {
        "none" => Ok(PositionsRole::OfProcess),
        _ => role_arn(text).map(PositionsRole::Assumed),
    }
}

fn lease_duration(text: &str) -> Result<Duration, InvalidValue> {
    match parse::duration(text)? {
        duration if duration < SHORTEST_LEASE => Err("too small".into()),
        duration if duration > LONGEST_LEASE => Err("too large".into()),
        duration => Ok(duration),
    }
}
