//! How this program gets at AWS: credentials, regions, endpoints, timeouts, connections.
//!
//! All of it is the SDK's default chain, read once from the environment and the profile: environment variables, profile
//! (SSO and credential processes included), web identity (IRSA), ECS and Pod Identity, the machine's metadata service;
//! `AWS_ENDPOINT_URL` and its forms for one service, FIPS and dual-stack endpoints, proxies. Only two variables are ours,
//! `AWS_ASSUME_ROLE_ARN` and `AWS_ASSUME_ROLE_EXTERNAL_ID`; they come in as [`AwsSettings`], with what the variables of other
//! adapters say instead of the chain.
//!
//! Region, endpoints and credentials are texts from outside, and the SDK takes them as they are: see [`credentials`] for what
//! becomes of the one kind; the others are checked once, here.
//!
//! [`Connections`] is loaded once. Its clients, one a region, share credentials and the pool of connections.

pub mod credentials;
pub mod errors;
mod files;
mod http_client;
mod keys_folder;

use std::path::PathBuf;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::{ProvideRegion, future};
use aws_config::profile::{self, ProfileFileRegionProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::origin::Origin;
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use self::credentials::{CheckedProvider, Role};
pub use self::files::TooLargeFile;
pub use self::http_client::InvalidBundle;
use self::http_client::http_client;
use self::keys_folder::KeysFolder;
use crate::config;
use crate::error_text::shown;

/// Attempts a call, the first one included, unless the environment or the profile says otherwise.
const ATTEMPTS: u32 = 3;
/// A connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt, to the answer's last byte: a page may have a megabyte and come from another continent.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// A call with all its attempts and the pauses between them.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(40);
/// The services whose endpoints can be named, as the SDK calls them in the environment and in a profile.
const SERVICES: [&str; 3] = ["DynamoDB", "DynamoDB Streams", "STS"];

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
    /// A folder with credentials in files, instead of all these.
    pub credentials_folder: Option<PathBuf>,
    /// `AWS_CA_BUNDLE`: the file of the authorities to trust, instead of the system's and of a profile's.
    pub ca_bundle: Option<String>,
    /// `AWS_MAX_ATTEMPTS`
    pub max_attempts: Option<u32>,
}

impl AwsSettings {
    /// For the table of positions: what is not said of it is as for the tables that are read.
    pub fn for_positions(aws: &config::Aws, table: &config::PositionsTable) -> Self {
        let reader = Self::from(aws);
        let (assume_role_arn, assume_role_external_id) = match &table.role {
            config::PositionsRole::OfReader => (reader.assume_role_arn, reader.assume_role_external_id),
            config::PositionsRole::OfProcess => (None, None),
            config::PositionsRole::Assumed(arn) => (Some(arn.clone()), None),
        };
        let endpoint_url = table.endpoint_url.clone().or(reader.endpoint_url);
        Self { assume_role_arn, assume_role_external_id, endpoint_url, ..reader }
    }

    /// For what the scaler looks at with these permissions, at this endpoint if one is named.
    pub fn for_scaling(aws: &config::Aws, identity: &config::ScalingIdentity, endpoint: Option<&str>) -> Self {
        let of_process = Self::from(aws);
        let endpoint_url = endpoint.map(str::to_owned).or_else(|| of_process.endpoint_url.clone());
        let settings = Self { endpoint_url, ..of_process };
        match identity {
            config::ScalingIdentity::OfProcess => settings,
            config::ScalingIdentity::Role { arn, external_id } => {
                Self { assume_role_arn: Some(arn.clone()), assume_role_external_id: external_id.clone(), ..settings }
            }
            config::ScalingIdentity::Keys(folder) => Self {
                assume_role_arn: None,
                assume_role_external_id: None,
                credentials_folder: Some(folder.clone()),
                ..settings
            },
        }
    }

    fn role(&self) -> Option<Role> {
        let arn = self.assume_role_arn.clone()?;
        Some(Role { arn, external_id: self.assume_role_external_id.clone(), session_name: None })
    }
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
            credentials_folder: None,
            ca_bundle: aws.overrides.ca_bundle.clone(),
            max_attempts: aws.overrides.max_attempts,
        }
    }
}

/// Nothing says which region to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no AWS region is configured: set AWS_REGION, or use an ARN in TABLE")]
pub struct NoRegion;

