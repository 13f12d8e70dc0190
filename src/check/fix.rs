//! The fix of a failed check, exactly: IAM statements and commands with this table's names in them. Pure.

use serde::Serialize;

use crate::aws::errors::{CallError, ErrorKind, about_certificate, about_host};
use crate::checkpoint::dynamodb::aws::{definition, expiry, waiting};
use crate::config::TableRef;

/// One statement of an IAM policy.
///
/// Source: "IAM JSON policy elements reference" in the IAM User Guide.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement<'a> {
    effect: &'static str,
    action: &'a str,
    resource: &'a str,
}

/// The IAM statement that allows one action on one resource.
pub(super) fn statement(action: &str, resource: &str) -> String {
    serde_json::to_string(&Statement { effect: "Allow", action, resource }).expect("three texts are always JSON")
}

/// A table in the terms of fixes: its name, its region and its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableNames {
    pub(super) name: String,
    pub(super) region: String,
    /// Its ARN; the account is `*` where nobody told it.
    pub(super) arn: String,
    /// What allows its streams: the stream that the user named, else all that the table will ever have.
    pub(super) streams: String,
    /// Whether something else stands in AWS's place.
    pub(super) has_endpoint: bool,
}

impl TableNames {
    /// `region` is where the table is looked for, `account` whose it is unless its ARN says so.
    pub(super) fn of(table: &TableRef, region: &str, account: Option<&str>) -> Self {
        let name = table.table_name().to_owned();
        let own = || {
            let (partition, account) = (partition(region), account.unwrap_or("*"));
            format!("arn:{partition}:dynamodb:{region}:{account}:table/{name}")
        };
        let arn = table.table_arn().map_or_else(own, str::to_owned);
        let streams = table.stream_arn().map_or_else(|| format!("{arn}/stream/*"), str::to_owned);
        Self { name, region: region.to_owned(), arn, streams, has_endpoint: false }
    }

    /// The command that enables the table's stream with both images.
    pub(super) fn enable_stream(&self) -> String {
        self.update_table("StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES")
    }

    /// The commands that replace the table's stream by one with both images: a view type cannot be changed.
    ///
    /// Source: `StreamSpecification` in the DynamoDB API reference.
    pub(super) fn replace_stream(&self) -> String {
        let (disable, wait) = (self.update_table("StreamEnabled=false"), self.wait());
        format!("{disable} && {wait} && {}", self.enable_stream())
    }

    /// The command that shows which tables there are.
    pub(super) fn list_tables(&self) -> String {
        format!("aws dynamodb list-tables --region {}", self.region)
    }

    fn list_streams(&self) -> String {
        format!("aws dynamodbstreams list-streams --table-name {} --region {}", self.name, self.region)
    }

    fn update_table(&self, specification: &str) -> String {
        let (name, region) = (&self.name, &self.region);
        format!(
            "aws dynamodb update-table --table-name {name} --region {region} --stream-specification {specification}"
        )
    }

    fn wait(&self) -> String {
        format!("aws dynamodb wait table-exists --table-name {} --region {}", self.name, self.region)
    }

    /// The fix of a call that failed.
    pub(super) fn for_call(&self, error: &CallError) -> String {
        match error.kind {
            ErrorKind::Denied if is_unauthorized(&error.code) => self.permission(error),
            ErrorKind::Denied => "renew the credentials: AWS does not know them, or they have expired".into(),
            ErrorKind::Throttled | ErrorKind::LimitExceeded => {
                "stop other readers of this stream: AWS allows two per shard, and ten DescribeStream calls per second"
                    .into()
            }
            ErrorKind::NotFound => self.list_streams(),
            _ if about_host(&error.message).is_some() && !self.has_endpoint => unresolved(&self.region, &self.hosts()),
            _ => about_certificate(&error.message).map_or_else(|| self.reach(), str::to_owned),
        }
    }

    /// What a call that got no answer needs.
    pub(super) fn reach(&self) -> String {
        match self.has_endpoint {
            true => "allow connections to the endpoint in AWS_ENDPOINT_URL, or unset AWS_ENDPOINT_URL".into(),
            false => format!("allow connections to {} on port 443", self.hosts()),
        }
    }

    fn hosts(&self) -> String {
        let (region, domain) = (&self.region, domain(&self.region));
        format!("dynamodb.{region}.{domain} and streams.dynamodb.{region}.{domain}")
    }

    fn permission(&self, error: &CallError) -> String {
        let own = match error.operation {
            "DescribeTable" => &self.arn,
            "ListStreams" => "*",
            _ => &self.streams,
        };
        permission(error, own)
    }
}

/// What a call needs that was refused, where it is about this resource.
fn permission(error: &CallError, own: &str) -> String {
    let Refused { action, resource, by_deny } = Refused::read(&error.message);
    let own_action = format!("dynamodb:{}", error.operation);
    // A call may be refused for the key that the table is encrypted with.
    let foreign = action.filter(|action| !action.starts_with("dynamodb:"));
    let (action, resource) = match (foreign, resource) {
        (Some(action), Some(resource)) => (action, resource),
        _ => (own_action.as_str(), own),
    };
    match by_deny {
        true => {
            format!("remove the statement that denies {action} on {resource}: an allow statement does not override it")
        }
        false => statement(action, resource),
    }
}

