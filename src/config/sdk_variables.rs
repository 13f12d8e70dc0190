//! Variables that the AWS SDK reads by itself, where it does not say what is wrong with them or ends the process over it; and those
//! that only other SDKs know, which are read here, or answered with what to set.
//!
//! Contract: pure. Blanks and line breaks around a key, a token or a region are left out, with a warning: a Secret that was made
//! from a file ends with a line break. What cannot work as it stands is a mistake.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::Uri;

use super::parse::{InvalidValue, begins_like_a_url, is_quoted};
use super::translator::{Foreign, ForeignValue, Translator};

macro_rules! of_the_sdk {
    ($($name:literal)+, $accepts:literal, $secret:literal) => {
        [$(Foreign { names: &[$name], accepts: $accepts, secret: $secret }),+]
    };
}

/// What ends up in a header of a request. The SDK's signer panics over anything else.
static HEADER_TEXTS: [Foreign; 3] = of_the_sdk!(
    "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN",
    "visible ASCII characters only",
    true
);

/// Becomes the header `authorization` as it stands, such as `Basic abcd`: no call is made with anything else.
static CONTAINER_TOKEN: [Foreign; 1] = of_the_sdk!(
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "printable ASCII characters only, without blanks around them",
    true
);

/// Becomes a part of the header `user-agent` as it stands: no call is made with anything else.
static EXECUTION_ENVIRONMENT: [Foreign; 1] =
    of_the_sdk!("AWS_EXECUTION_ENV", "printable ASCII characters only, without blanks around them", false);

static REGIONS: [Foreign; 2] =
    of_the_sdk!("AWS_REGION" "AWS_DEFAULT_REGION", "an AWS region, such as eu-west-1", false);

static ENDPOINTS: [Foreign; 8] = of_the_sdk!(
    "AWS_ENDPOINT_URL" "AWS_ENDPOINT_URL_DYNAMODB" "AWS_ENDPOINT_URL_DYNAMODB_STREAMS" "AWS_ENDPOINT_URL_STS"
    "AWS_ENDPOINT_URL_SSO" "AWS_ENDPOINT_URL_SSO_OIDC" "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "an http or https URL, such as http://localhost:8000",
    false
);

/// Of these the SDK ignores every other value.
static FLAGS: [&str; 3] =
    ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"];

/// What other SDKs of AWS read and nothing here, with the value that may be set all the same, and what to do.
static UNKNOWN: [(&str, &str, &str); 9] = [
    (
        "AWS_RETRY_MODE",
        "standard",
        "calls to AWS are always retried in the mode standard; set AWS_MAX_ATTEMPTS for their number",
    ),
    (
        "AWS_STS_REGIONAL_ENDPOINTS",
        "regional",
        "STS is always asked in AWS_REGION; set AWS_ENDPOINT_URL_STS for another one",
    ),
    (
        "AWS_DEFAULTS_MODE",
        "auto",
        "timeouts of calls to AWS are fixed; set AWS_MAX_ATTEMPTS for the number of attempts",
    ),
    ("AWS_DEFAULT_PROFILE", "default", "set AWS_PROFILE instead"),
    ("AWS_ACCESS_KEY", "", "set AWS_ACCESS_KEY_ID instead"),
    ("AWS_SECRET_KEY", "", "set AWS_SECRET_ACCESS_KEY instead"),
    ("AWS_SECURITY_TOKEN", "", "set AWS_SESSION_TOKEN instead"),
    ("AWS_METADATA_SERVICE_TIMEOUT", "1", "the time that the metadata service may take is fixed"),
    ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "", "the number of attempts on the metadata service is fixed"),
];

static MAX_ATTEMPTS: [Foreign; 1] = of_the_sdk!("AWS_MAX_ATTEMPTS", "a number of attempts from 1 to 100", false);

