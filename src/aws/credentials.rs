//! Where credentials come from, and what they may look like.
//!
//! Contract: the SDK's signer panics over an id or a token that cannot stand in a header, and a secret with a line break signs
//! nothing that AWS accepts. So whatever a source gives passes `CheckedProvider` before anything is signed with it: blanks and
//! line breaks around a text are left out, anything else but visible ASCII is an error of that source, and the next call asks it
//! again. That holds for what a role is assumed with too; so the roles of a profile are assumed here and not by the SDK's own
//! provider, which signs by itself.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{Profile, ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// What CloudTrail shows as the session's name where a role is assumed.
const SESSION_NAME: &str = "dynamodb-streams-adapter";

/// Stands for a profile without its role.
const WITHOUT_ROLE: &str = "dynamodb-streams-adapter-without-role";

/// What a profile gets credentials from, besides keys and other profiles.
///
/// Source: `base_provider` in `profile/credentials/repr.rs` of `aws-config`.
const OWN_SOURCES: [&str; 7] = [
    "sso_session",
    "sso_account_id",
    "sso_region",
    "sso_role_name",
    "sso_start_url",
    "login_session",
    "credential_process",
];

/// A role to assume with the credentials of somebody else.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub arn: String,
    pub external_id: Option<String>,
    pub session_name: Option<String>,
}

/// What an error says of a text that nothing can be signed with.
pub const UNUSABLE: &str = "has a blank, a line break or another character that is not visible ASCII";

/// Credentials of a source have a text that nothing can be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} {UNUSABLE}: remove it at its source")]
pub struct InvalidCredentials(&'static str);

/// Gives what another provider gives, if it can be used.
///
/// The SDK's providers read files where they stand, which a pipe or a volume that hangs never lets end. So they are asked on a thread of
/// their own: one at a time, that of a file which is never read to its end for good.
#[derive(Debug)]
pub(super) struct CheckedProvider {
    provider: SharedCredentialsProvider,
    turn: Arc<Mutex<()>>,
}

impl CheckedProvider {
    pub(super) fn new(provider: impl ProvideCredentials + 'static) -> Self {
        Self { provider: SharedCredentialsProvider::new(provider), turn: Arc::default() }
    }

    async fn ask(&self) -> provider::Result {
        let (provider, turn) = (self.provider.clone(), self.turn.clone().lock_owned().await);
        let (runtime, given_up) = (Handle::current(), CancellationToken::new());
        // Who asks no more, as at the end of the process, must leave nothing behind that waits for a timer.
        let _given_up = given_up.clone().drop_guard();
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match runtime.block_on(select(pin!(given_up.cancelled()), provider.provide_credentials())) {
                Either::Right((found, _)) => found,
                Either::Left(_) => Err(CredentialsError::unhandled("nobody waits for them any more")),
            }
        });
        checked(asked.await.map_err(CredentialsError::unhandled)??)
    }
}

impl ProvideCredentials for CheckedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        checked(self.provider.fallback_on_interrupt()?).ok()
    }
}

fn checked(found: Credentials) -> provider::Result {
    let id = header_text("access key id", found.access_key_id())?;
    let secret = header_text("secret access key", found.secret_access_key())?;
    let token = found.session_token().map(|token| header_text("session token", token)).transpose()?;
    if (id, secret, token) == (found.access_key_id(), found.secret_access_key(), found.session_token()) {
        return Ok(found);
    }
    let token = token.map(str::to_owned);
    let mut trimmed = Credentials::builder().access_key_id(id).secret_access_key(secret).provider_name("trimmed");
    trimmed.set_session_token(token);
    trimmed.set_expiry(found.expiry());
    trimmed.set_account_id(found.account_id().cloned());
    Ok(trimmed.build())
}

fn header_text<'t>(what: &'static str, text: &'t str) -> Result<&'t str, CredentialsError> {
    let text = text.trim();
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(CredentialsError::invalid_configuration(InvalidCredentials(what))),
    }
}

