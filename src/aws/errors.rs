//! The SDK's errors in this program's terms: what a failure asks for, a label for metrics, one line for a person.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::operation::RequestId as _;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error_text::{causes, chain, shown};

/// Codes that mean that AWS does not know the caller or does not let it.
///
/// Source: "Common errors" of the DynamoDB and STS API references; both spellings of a code where services differ.
const DENIED: [&str; 15] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
    "UnrecognizedClientException",
];

/// A call that failed, SDK retries included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {message}")]
pub struct CallError {
    /// The operation's name as IAM knows it, such as `GetRecords`.
    pub operation: &'static str,
    /// What the failure asks for.
    pub kind: ErrorKind,
    /// AWS's error code where there was one, else `credentials`, `credentials-unavailable`, `timeout`, `connect`, `malformed`, `http-<status>` or
    /// `other`: a metric label.
    pub code: String,
    /// What happened, with its causes, in one line; no secret.
    pub message: String,
}

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The iterator is too old: get a new one.
    ExpiredIterator,
    /// The position has been trimmed: data may be lost.
    Trimmed,
    /// The table, stream or shard does not exist.
    NotFound,
    /// Too many readers on one shard, or too many control-plane calls.
    LimitExceeded,
    Throttled,
    /// Credentials are missing, expired or lack a permission.
    Denied,
    /// Everything else: 5xx, timeouts, connections, answers that cannot be parsed. Worth another try.
    Other,
}

/// Translates what the SDK returned for `operation`, named as IAM names it.
pub(crate) fn call_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (kind, code) = classify(&error);
    let message = message(operation, &error, kind);
    CallError { operation, kind, code, message }
}

fn classify<E>(error: &SdkError<E, HttpResponse>) -> (ErrorKind, String)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let code = match error {
        SdkError::ServiceError(service) => return classify_service(service.err().code(), service.raw()),
        _ if let Some(credentials) = caused_by::<CredentialsError>(error) => {
            let trouble = CredentialsTrouble::of(credentials);
            return (trouble.kind(), trouble.code().into());
        }
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_io() => "connect",
        _ => "other",
    };
    (ErrorKind::Other, code.into())
}

fn classify_service(code: Option<&str>, response: &HttpResponse) -> (ErrorKind, String) {
    let status = response.status();
    match code {
        Some(code) => (kind_of(code), label(code)),
        None if status.is_success() => (ErrorKind::Other, "malformed".into()),
        None if status.as_u16() == 429 => (ErrorKind::Throttled, "http-429".into()),
        None => (ErrorKind::Other, format!("http-{}", status.as_u16())),
    }
}

fn kind_of(code: &str) -> ErrorKind {
    match code {
        "ExpiredIteratorException" => ErrorKind::ExpiredIterator,
        "TrimmedDataAccessException" => ErrorKind::Trimmed,
        "ResourceNotFoundException" => ErrorKind::NotFound,
        "LimitExceededException" => ErrorKind::LimitExceeded,
        code if THROTTLING_ERRORS.contains(&code) => ErrorKind::Throttled,
        code if DENIED.contains(&code) => ErrorKind::Denied,
        _ => ErrorKind::Other,
    }
}

/// A code comes from outside; as a metric's label it must be short and plain.
fn label(code: &str) -> String {
    let plain = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { code.into() } else { "other".into() }
}

fn message<E>(operation: &'static str, error: &SdkError<E, HttpResponse>, kind: ErrorKind) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let mut message = match error {
        SdkError::ServiceError(service) => said(service.err(), service.raw()),
        other => match answer_of_sts(other) {
            Some(sts) => format!("no credentials from STS: {}", sts.said),
            None => causes_without_dumps(other),
        },
    };
    if let Some(id) = error.request_id() {
        message.push_str(&format!(" (request {})", shown(id)));
    }
    let advice = match caused_by::<CredentialsError>(error) {
        Some(credentials) => Some(CredentialsTrouble::of(credentials).advice().to_owned()),
        None if kind == ErrorKind::Denied => Some(advice(operation, error.code())),
        None => about_certificate(&message).or_else(|| about_host(&message)).map(str::to_owned),
    };
    if let Some(advice) = advice {
        message.push_str("; ");
        message.push_str(&advice);
    }
    message
}

/// What the service said, in its own words where it had any.
fn said<E: ProvideErrorMetadata + Error + 'static>(error: &E, response: &HttpResponse) -> String {
    let status = response.status().as_u16();
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => shown(without_dumps(&format!("{code}: {message}"))),
        (Some(code), None) => shown(&format!("{code}, HTTP {status}")),
        (None, _) => format!("HTTP {status} without an error code: {}", causes(error)),
    }
}

