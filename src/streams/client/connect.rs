//! Sets up the AWS clients: credentials, region, endpoints, timeouts.
//!
//! All that the SDK documents works as documented, because the SDK itself reads it: the default credential chain,
//! profiles, `AWS_ENDPOINT_URL*`, FIPS and dual-stack. On top come an assumed role and the region of an ARN.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use super::aws::AwsClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(40);
/// Short repetitions inside a call; longer outages are the reader's business.
const ATTEMPTS: u32 = 3;
/// The name under which the assumed role's calls appear in CloudTrail.
const SESSION_NAME: &str = "dynamodb-streams-adapter";

/// What the environment says beyond the SDK's own variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// A role to assume with the default credentials.
    pub assume_role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    pub assume_role_external_id: Option<String>,
}

/// Why no client could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A table was given by name and no region is configured.
    #[error("no region is known for table {0}: set AWS_REGION, or give the table's ARN")]
    NoRegion(String),
}

/// One set of credentials and connections for clients of any region.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// Reads the environment and profiles. No call is made to AWS's services before the first request needs it.
    pub async fn load(settings: &AwsSettings) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .load()
            .await;
        Self {
            config: assume_role(config, settings).await,
        }
    }

    /// A client for one table: in the region of its ARN, else in the configured one.
    ///
    /// # Errors
    /// When no region is known.
    pub fn client(&self, table: &str, region: Option<&str>) -> Result<AwsClient, ConnectError> {
        let region = region
            .map(|region| Region::new(region.to_owned()))
            .or_else(|| self.config.region().cloned())
            .ok_or_else(|| ConnectError::NoRegion(table.to_owned()))?;
        Ok(AwsClient::new(&self.config.to_builder().region(region).build()))
    }
}

async fn assume_role(config: SdkConfig, settings: &AwsSettings) -> SdkConfig {
    let Some(role) = &settings.assume_role_arn else {
        return config;
    };
    let mut provider = AssumeRoleProvider::builder(role)
        .session_name(SESSION_NAME)
        .configure(&config);
    if let Some(external_id) = &settings.assume_role_external_id {
        provider = provider.external_id(external_id);
    }
    let provider = provider.build().await;
    config
        .into_builder()
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(provider))
        .build()
}
