//! The region, the credentials, and whose they are.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::get_caller_identity::{GetCallerIdentityError, GetCallerIdentityOutput};

use super::clock_skew::Clocks;
use super::fix;
use super::report::{Check, within};
use crate::aws::credentials::UNUSABLE;
use crate::aws::errors::{CredentialsTrouble, about_certificate, causes_without_dumps, without_dumps};
use crate::aws::{AwsSettings, Connections, InvalidSettings};
use crate::config::{Config, is_access_key_id};
use crate::error_text::{causes, shown};

pub(super) const REGION: &str = "region";
pub(super) const CREDENTIALS: &str = "credentials";
pub(super) const IDENTITY: &str = "identity";

const SET_REGION: &str = "export AWS_REGION=<region of the tables>";

/// So much of an access key id tells a person which one it is; the first four letters say what kind.
const SHOWN_OF_KEY: usize = 8;

/// Codes of STS that mean that these credentials work nowhere.
///
/// Source: "Common errors" of the STS API reference.
const USELESS: [&str; 6] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// What the checks of the tables need to know, and what was found on the way.
pub(super) struct Access {
    pub(super) checks: Vec<Check>,
    /// What a table's client is made of; none where the tables cannot be checked, with the check that failed.
    pub(super) connections: Result<Connections, &'static str>,
    /// The account that the credentials belong to.
    pub(super) account: Option<String>,
}

impl Access {
    fn none(checks: Vec<Check>, failed: &'static str) -> Self {
        Self { checks, connections: Err(failed), account: None }
    }
}

/// Looks for region and credentials as the adapter does, and asks STS whose they are.
pub(super) async fn check(config: &Config, limit: Duration, clocks: &Clocks) -> Access {
    let settings = AwsSettings::from(&config.aws);
    let found = match within(limit, Connections::load(&settings, config.source.common_region())).await {
        Ok(Ok(connections)) => {
            connections.config(None).map(|sdk| (sdk, connections)).map_err(|error| error.to_string())
        }
        Ok(Err(invalid)) => return invalid_settings(&invalid),
        Err(late) => Err(late),
    };
    let (sdk, connections) = match found {
        Ok((sdk, connections)) => (watched(sdk, clocks), connections),
        Err(why) => return no_region(&why),
    };
    let region = Check::ok(REGION, sdk.region().map_or("", |region| region.as_ref()));
    let key = match key(&sdk, limit).await {
        Ok(key) => key,
        Err(error) => {
            let checks = vec![region, no_credentials(config, &error), Check::skipped(IDENTITY, CREDENTIALS)];
            return Access::none(checks, CREDENTIALS);
        }
    };
    let credentials = Check::ok(CREDENTIALS, &format!("access key {key}"));
    let (identity, account) = identity(&sdk, limit).await;
    let connections = if identity.has_failed() { Err(IDENTITY) } else { Ok(connections) };
    Access { checks: vec![region, credentials, identity], connections, account }
}

/// A configuration whose clients' answers tell AWS's time.
pub(super) fn watched(sdk: SdkConfig, clocks: &Clocks) -> SdkConfig {
    match sdk.http_client() {
        Some(client) => sdk.to_builder().http_client(clocks.watching(client)).build(),
        None => sdk,
    }
}

fn invalid_settings(invalid: &InvalidSettings) -> Access {
    without_region(
        &invalid.to_string(),
        match invalid {
            InvalidSettings::Region(_) => SET_REGION,
            InvalidSettings::Endpoint(_) => {
                "export AWS_ENDPOINT_URL=<http or https URL>, or correct endpoint_url in the profile"
            }
            InvalidSettings::Bundle(_) => "export AWS_CA_BUNDLE=<PEM file with the authorities to trust>",
            InvalidSettings::File(_) => "export AWS_CONFIG_FILE=<file with profiles>  # or the variable that is named",
        },
    )
}

fn no_region(why: &str) -> Access {
    without_region(why, SET_REGION)
}

fn without_region(why: &str, fix: &str) -> Access {
    let failed = Check::fail(REGION, why).with_fix(fix);
    Access::none(vec![failed, Check::skipped(CREDENTIALS, REGION), Check::skipped(IDENTITY, REGION)], REGION)
}

