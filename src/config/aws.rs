//! The IAM role to assume, and what other adapters' variables say of region, endpoint and credentials.

use std::fmt;

use super::parse::InvalidValue;
use super::reader::{AlreadyReported, Reader};
use super::variable::{Accepts, Group, Variable, variables};

variables! {
    AWS_ASSUME_ROLE_ARN as aws_assume_role_arn: String = role_arn {
        group: Group::Aws,
        accepts: Accepts::Phrase("the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/reader`"),
        meaning: "IAM role to assume, with the credentials that the SDK finds. Region, credentials and endpoints use \
            the SDK's own variables: `AWS_REGION`, `AWS_ENDPOINT_URL` and so on.",
    }
    AWS_ASSUME_ROLE_EXTERNAL_ID as aws_assume_role_external_id: Secret = external_id {
        group: Group::Aws,
        accepts: Accepts::Phrase("2 to 1224 of the characters `a-z A-Z 0-9 _ + = , . @ : / -`"),
        meaning: "External id that the role's trust policy requires; only with `AWS_ASSUME_ROLE_ARN`.",
        secret: true,
    }
}

/// What is asked of AWS beyond the SDK's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aws {
    /// The role to assume with the credentials that the SDK finds.
    pub assume_role_arn: Option<String>,
    /// What the role's trust policy asks for; only together with the role.
    pub assume_role_external_id: Option<Secret>,
    /// What the variables of another adapter say in place of the SDK's own search.
    pub overrides: AwsOverrides,
}

/// What stands in for what the SDK would find by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AwsOverrides {
    /// The region of tables that are not named by an ARN; that of the environment where no other adapter's variable names one.
    pub region: Option<String>,
    /// The endpoint of DynamoDB and of its streams, not of other services.
    pub endpoint_url: Option<String>,
    /// The credentials.
    pub credentials: Option<StaticCredentials>,
    /// The file of the authorities to trust, instead of the system's.
    pub ca_bundle: Option<String>,
    /// Attempts a call.
    pub max_attempts: Option<u32>,
}

/// Credentials that were set as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// The id of the access key.
    pub access_key_id: Secret,
    /// The key that signs requests.
    pub secret_access_key: Secret,
    /// Only with temporary credentials.
    pub session_token: Option<Secret>,
}

/// A text that its `Debug` form does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Aws {
    /// `overrides` is what the variables of another adapter say.
    pub(super) fn read(reader: &mut Reader, overrides: AwsOverrides) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let role = reader.optional(&given.aws_assume_role_arn);
        let external_id = reader.optional(&given.aws_assume_role_external_id);
        let (assume_role_arn, assume_role_external_id) = (role?, external_id?);
        if assume_role_arn.is_none() && assume_role_external_id.is_some() {
            let why = "AWS_ASSUME_ROLE_ARN is not set".into();
            return Err(reader.refused(&given.aws_assume_role_external_id, why));
        }
        Ok(Self { assume_role_arn, assume_role_external_id, overrides })
    }
}

/// `arn:<partition>:iam::<account>:role/<path and name>`
pub(super) fn role_arn(text: &str) -> Result<String, InvalidValue> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_role = match parts[..] {
        ["arn", partition, "iam", "", account, resource] => {
            let has_name = resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && !name.ends_with('/'));
            !partition.is_empty() && !account.is_empty() && has_name
        }
        _ => false,
    };
    match is_role && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("not the ARN of a role".into()),
    }
}

/// Source: `ExternalId` of `AssumeRole` in the STS API model.
fn external_id(text: &str) -> Result<Secret, InvalidValue> {
    if !(2..=1224).contains(&text.len()) {
        return Err("too short or too long".into());
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    match text.bytes().all(is_allowed) {
        true => Ok(Secret(text.to_owned())),
        false => Err("it has other characters".into()),
    }
}