/// The role's credentials, asked for with those of `source`.
pub(super) async fn assume(
    role: Role,
    source: impl ProvideCredentials + 'static,
    config: &SdkConfig,
) -> SharedCredentialsProvider {
    let session_name = role.session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
    let provider = AssumeRoleProvider::builder(role.arn).configure(config).session_name(session_name);
    let provider = match role.external_id {
        Some(id) => provider.external_id(id),
        None => provider,
    };
    SharedCredentialsProvider::new(CheckedProvider::new(provider.build_from_provider(source).await))
}

/// What a profile's own roles rest on, and the roles, that of the profile last.
#[derive(Debug)]
struct RoleChain {
    base: Base,
    roles: Vec<Role>,
}

enum Base {
    Keys(Credentials),
    /// A profile that gives credentials without another one's help.
    Profile(String),
    /// The profile whose role it is names itself: a file of a profile that has its sources of credentials and no role.
    Itself(String),
    Environment,
    Metadata,
    Container,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys(_) => "Keys(..)",
            Self::Profile(name) => name,
            Self::Itself(_) => "Itself(..)",
            Self::Environment => "Environment",
            Self::Metadata => "Ec2InstanceMetadata",
            Self::Container => "EcsContainer",
        })
    }
}

/// In place of the default chain where the selected profile assumes a role with credentials of another source; nothing where it does
/// not, or where its configuration is one that the SDK's own provider has to refuse.
pub(super) async fn of_profile_roles(
    profiles: &ProfileSet,
    providers: &ProviderConfig,
    config: &SdkConfig,
) -> Option<SharedCredentialsProvider> {
    let RoleChain { base, roles } = role_chain(profiles)?;
    let mut provider = SharedCredentialsProvider::new(match base {
        Base::Keys(keys) => CheckedProvider::new(keys),
        Base::Profile(name) => CheckedProvider::new(
            ProfileFileCredentialsProvider::builder().configure(providers).profile_name(name).build(),
        ),
        Base::Itself(file) => CheckedProvider::new(profile_without_role(file, providers)),
        Base::Environment => CheckedProvider::new(EnvironmentVariableCredentialsProvider::new()),
        Base::Metadata => CheckedProvider::new(ImdsCredentialsProvider::builder().configure(providers).build()),
        Base::Container => CheckedProvider::new(EcsCredentialsProvider::builder().configure(providers).build()),
    });
    for role in roles {
        provider = assume(role, provider, config).await;
    }
    let environment = CheckedProvider::new(EnvironmentVariableCredentialsProvider::new());
    let chain = CredentialsProviderChain::first_try("Environment", environment).or_else("Profile", provider);
    Some(SharedCredentialsProvider::new(chain))
}

/// Follows the order of the SDK's own provider.
///
/// Source: `resolve_chain` in `profile/credentials/repr.rs` of `aws-config`.
fn role_chain(profiles: &ProfileSet) -> Option<RoleChain> {
    let mut name = profiles.selected_profile();
    let (mut roles, mut visited) = (Vec::new(), Vec::new());
    loop {
        let profile = profiles.get_profile(name).filter(|_| !visited.contains(&name))?;
        visited.push(name);
        if let Some(keys) = keys(profile).filter(|_| visited.len() > 1) {
            return chain(Base::Keys(keys), roles);
        }
        let Some(role) = role(profile) else { return chain(Base::Profile(name.to_owned()), roles) };
        roles.push(role);
        match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(source), None) if source == name => {
                let base = without_role(profile).map(Base::Itself).or_else(|| keys(profile).map(Base::Keys));
                return chain(base?, roles);
            }
            (Some(source), None) => name = source,
            (None, Some("Environment")) => return chain(Base::Environment, roles),
            (None, Some("Ec2InstanceMetadata")) => return chain(Base::Metadata, roles),
            (None, Some("EcsContainer")) => return chain(Base::Container, roles),
            _ => return None,
        }
    }
}