/// What to do where the region of the table of positions is unknown.
pub(super) const SET_POSITIONS_REGION: &str = "export CHECKPOINT_REGION=<region of the table of positions>";

/// A table of positions in the terms of fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PositionsNames {
    pub(super) name: String,
    pub(super) region: String,
    /// Its ARN; the account is `*` where nobody told it.
    arn: String,
    /// Whether something else stands in AWS's place.
    has_endpoint: bool,
}

impl PositionsNames {
    /// `region` is where the table is looked for.
    pub(super) fn of(table: &TableRef, region: &str, has_endpoint: bool) -> Self {
        let TableNames { name, region, arn, .. } = TableNames::of(table, region, None);
        Self { name, region, arn, has_endpoint }
    }

    /// AWS has told its ARN.
    pub(super) fn known_as(&mut self, arn: Option<&str>) {
        self.arn = arn.map_or_else(|| self.arn.clone(), str::to_owned);
    }

    /// The commands that create it.
    pub(super) fn create(&self) -> String {
        self.in_region(&definition(&self.name))
    }

    /// The command that waits until it is there.
    pub(super) fn wait(&self) -> String {
        self.in_region(&waiting(&self.name))
    }

    /// The command that makes DynamoDB delete entries of finished shards.
    pub(super) fn enable_expiry(&self) -> String {
        self.in_region(&expiry(&self.name))
    }

    fn in_region(&self, commands: &str) -> String {
        format!("export AWS_REGION={} && {commands}", self.region)
    }

    /// The fix of a call that failed.
    pub(super) fn for_call(&self, error: &CallError) -> String {
        match error.kind {
            ErrorKind::Denied if is_unauthorized(&error.code) => permission(error, &self.arn),
            ErrorKind::Denied => {
                "give the process credentials that DynamoDB knows, or set CHECKPOINT_ROLE_ARN to a role that it may assume"
                    .into()
            }
            ErrorKind::NotFound => self.create(),
            ErrorKind::Throttled | ErrorKind::LimitExceeded => self.in_region(&format!(
                "aws dynamodb update-table --table-name {} --billing-mode PAY_PER_REQUEST",
                self.name
            )),
            _ if about_host(&error.message).is_some() && !self.has_endpoint => unresolved(&self.region, &self.host()),
            _ => about_certificate(&error.message).map_or_else(|| self.reach(), str::to_owned),
        }
    }

    fn host(&self) -> String {
        format!("dynamodb.{}.{}", self.region, domain(&self.region))
    }

    /// What a call that got no answer needs.
    pub(super) fn reach(&self) -> String {
        match self.has_endpoint {
            true => {
                "allow connections to the endpoint in CHECKPOINT_ENDPOINT_URL or AWS_ENDPOINT_URL, or correct it".into()
            }
            false => format!("allow connections to {} on port 443", self.host()),
        }
    }
}

/// What AWS's sentence about a refusal names.
///
/// Source: "Troubleshoot access denied error messages" in the IAM User Guide: `User: … is not authorized to perform: <action>
/// on resource: <ARN> because …`.
struct Refused<'m> {
    action: Option<&'m str>,
    resource: Option<&'m str>,
    by_deny: bool,
}

impl<'m> Refused<'m> {
    fn read(message: &'m str) -> Self {
        let word_behind = |mark: &str| message.split_once(mark)?.1.split_whitespace().next();
        Self {
            action: word_behind("not authorized to perform: "),
            resource: word_behind("on resource: "),
            by_deny: message.contains("explicit deny"),
        }
    }
}

/// Whether AWS knows the caller and does not let it; other codes are about the credentials themselves.
pub(super) fn is_unauthorized(code: &str) -> bool {
    code.starts_with("AccessDenied") || code == "NotAuthorized"
}

/// The region is a part of a host name, so a region that does not exist is a name that nobody knows.
fn unresolved(region: &str, hosts: &str) -> String {
    format!("correct the region {region} unless AWS has it, or let this machine resolve {hosts}")
}