fn advice(operation: &'static str, code: Option<&str>) -> String {
    match code {
        Some(code) if code.starts_with("AccessDenied") || code == "NotAuthorized" => {
            format!("allow the action dynamodb:{operation} in the IAM policy of this identity")
        }
        Some(code) if code.starts_with("ExpiredToken") => "the credentials have expired: renew them".into(),
        _ => "AWS does not accept these credentials: check them and this machine's clock".into(),
    }
}

/// What it means that there are no credentials to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialsTrouble {
    /// No source has any.
    Missing,
    /// What is configured, or what the source gave, cannot be used.
    Invalid,
    /// Their source knows who asks, and refuses.
    Refused,
    /// Their source does not answer as it should, which passes.
    Outage,
}

impl CredentialsTrouble {
    /// Where a role could not be assumed for want of other credentials, these decide.
    pub(crate) fn of(error: &CredentialsError) -> Self {
        let innermost = chain(error).filter_map(|cause| cause.downcast_ref::<CredentialsError>()).last();
        match innermost.unwrap_or(error) {
            CredentialsError::CredentialsNotLoaded(_) => Self::Missing,
            CredentialsError::InvalidConfiguration(_) => Self::Invalid,
            error if has_no_metadata(error) => Self::Missing,
            error if is_refusal(error) => Self::Refused,
            _ => Self::Outage,
        }
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Missing | Self::Invalid | Self::Refused => ErrorKind::Denied,
            Self::Outage => ErrorKind::Other,
        }
    }

    /// An alert about denials goes by the first.
    fn code(self) -> &'static str {
        match self {
            Self::Missing | Self::Invalid | Self::Refused => "credentials",
            Self::Outage => "credentials-unavailable",
        }
    }

    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "no credentials could be loaded: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role (IRSA, \
                 Pod Identity), and check AWS_ASSUME_ROLE_ARN if that is set"
            }
            Self::Invalid => {
                "correct the source of the credentials: what it gives, or how it is configured, cannot be used"
            }
            Self::Refused => {
                "the source of the credentials refuses them: check the trust policy of the role, AWS_ASSUME_ROLE_ARN or \
                 AWS_ROLE_ARN, and the pod's token"
            }
            Self::Outage => {
                "the source of the credentials (STS, an endpoint or a process) does not answer as it should; it is asked again"
            }
        }
    }
}

/// Where texts begin that may hold secrets or are of no use to people: a library's dump of a request or response, AWS's repetition of
/// the request that it was to sign (with the session token), and what a process that gives credentials wrote to its standard error.
///
/// Source: `credentials` in `credential_process.rs` of `aws-config` for the last one.
const DUMPS: [&str; 6] =
    ["Response {", "Request {", "SdkBody {", "The Canonical String", "The String-to-Sign", "Stderr: "];

/// The text up to where a dump begins.
pub(crate) fn without_dumps(text: &str) -> &str {
    let end = DUMPS.iter().filter_map(|dump| text.find(dump)).min();
    text[..end.unwrap_or(text.len())].trim_end_matches([' ', '\n', '`', '.', ':'])
}

/// The error and its causes, each up to where a dump begins.
pub(crate) fn causes_without_dumps(error: &(dyn Error + 'static)) -> String {
    without_dumps(&causes(error)).to_owned()
}

/// What STS answered where it gave no credentials.
struct StsAnswer {
    said: String,
    code: Option<String>,
    status: u16,
}

fn answer_of_sts(error: &(dyn Error + 'static)) -> Option<StsAnswer> {
    fn of<E: ProvideErrorMetadata + Error + 'static>(error: &(dyn Error + 'static)) -> Option<StsAnswer> {
        let SdkError::ServiceError(service) = caused_by::<SdkError<E, HttpResponse>>(error)? else { return None };
        let (said, code) = (said(service.err(), service.raw()), service.err().code().map(str::to_owned));
        Some(StsAnswer { said, code, status: service.raw().status().as_u16() })
    }
    of::<AssumeRoleError>(error).or_else(|| of::<AssumeRoleWithWebIdentityError>(error))
}

/// Whether the machine's metadata service, the last source that is asked, is switched off or forbidden here.
///
/// Source: `TokenErrorKind::Forbidden` in `imds/client/error.rs` of `aws-config`, whose text is all that is public.
fn has_no_metadata(error: &CredentialsError) -> bool {
    causes(error).contains("request forbidden: IMDS is disabled")
}