/// A profile's sources of credentials that come before its keys, as a file of a profile that has nothing else.
fn without_role(profile: &Profile) -> Option<String> {
    let has = |name: &&str| profile.get(name).is_some();
    if !OWN_SOURCES.iter().any(has) {
        return None;
    }
    let lines = OWN_SOURCES.iter().chain(&["aws_account_id"]).filter_map(|name| Some((name, profile.get(name)?)));
    let lines = lines.map(|(name, value)| format!("{name} = {}\n", value.replace(['\r', '\n'], " ")));
    Some(format!("[profile {WITHOUT_ROLE}]\n{}", lines.collect::<String>()))
}

/// What it refers to, a session of SSO, is where it always is.
fn profile_without_role(file: String, providers: &ProviderConfig) -> ProfileFileCredentialsProvider {
    let files = EnvConfigFiles::builder()
        .include_default_config_file(true)
        .include_default_credentials_file(true)
        .with_contents(EnvConfigFileKind::Config, file);
    ProfileFileCredentialsProvider::builder()
        .configure(providers)
        .profile_files(files.build())
        .profile_name(WITHOUT_ROLE)
        .build()
}

fn chain(base: Base, mut roles: Vec<Role>) -> Option<RoleChain> {
    roles.reverse();
    (!roles.is_empty()).then_some(RoleChain { base, roles })
}

fn role(profile: &Profile) -> Option<Role> {
    // A web identity needs no other credentials, and nothing is signed with it.
    if profile.get("web_identity_token_file").is_some() {
        return None;
    }
    let text = |name: &str| profile.get(name).map(str::to_owned);
    Some(Role { arn: text("role_arn")?, external_id: text("external_id"), session_name: text("role_session_name") })
}