/// What is configured cannot work, here or in any other place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// Neither a host name nor a header can hold it.
    #[error("the AWS region {0:?} is not a region name: set AWS_REGION, or correct `region` in the profile")]
    Region(String),
    /// Nothing would be trusted.
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
    /// It would fill the memory.
    #[error(transparent)]
    File(#[from] TooLargeFile),
    /// The SDK would take it for an address.
    #[error(
        "the endpoint {0:?} is not an http or https URL: correct AWS_ENDPOINT_URL or `endpoint_url` in the profile"
    )]
    Endpoint(String),
}

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
    ///
    /// # Errors
    /// What can never work as it is configured.
    pub async fn load(settings: &AwsSettings, region: Option<&str>) -> Result<Self, InvalidSettings> {
        files::check()?;
        let profiles = profiles().await;
        let bundle = settings.ca_bundle.as_deref().or_else(|| profiles.as_ref()?.get("ca_bundle"));
        Self::load_with(http_client(bundle)?, profiles, settings, region).await
    }

    async fn load_with(
        client: SharedHttpClient,
        profiles: Option<ProfileSet>,
        settings: &AwsSettings,
        region: Option<&str>,
    ) -> Result<Self, InvalidSettings> {
        let providers = ProviderConfig::without_region().with_http_client(client.clone());
        let region = find_region(region.or(settings.region.as_deref()), &providers).await?;
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .timeout_config(timeouts())
            .retry_config(RetryConfig::standard().with_max_attempts(attempts(settings, profiles.as_ref())))
            .region(Found(region.clone()));
        let loader = match (&settings.credentials_folder, &settings.credentials) {
            (Some(folder), _) => loader.credentials_provider(KeysFolder(folder.clone())),
            (None, Some(credentials)) => loader.credentials_provider(credentials.clone()),
            (None, None) => loader,
        };
        let mut config = without_blank_endpoints(loader.load().await);
        check_endpoints(&config)?;
        if settings.credentials.is_none()
            && settings.credentials_folder.is_none()
            && let Some(profiles) = &profiles
            && let Some(provider) =
                credentials::of_profile_roles(profiles, &providers.with_region(region), &config).await
        {
            config = config.into_builder().credentials_provider(provider).build();
        }
        config = with_checked_credentials(config);
        if let Some(role) = settings.role() {
            config = in_role(config, role).await;
        }
        Ok(Self { config: at_endpoint(config, settings.endpoint_url.as_deref()) })
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

/// A region that was looked for already.
#[derive(Debug)]
struct Found(Option<Region>);

impl ProvideRegion for Found {
    fn region(&self) -> future::ProvideRegion<'_> {
        future::ProvideRegion::ready(self.0.clone())
    }
}

/// The given one, else the first that is not blank of environment, profile and metadata service: the SDK's own order.
async fn find_region(given: Option<&str>, providers: &ProviderConfig) -> Result<Option<Region>, InvalidSettings> {
    let is_set = |region: &Region| !region.as_ref().trim().is_empty();
    let mut found = match given {
        Some(given) => Some(Region::new(given.to_owned())),
        None => EnvironmentVariableRegionProvider::new().region().await,
    };
    if found.as_ref().is_none_or(|region| !is_set(region)) {
        found = ProfileFileRegionProvider::builder().configure(providers).build().region().await;
    }
    if found.as_ref().is_none_or(|region| !is_set(region)) {
        found = ImdsRegionProvider::builder().configure(providers).build().region().await;
    }
    let Some(found) = found.filter(is_set) else { return Ok(None) };
    match found.as_ref().trim() {
        region if config::is_region(region) => Ok(Some(Region::new(region.to_owned()))),
        region => Err(InvalidSettings::Region(shown(region))),
    }
}

/// What the files of profiles say; nothing where they cannot be read, which the SDK's own provider reports.
async fn profiles() -> Option<ProfileSet> {
    profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None).await.ok()
}

/// Attempts a call: `AWS_MAX_ATTEMPTS`, else `max_attempts` of the profile. How long a call takes is bounded in any case.
fn attempts(settings: &AwsSettings, profiles: Option<&ProfileSet>) -> u32 {
    let of_profile = || profiles?.get("max_attempts")?.parse().ok().filter(|attempts| *attempts > 0);
    settings.max_attempts.or_else(of_profile).unwrap_or(ATTEMPTS)
}

/// A variable that is set to nothing, as templates do it, names no endpoint.
fn without_blank_endpoints(config: SdkConfig) -> SdkConfig {
    let endpoint = config.endpoint_url().filter(|url| !url.trim().is_empty()).map(str::to_owned);
    let mut builder = config.to_builder();
    builder.set_service_config(Some(WithoutBlanks(config)));
    builder.set_endpoint_url(endpoint);
    builder.build()
}

/// What environment and profile say of one service, where they say anything.
#[derive(Debug)]
struct WithoutBlanks(SdkConfig);

impl LoadServiceConfig for WithoutBlanks {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|text| !text.trim().is_empty())
    }
}

fn check_endpoints(config: &SdkConfig) -> Result<(), InvalidSettings> {
    let of_service = |service| {
        let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        config.service_config()?.load_config(key.build().ok()?)
    };
    let urls = SERVICES.into_iter().filter_map(of_service).chain(config.endpoint_url().map(str::to_owned));
    match urls.into_iter().find(|url| !config::is_endpoint_url(url)) {
        // A password may stand before the host.
        Some(url) => Err(InvalidSettings::Endpoint(shown(url.rsplit('@').next().unwrap_or_default()))),
        None => Ok(()),
    }
}

fn with_checked_credentials(config: SdkConfig) -> SdkConfig {
    match config.credentials_provider() {
        Some(provider) => {
            let checked = SharedCredentialsProvider::new(CheckedProvider::new(provider));
            config.into_builder().credentials_provider(checked).build()
        }
        None => config,
    }
}

/// The same configuration with the role's credentials in the place of those that it had.
async fn in_role(config: SdkConfig, role: Role) -> SdkConfig {
    let Some(source) = config.credentials_provider() else { return config };
    let provider = credentials::assume(role, source, &config).await;
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

#[cfg(test)]
mod tests;