/// The beginning of the access key's id, if it has the form of one: in its place may stand the secret, by mistake.
async fn key(sdk: &SdkConfig, limit: Duration) -> Result<String, NoCredentials> {
    let missing = |why: &str| NoCredentials { why: why.to_owned(), trouble: CredentialsTrouble::Missing };
    let provider = sdk.credentials_provider().ok_or_else(|| missing("no credentials provider is configured"))?;
    let late = |why: String| NoCredentials { why, trouble: CredentialsTrouble::Outage };
    let credentials = within(limit, provider.provide_credentials()).await.map_err(late)?;
    let failed = |error| {
        let trouble = CredentialsTrouble::of(&error);
        NoCredentials { why: causes_without_dumps(&error), trouble }
    };
    let credentials = credentials.map_err(failed)?;
    Ok(shown_of(credentials.access_key_id()))
}

fn shown_of(id: &str) -> String {
    match id.get(..SHOWN_OF_KEY) {
        Some(shown) if is_access_key_id(id) => format!("{shown}…"),
        _ => "of a form that AWS does not give, not shown".into(),
    }
}

/// Why there are no credentials.
struct NoCredentials {
    why: String,
    trouble: CredentialsTrouble,
}

fn no_credentials(config: &Config, NoCredentials { why, trouble }: &NoCredentials) -> Check {
    let failed = Check::fail(CREDENTIALS, &format!("no credentials: {why}"));
    if let Some(fix) = about_certificate(why) {
        return failed.with_fix(fix);
    }
    match &config.aws.assume_role_arn {
        _ if why.contains(UNUSABLE) => failed.with_fix(
            "correct the text at its source: a Secret or a file may end with a line break, or hold two lines",
        ),
        _ if *trouble == CredentialsTrouble::Outage => failed.with_fix(
            "allow connections to the source of the credentials (STS, the credentials endpoint or the process), or wait until it \
             answers",
        ),
        Some(role) if why.contains("AccessDenied") => failed.with_fix(fix::statement("sts:AssumeRole", role)),
        Some(role) => failed
            .with_fix(format!("give the process credentials that may assume {role}, or check AWS_ASSUME_ROLE_ARN")),
        None => failed.with_fix(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's service account a role (IRSA, Pod \
             Identity)",
        ),
    }
}

/// `GetCallerIdentity` needs no permission, so only its answer or the credentials' own fault decide; where STS cannot be
/// reached the tables may still be.
async fn identity(sdk: &SdkConfig, limit: Duration) -> (Check, Option<String>) {
    let call = aws_sdk_sts::Client::new(sdk).get_caller_identity().send();
    match within(limit, call).await {
        Ok(Ok(answer)) => known(answer),
        Ok(Err(error)) => (unknown(&error), None),
        Err(error) => (unreachable(&error), None),
    }
}

fn known(answer: GetCallerIdentityOutput) -> (Check, Option<String>) {
    match answer.arn {
        Some(arn) => (Check::ok(IDENTITY, &arn), answer.account),
        None => (unreachable("the response of STS contains no ARN"), answer.account),
    }
}

fn unknown<R>(error: &SdkError<GetCallerIdentityError, R>) -> Check
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let said = error.message().map_or_else(|| causes(error), |message| shown(without_dumps(message)));
    let code = error.code();
    match code {
        Some(code) if USELESS.contains(&code) => {
            let expired = code.starts_with("ExpiredToken");
            let fix = if expired { "renew the credentials: they have expired" } else { "aws sts get-caller-identity" };
            Check::fail(IDENTITY, &format!("AWS does not accept these credentials: {code}: {said}")).with_fix(fix)
        }
        Some(code) => unreachable(&format!("{code}: {said}")),
        None => unreachable(&said),
    }
}

fn unreachable(why: &str) -> Check {
    let detail = format!("the identity behind the credentials is unknown, STS did not return it: {why}");
    let allow = "allow connections to STS, or set AWS_ENDPOINT_URL_STS; the adapter needs STS only to assume a role";
    let fix = about_certificate(why).unwrap_or(allow);
    Check::warn(IDENTITY, &detail).with_fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_of_what_may_be_the_secret() {
        assert_eq!(shown_of("AKIAIOSFODNN7EXAMPLE"), "AKIAIOSF…");
        for swapped in
            ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AKIA/XUtnFEMIK7MDENG", "hunter2password", "ééééé", ""]
        {
            assert_eq!(shown_of(swapped), "of a form that AWS does not give, not shown", "{swapped}");
        }
    }
}