/// The domain of AWS's endpoints in a region.
///
/// Source: "Amazon DynamoDB endpoints and quotas" in the AWS General Reference.
fn domain(region: &str) -> &'static str {
    match partition(region) {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

/// The partition of a region, for ARNs.
///
/// Source: "Amazon Resource Names" in the IAM User Guide.
fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &str, account: Option<&str>) -> TableNames {
        TableNames::of(&table.parse().expect("a table"), "eu-west-1", account)
    }

    fn denied(operation: &'static str, message: &str) -> CallError {
        let (code, message) = ("AccessDeniedException".to_owned(), message.to_owned());
        CallError { operation, kind: ErrorKind::Denied, code, message }
    }

    #[test]
    fn a_statement_names_the_table_as_precisely_as_it_is_known() {
        let error = denied("DescribeTable", "denied");
        for (table, account, arn) in [
            ("Orders", None, "arn:aws:dynamodb:eu-west-1:*:table/Orders"),
            ("Orders", Some("123456789012"), "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders"),
            ("arn:aws-cn:dynamodb:cn-north-1:1:table/Orders", None, "arn:aws-cn:dynamodb:cn-north-1:1:table/Orders"),
        ] {
            let expected = format!(r#"{{"Effect":"Allow","Action":"dynamodb:DescribeTable","Resource":"{arn}"}}"#);
            assert_eq!(names(table, account).for_call(&error), expected);
        }
        let china = TableNames::of(&"Orders".parse().expect("a table"), "cn-north-1", Some("1"));
        assert_eq!(china.arn, "arn:aws-cn:dynamodb:cn-north-1:1:table/Orders");
    }

    #[test]
    fn a_statement_for_streams_outlives_the_stream_unless_one_was_named() {
        let error = denied("GetRecords", "denied");
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
        assert!(names(table, None).for_call(&error).ends_with(&format!(r#""Resource":"{table}/stream/*"}}"#)));
        let stream = format!("{table}/stream/2026-01-01T00:00:00.000");
        assert!(names(&stream, None).for_call(&error).ends_with(&format!(r#""Resource":"{stream}"}}"#)));
    }

    #[test]
    fn a_key_that_may_not_be_used_is_named_instead_of_the_call() {
        let key = "arn:aws:kms:eu-west-1:123456789012:key/1234";
        let message = format!("User: x is not authorized to perform: kms:Decrypt on resource: {key} because no policy");
        let expected = format!(r#"{{"Effect":"Allow","Action":"kms:Decrypt","Resource":"{key}"}}"#);
        assert_eq!(names("Orders", None).for_call(&denied("GetRecords", &message)), expected);
    }

    #[test]
    fn a_statement_for_positions_is_about_their_table_alone() {
        let mut names = PositionsNames::of(&"positions".parse().expect("a table"), "eu-west-1", false);
        let statement =
            |resource: &str| format!(r#"{{"Effect":"Allow","Action":"dynamodb:PutItem","Resource":"{resource}"}}"#);
        let error = denied("PutItem", "denied");
        assert_eq!(names.for_call(&error), statement("arn:aws:dynamodb:eu-west-1:*:table/positions"));
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/positions";
        names.known_as(Some(arn));
        assert_eq!(names.for_call(&error), statement(arn));
    }

    #[test]
    fn what_an_action_on_items_lacks_is_told_from_its_error() {
        let names = PositionsNames::of(&"positions".parse().expect("a table"), "eu-west-1", false);
        let fix = |kind: ErrorKind, code: &str| {
            let (code, message) = (code.to_owned(), format!("{code}: said so"));
            names.for_call(&CallError { operation: "PutItem", kind, code, message })
        };
        assert!(fix(ErrorKind::Denied, "AccessDeniedException").starts_with(r#"{"Effect":"Allow""#));
        assert!(fix(ErrorKind::NotFound, "ResourceNotFoundException").contains("aws dynamodb create-table "));
        assert!(fix(ErrorKind::Throttled, "ThrottlingException").ends_with("--billing-mode PAY_PER_REQUEST"));
        assert!(fix(ErrorKind::Denied, "UnrecognizedClientException").contains("credentials"));
        assert!(fix(ErrorKind::Other, "timeout").contains("dynamodb.eu-west-1.amazonaws.com"));
    }

    #[test]
    fn a_host_name_that_nobody_knows_leads_to_the_region() {
        let message = "dispatch failure: io error: client error (Connect): dns error: Name or service not known";
        let (kind, code) = (ErrorKind::Other, "connect".to_owned());
        let unknown = CallError { operation: "DescribeTable", kind, code, message: message.to_owned() };
        let table: TableRef = "Orders".parse().expect("a table");
        for (fix, hosts) in [
            (TableNames::of(&table, "eu-west1", None).for_call(&unknown), "streams.dynamodb.eu-west1.amazonaws.com"),
            (PositionsNames::of(&table, "eu-west1", false).for_call(&unknown), "dynamodb.eu-west1.amazonaws.com"),
        ] {
            assert!(
                fix.starts_with("correct the region eu-west1 unless AWS has it, or ") && fix.ends_with(hosts),
                "{fix}"
            );
        }
        let elsewhere = PositionsNames::of(&table, "eu-west1", true).for_call(&unknown);
        assert!(elsewhere.contains("CHECKPOINT_ENDPOINT_URL"), "{elsewhere}");
    }

    #[test]
    fn hosts_in_china_have_their_own_domain() {
        let names = TableNames::of(&"Orders".parse().expect("a table"), "cn-north-1", None);
        assert!(
            names.reach().contains("streams.dynamodb.cn-north-1.amazonaws.com.cn on port 443"),
            "{}",
            names.reach()
        );
    }

    #[test]
    fn an_explicit_deny_is_not_fixed_by_a_statement() {
        let message = "User: x is not authorized to perform: dynamodb:GetRecords on resource: y with an explicit deny \
                       in a service control policy";
        let fix = names("Orders", None).for_call(&denied("GetRecords", message));
        assert!(fix.starts_with("remove the statement that denies dynamodb:GetRecords on arn:aws:"), "{fix}");
    }
}