/// Whether the source of credentials has answered, and its answer is about who asks.
fn is_refusal(error: &CredentialsError) -> bool {
    // In the answer of STS this one is about another service.
    let is_outage = |code: &str| code == "IDPCommunicationError" || THROTTLING_ERRORS.contains(&code);
    match answer_of_sts(error) {
        Some(sts) => is_of_the_caller(sts.status) && !sts.code.as_deref().is_some_and(is_outage),
        None => {
            let text = causes(error);
            let status = text.split_once("StatusCode(").and_then(|(_, status)| status.split(')').next()?.parse().ok());
            status.is_some_and(is_of_the_caller) || text.contains("expired")
        }
    }
}

fn is_of_the_caller(status: u16) -> bool {
    (400..500).contains(&status) && status != 408 && status != 429
}

/// What to do about a certificate that is not accepted, if that is what an error's text tells.
pub(crate) fn about_certificate(text: &str) -> Option<&'static str> {
    let (_, problem) = text.split_once("invalid peer certificate: ")?;
    Some(match problem.split(|letter: char| !letter.is_ascii_alphanumeric()).next() {
        Some("UnknownIssuer" | "BadSignature") => {
            "set AWS_CA_BUNDLE to a PEM file with the CA that signed the certificate, such as that of a proxy that opens TLS, or \
             install the system's CA certificates"
        }
        _ if problem.contains("NotValidForName") || problem.contains("not valid for name") => {
            "use a host in AWS_ENDPOINT_URL that the certificate contains"
        }
        _ => "correct the certificate of the endpoint, or this machine's clock",
    })
}

/// What helps where the endpoint's host name is unknown, of which the error text says nothing: the region is a part of that name.
pub(crate) fn about_host(text: &str) -> Option<&'static str> {
    text.contains("dns error").then_some(
        "the host name of the endpoint cannot be resolved: check the region (AWS_REGION, or the ARN in TABLE), the host in \
         AWS_ENDPOINT_URL where that is set, and DNS in the pod's network",
    )
}

/// Whether an error of this type is the error itself or one of its causes.
pub(crate) fn is_caused_by<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    caused_by::<T>(error).is_some()
}

fn caused_by<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsError;

    use super::*;
    use crate::error_text::MOST_CHARS;

    #[test]
    fn a_librarys_dump_of_a_request_or_response_is_left_out() {
        let dumped =
            "error response from IMDS (code: 503). Response { status: StatusCode(503), body: SdkBody { inner: x } }";
        assert_eq!(without_dumps(dumped), "error response from IMDS (code: 503)");
        let dumped = "failed to apply endpoint `x` to request `Request { body: SdkBody { inner: secret } }`";
        assert_eq!(without_dumps(dumped), "failed to apply endpoint `x` to request");
        assert_eq!(without_dumps("connection refused"), "connection refused");
        let said = "Error retrieving credentials: external process exited with code exit status: 3. Stderr: hunter2";
        assert_eq!(without_dumps(said), said.trim_end_matches(". Stderr: hunter2"));
        let said = "Consult the documentation.\n\nThe Canonical String for this request should have been\n'POST\n/";
        assert_eq!(without_dumps(said), "Consult the documentation");
    }

    #[test]
    fn a_host_that_nobody_knows_leads_to_the_region() {
        let unknown =
            "client error (Connect): dns error: failed to lookup address information: Name or service not known";
        assert!(
            about_host(unknown)
                .is_some_and(|advice| advice.contains("check the region (AWS_REGION, or the ARN in TABLE)"))
        );
        assert_eq!(about_host("client error (Connect): tcp connect error: Connection refused (os error 111)"), None);
    }

    #[test]
    fn each_trouble_with_a_certificate_has_its_own_advice() {
        let about = |text: &str| about_certificate(&format!("io error: invalid peer certificate: {text}"));
        assert!(about("UnknownIssuer").is_some_and(|advice| advice.contains("AWS_CA_BUNDLE")));
        for problem in ["certificate not valid for name \"x\"", "NotValidForName"] {
            assert!(about(problem).is_some_and(|advice| advice.contains("a host")), "{problem}");
        }
        assert!(
            about("certificate expired: verification time 1, but certificate is not valid after 0")
                .is_some_and(|advice| advice.contains("clock"))
        );
        assert_eq!(about_certificate("connection refused"), None);
    }

    #[test]
    fn a_label_is_short_and_plain() {
        assert_eq!(label("ThrottlingException"), "ThrottlingException");
        for code in ["", "<html>", "two words", "line\nfeed", &"a".repeat(65)] {
            assert_eq!(label(code), "other", "{code}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let failed = |text: &str| call_error("GetRecords", SdkError::<GetRecordsError, _>::construction_failure(text));
        assert!(failed("a\r\nb\u{0}c").message.ends_with("a  b c"));
        assert!(failed(&"é".repeat(5000)).message.chars().count() <= MOST_CHARS + 1);
    }
}
