//! The SDK's errors in this program's terms: what a failure asks for, a label for metrics, one line for a person.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::operation::RequestId as _;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error_text::{beginning, causes, chain, one_line};

/// Longer messages are cut: some services repeat the whole request.
const MESSAGE_MAX_CHARS: usize = 1000;

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
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {message}")]
pub struct CallError {
    /// The operation's name as IAM knows it, such as `GetRecords`.
    pub operation: &'static str,
    /// What the failure asks for.
    pub kind: ErrorKind,
    /// AWS's error code where there was one, else `credentials`, `timeout`, `connect`, `malformed`, `http-<status>` or
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
    let message = one_line(beginning(&message(operation, &error, kind), MESSAGE_MAX_CHARS));
    CallError { operation, kind, code, message }
}

fn classify<E>(error: &SdkError<E, HttpResponse>) -> (ErrorKind, String)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let code = match error {
        SdkError::ServiceError(service) => return classify_service(service.err().code(), service.raw()),
        _ if is_caused_by::<CredentialsError>(error) => return (ErrorKind::Denied, "credentials".into()),
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
        other => causes(other),
    };
    if let Some(id) = error.request_id() {
        message.push_str(&format!(" (request {id})"));
    }
    if kind == ErrorKind::Denied {
        message.push_str("; ");
        message.push_str(&advice(operation, error.code()));
    }
    message
}

/// What the service said, in its own words where it had any.
fn said<E: ProvideErrorMetadata + Error + 'static>(error: &E, response: &HttpResponse) -> String {
    let status = response.status().as_u16();
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => format!("{code}, HTTP {status}"),
        (None, _) => format!("HTTP {status} without an error code: {}", causes(error)),
    }
}

fn advice(operation: &'static str, code: Option<&str>) -> String {
    match code {
        Some(code) if code.starts_with("AccessDenied") || code == "NotAuthorized" => {
            format!("allow the action dynamodb:{operation} in the IAM policy of this identity")
        }
        Some(code) if code.starts_with("ExpiredToken") => "the credentials have expired: renew them".into(),
        Some(_) => "AWS does not accept these credentials: check them and this machine's clock".into(),
        None => "no credentials could be loaded: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a \
                 role (IRSA, Pod Identity), and check AWS_ASSUME_ROLE_ARN if that is set"
            .into(),
    }
}

/// Whether an error of this type is the error itself or one of its causes.
pub(crate) fn is_caused_by<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| cause.is::<T>())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsError;

    use super::*;

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
        assert_eq!(failed(&"é".repeat(5000)).message.chars().count(), MESSAGE_MAX_CHARS);
    }
}