/// The SDK takes blanks and line breaks as a part of these.
static TAKEN_AS_THEY_ARE: [&str; 6] = [
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

pub(super) fn check(translator: &mut Translator<'_>) {
    for variable in &HEADER_TEXTS {
        if let Some(found) = translator.find(variable) {
            check_header_text(translator, &found);
            warn_of_blanks(translator, variable);
            warn_of_mix_ups(translator, &found);
        }
    }
    for variable in CONTAINER_TOKEN.iter().chain(&EXECUTION_ENVIRONMENT) {
        check_whole_text(translator, variable);
    }
    check_regions(translator);
    for variable in &ENDPOINTS {
        check_endpoint(translator, variable);
    }
    for name in FLAGS {
        if let Some(Ok(text)) = translator.environment.value(name)
            && !["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        {
            translator.ignore(name, "it is neither true nor false".into());
        }
    }
    check_unknown(translator);
    for name in TAKEN_AS_THEY_ARE {
        if !translator.environment.is_trimmed(name) {
            translator.remark(name, "has blanks or line breaks around its value, which count as a part of it");
        }
        if translator.environment.value(name).and_then(Result::ok).is_some_and(is_quoted) {
            translator.remark(name, QUOTED);
        }
    }
}

const QUOTED: &str = "has quotation marks around its value, which count as a part of it: leave them out";

/// What a Secret that was made in the wrong way holds. AWS would only say that it does not know the key.
pub(super) fn warn_of_mix_ups(translator: &mut Translator<'_>, found: &ForeignValue) {
    if is_quoted(&found.text) {
        translator.remark(found.name, QUOTED);
    }
    let is_key_id = is_access_key_id(&found.text);
    // AWS_SECRET_ACCESS_KEY, and a dialect's SECRETKEY or SECRET_KEY.
    if is_key_id && found.name.contains("SECRET") {
        translator.remark(found.name, "holds the id of an access key: id and secret may have each other's value");
    }
    let decoded = || BASE64_STANDARD.decode(&found.text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if !is_key_id && decoded().is_some_and(|text| is_access_key_id(text.trim())) {
        translator.remark(
            found.name,
            "is encoded in base64: that is for `data` of a Secret, not for `stringData` and `--from-literal`",
        );
    }
}

/// Whether a text has the form of the ids that AWS gives access keys: of users (AKIA) and of sessions (ASIA).
///
/// Source: "IAM identifiers" in the IAM User Guide, unique prefixes.
pub(crate) fn is_access_key_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (16..=32).contains(&text.len())
        && ["AKIA", "ASIA"].iter().any(|prefix| text.starts_with(prefix))
        && text.bytes().all(is_allowed)
}

/// Refuses what cannot stand in a header.
pub(super) fn check_header_text(translator: &mut Translator<'_>, found: &ForeignValue) {
    if !found.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        translator.refuse(found, "it has a blank, a line break or another character that is not visible ASCII".into());
    }
}

/// What other SDKs read: the bundle of authorities and the number of attempts here too, the rest not.
fn check_unknown(translator: &mut Translator<'_>) {
    for (name, harmless, advice) in UNKNOWN {
        if translator.environment.value(name).is_some_and(|text| text != Ok(harmless)) {
            translator.ignore(name, advice.into());
        }
    }
    if let Some(Ok(path)) = translator.environment.value("AWS_CA_BUNDLE") {
        translator.translation.aws.ca_bundle = Some(path.to_owned());
    }
    let [variable] = &MAX_ATTEMPTS;
    if let Some(found) = translator.find(variable) {
        match found.text.parse().ok().filter(|attempts| (1..=100).contains(attempts)) {
            Some(attempts) => translator.translation.aws.max_attempts = Some(attempts),
            None => translator.refuse(&found, "not a number of attempts".into()),
        }
    }
}

/// Refuses what no header can hold as it stands.
fn check_whole_text(translator: &mut Translator<'_>, variable: &'static Foreign) {
    let Some(found) = translator.find(variable) else { return };
    let is_printable = found.text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_printable || !translator.environment.is_trimmed(found.name) {
        translator.refuse(&found, "it has a line break or another character that no header can hold".into());
    }
}

/// The region that stands in the environment is handed on as it is meant, unless another adapter's variable names one.
fn check_regions(translator: &mut Translator<'_>) {
    let mut region = None;
    for variable in &REGIONS {
        let Some(found) = translator.find(variable) else { continue };
        match is_region(&found.text) {
            true => warn_of_blanks(translator, variable),
            false => translator.refuse(&found, "not a region name".into()),
        }
        region = region.or(Some(found.text));
    }
    let given = &mut translator.translation.aws.region;
    *given = given.take().or(region);
}

/// A label of a host name: a region becomes one, and a part of a header.
pub(crate) fn is_region(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn check_endpoint(translator: &mut Translator<'_>, variable: &'static Foreign) {
    let Some(found) = translator.find(variable) else { return };
    let meant = endpoint_url(&found.text).and_then(|_| match translator.environment.is_trimmed(found.name) {
        true => Ok(()),
        false => Err("it has blanks or line breaks around the URL".into()),
    });
    if let Err(why) = meant {
        translator.refuse(&found, why);
    }
}

/// Whether a service can be reached there.
pub(crate) fn is_endpoint_url(text: &str) -> bool {
    endpoint_url(text).is_ok()
}

/// An address of a service, as it stands.
pub(super) fn endpoint_url(text: &str) -> Result<String, InvalidValue> {
    begins_like_a_url(text)?;
    let url: Uri = text.parse().map_err(|_| "not a URL")?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    match is_http && text.is_ascii() && url.host().is_some_and(|host| !host.is_empty()) {
        true => Ok(text.to_owned()),
        false => Err("not an http or https URL with a host".into()),
    }
}

fn warn_of_blanks(translator: &mut Translator<'_>, variable: &'static Foreign) {
    for name in variable.names {
        if !translator.environment.is_trimmed(name) {
            translator.remark(name, "has blanks or line breaks around its value, which are left out");
        }
    }
}
