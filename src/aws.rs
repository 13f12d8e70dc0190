//! How this program gets at AWS: credentials, regions, endpoints, timeouts, connections.
//!
//! All of it is the SDK's default chain, read once from the environment and the profile: environment variables, profile
//! (SSO and credential processes included), web identity (IRSA), ECS and Pod Identity, the machine's metadata service;
//! `AWS_ENDPOINT_URL` and its forms for one service, FIPS and dual-stack endpoints, proxies. Only two variables are ours,
//! `AWS_ASSUME_ROLE_ARN` and `AWS_ASSUME_ROLE_EXTERNAL_ID`; they come in as [`AwsSettings`], with what the variables of other
//! adapters say instead of the chain.
//!
//! [`Connections`] is loaded once. Its clients, one a region, share credentials and the pool of connections.

pub mod errors;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::origin::Origin;

use crate::config;

/// Attempts a call, the first one included.
const ATTEMPTS: u32 = 3;
/// A connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt, to the answer's last byte: a page may have a megabyte and come from another continent.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// A call with all its attempts and the pauses between them.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(40);
/// What CloudTrail shows as the session's name where a role is assumed.
const SESSION_NAME: &str = "dynamodb-streams-adapter";

/// What the environment says about AWS beyond the SDK's own variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// `AWS_ASSUME_ROLE_ARN`: the role to take on, with whatever credentials the default chain finds.
    pub assume_role_arn: Option<String>,
    /// `AWS_ASSUME_ROLE_EXTERNAL_ID`: what the role's owner asks for besides.
    pub assume_role_external_id: Option<String>,
    /// Region of tables that name none, instead of the chain's.
    pub region: Option<String>,
    /// Where DynamoDB and its streams are, instead of where the chain says; other services stay where they are.
    pub endpoint_url: Option<String>,
    /// Instead of those that the chain would find; its `Debug` form shows no secret.
    pub credentials: Option<Credentials>,
}

impl From<&config::Aws> for AwsSettings {
    fn from(aws: &config::Aws) -> Self {
        let text = |secret: &config::Secret| secret.reveal().to_owned();
        let credentials = aws.overrides.credentials.as_ref().map(|given| {
            let (id, key) = (given.access_key_id.reveal(), given.secret_access_key.reveal());
            Credentials::new(id, key, given.session_token.as_ref().map(text), None, "environment")
        });
        Self {
            assume_role_arn: aws.assume_role_arn.clone(),
            assume_role_external_id: aws.assume_role_external_id.as_ref().map(text),
            region: aws.overrides.region.clone(),
            endpoint_url: aws.overrides.endpoint_url.clone(),
            credentials,
        }
    }
}

/// Nothing says which region to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no AWS region is configured: set AWS_REGION, or use an ARN in TABLE")]
pub struct NoRegion;

/// Configuration, credentials and connections for clients of any region.
#[derive(Debug, Clone)]
pub struct Connections {
    config: SdkConfig,
}

impl Connections {
    /// Reads the environment and the profile. Asks the network for nothing, save the machine's metadata service for its
    /// region, and that only if `region` is `None` and neither environment nor profile names one.
    ///
    /// `region`: the default for [`config`](Self::config), instead of that in `settings` and of the SDK's own search.
    pub async fn load(settings: &AwsSettings, region: Option<&str>) -> Self {
        Self::load_with(aws_config::defaults(BehaviorVersion::latest()).http_client(http_client()), settings, region)
            .await
    }

    async fn load_with(loader: ConfigLoader, settings: &AwsSettings, region: Option<&str>) -> Self {
        let loader =
            loader.timeout_config(timeouts()).retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        let loader = match region.or(settings.region.as_deref()) {
            Some(region) => loader.region(Region::new(region.to_owned())),
            None => loader,
        };
        let loader = match &settings.credentials {
            Some(credentials) => loader.credentials_provider(credentials.clone()),
            None => loader,
        };
        let config = loader.load().await;
        let config = match &settings.assume_role_arn {
            Some(role) => in_role(config, role, settings.assume_role_external_id.as_deref()).await,
            None => config,
        };
        Self { config: at_endpoint(config, settings.endpoint_url.as_deref()) }
    }

    /// What a client of `region`, or of the default region, is built from.
    ///
    /// # Errors
    /// [`NoRegion`] where there is neither.
    pub fn config(&self, region: Option<&str>) -> Result<SdkConfig, NoRegion> {
        match region {
            Some(region) => Ok(self.config.to_builder().region(Region::new(region.to_owned())).build()),
            None if self.config.region().is_some() => Ok(self.config.clone()),
            None => Err(NoRegion),
        }
    }
}

/// The same configuration with the role's credentials in the place of those that it had.
async fn in_role(config: SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
    let provider = AssumeRoleProvider::builder(role).configure(&config).session_name(SESSION_NAME);
    let provider = match external_id {
        Some(id) => provider.external_id(id),
        None => provider,
    };
    let provider = SharedCredentialsProvider::new(provider.build().await);
    config.into_builder().credentials_provider(provider).build()
}

/// Comes last: the service that hands out a role's credentials is somewhere else.
fn at_endpoint(config: SdkConfig, url: Option<&str>) -> SdkConfig {
    let Some(url) = url else { return config };
    let mut builder = config.into_builder().endpoint_url(url);
    // Without it the variables for endpoints would come first.
    builder.insert_origin("endpoint_url", Origin::shared_config());
    builder.build()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

/// The SDK's default client as one value, so that everybody shares its connections; by itself every client would make
/// its own and read the system's root certificates again.
fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}

#[cfg(test)]
mod tests;