fn keys(profile: &Profile) -> Option<Credentials> {
    let (id, secret) = profile.get("aws_access_key_id").zip(profile.get("aws_secret_access_key"))?;
    let token = profile.get("aws_session_token").map(str::to_owned);
    Some(Credentials::new(id, secret, token, None, "ProfileFile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(text: &str) -> ProfileSet {
        use aws_types::os_shim_internal::{Env, Fs};
        let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, text).build();
        let (fs, env) = (Fs::from_slice(&[]), Env::from_slice(&[]));
        let loaded = aws_config::profile::load(&fs, &env, &files, None);
        futures_util::FutureExt::now_or_never(loaded).expect("nothing to wait for").expect("profiles")
    }

    fn chain_of(text: &str) -> Option<(String, Vec<String>)> {
        let RoleChain { base, roles } = role_chain(&profiles(text))?;
        Some((format!("{base:?}"), roles.into_iter().map(|role| role.arn).collect()))
    }

    fn given(id: &str, secret: &str, token: Option<&str>) -> provider::Result {
        checked(Credentials::new(id, secret, token.map(str::to_owned), None, "test"))
    }

    /// Gives nothing the first time, and then credentials.
    #[derive(Debug, Default)]
    struct SlowAtFirst(std::sync::atomic::AtomicUsize);

    impl ProvideCredentials for SlowAtFirst {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let times = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            future::ProvideCredentials::new(async move {
                if times == 0 {
                    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
                }
                given("AKIA", "s", None)
            })
        }
    }

    #[tokio::test]
    async fn who_waits_no_more_ends_the_asking_and_the_next_one_has_its_turn() {
        let provider = CheckedProvider::new(SlowAtFirst::default());
        let brief = std::time::Duration::from_millis(200);
        tokio::time::timeout(brief, provider.provide_credentials()).await.expect_err("it gives nothing");
        let patience = std::time::Duration::from_secs(20);
        let found = tokio::time::timeout(patience, provider.provide_credentials()).await.expect("its turn");
        assert_eq!(found.expect("credentials").access_key_id(), "AKIA");
    }

    #[test]
    fn blanks_and_line_breaks_around_a_text_are_left_out_and_everything_else_stays() {
        let expiry = std::time::SystemTime::UNIX_EPOCH;
        let found = Credentials::builder().access_key_id("AKIA\n").secret_access_key(" s\r\n").session_token("t\t");
        let found = checked(found.expiry(expiry).account_id("1").provider_name("test").build()).expect("usable");
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("AKIA", "s"));
        assert_eq!((found.session_token(), found.expiry()), (Some("t"), Some(expiry)));
        assert_eq!(found.account_id().map(|id| id.as_str()), Some("1"));
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_an_error_that_names_it_and_does_not_show_it() {
        let inside = ["A\nB", "A B", "A\u{1}", "Aé", "A\u{7f}"];
        for text in inside {
            for (what, given) in [
                ("access key id", given(text, "s", None)),
                ("secret access key", given("A", text, None)),
                ("session token", given("A", "s", Some(text))),
            ] {
                let error = given.expect_err("not usable");
                let text_of_error = crate::error_text::causes(&error);
                assert!(text_of_error.contains(what), "{text_of_error}");
                assert!(!text_of_error.contains(text), "{text_of_error}");
            }
        }
    }

    #[test]
    fn a_profiles_roles_rest_on_what_the_sdk_would_take() {
        let base = "[profile b]\naws_access_key_id=A\naws_secret_access_key=s\n";
        let role = |more: &str| format!("[default]\nrole_arn=r1\n{more}\n{base}");
        let one = |base: &str| Some((base.to_owned(), vec!["r1".to_owned()]));
        assert_eq!(chain_of(&role("source_profile=b")), one("Keys(..)"));
        assert_eq!(
            chain_of(&role("source_profile=default\naws_access_key_id=A\naws_secret_access_key=s")),
            one("Keys(..)")
        );
        for source in [
            "credential_process=x",
            "sso_session=s",
            "login_session=l",
            "credential_process=x\naws_access_key_id=A\naws_secret_access_key=s",
        ] {
            assert_eq!(chain_of(&role(&format!("source_profile=default\n{source}"))), one("Itself(..)"), "{source}");
        }
        assert_eq!(chain_of(&role("credential_source=EcsContainer")), one("EcsContainer"));
        assert_eq!(chain_of(&role("credential_source=Ec2InstanceMetadata")), one("Ec2InstanceMetadata"));
        assert_eq!(chain_of(&role("credential_source=Environment")), one("Environment"));
        assert_eq!(chain_of("[default]\nrole_arn=r1\nsource_profile=c\n[profile c]\ncredential_process=x\n"), one("c"));
        let two = "[default]\nrole_arn=r1\nsource_profile=c\n[profile c]\nrole_arn=r2\nsource_profile=b\n".to_owned();
        assert_eq!(chain_of(&(two + base)), Some(("Keys(..)".into(), vec!["r2".into(), "r1".into()])));
    }

    #[test]
    fn what_is_no_chain_of_roles_is_left_to_the_sdk() {
        for text in [
            "",
            "[default]\naws_access_key_id=A\naws_secret_access_key=s\n",
            "[default]\nrole_arn=r1\nweb_identity_token_file=/t\n",
            "[default]\nrole_arn=r1\n",
            "[default]\nrole_arn=r1\nsource_profile=gone\n",
            "[default]\nrole_arn=r1\nsource_profile=default\n",
            "[default]\nrole_arn=r1\nsource_profile=b\ncredential_source=Environment\n",
            "[default]\nrole_arn=r1\nsource_profile=b\n[profile b]\nrole_arn=r2\nsource_profile=default\n",
            "[default]\nrole_arn=r1\ncredential_source=Elsewhere\n",
        ] {
            assert_eq!(chain_of(text), None, "{text}");
        }
    }
}
