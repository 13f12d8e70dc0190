//! What the SDK's errors ask for.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{CallError, ErrorKind};

/// Messages are cut here: some services send whole requests back, headers included.
const MAX_MESSAGE: usize = 600;

/// Turns what the SDK says into what a reader must know.
pub(super) fn call_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let no_credentials = matches!(error, SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_))
        && chain(error).any(|cause| cause.is::<CredentialsError>());
    let code = if no_credentials {
        "NoCredentials".to_owned()
    } else {
        code(error)
    };
    let kind = kind(&code);
    let mut message = one_line(error);
    if kind == ErrorKind::Denied {
        message.push_str(&advice(operation, &code));
    }
    CallError {
        operation,
        kind,
        code,
        message,
    }
}

/// An answer that arrived and makes no sense.
pub(super) fn malformed(operation: &'static str, error: &dyn Error) -> CallError {
    CallError {
        operation,
        kind: ErrorKind::Other,
        code: "malformed".to_owned(),
        message: one_line(error),
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> String {
    let status = |response: &HttpResponse| match response.status().as_u16() {
        200..=299 => "malformed".to_owned(),
        status => format!("http-{status}"),
    };
    match error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) => code.to_owned(),
            None => status(service.raw()),
        },
        SdkError::ResponseError(response) => status(response.raw()),
        SdkError::TimeoutError(_) => "timeout".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "timeout".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_io() => "connect".to_owned(),
        _ => "other".to_owned(),
    }
}

/// Source of the codes: "Common error types" of the DynamoDB API reference, and the errors of DynamoDB Streams.
fn kind(code: &str) -> ErrorKind {
    match code {
        "ExpiredIteratorException" => ErrorKind::ExpiredIterator,
        "TrimmedDataAccessException" => ErrorKind::Trimmed,
        "ResourceNotFoundException" | "TableNotFoundException" => ErrorKind::NotFound,
        "LimitExceededException" => ErrorKind::LimitExceeded,
        "ThrottlingException" | "Throttling" | "ProvisionedThroughputExceededException" | "RequestLimitExceeded" => {
            ErrorKind::Throttled
        }
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "OptInRequired"
        | "NotAuthorized"
        | "NoCredentials" => ErrorKind::Denied,
        _ => ErrorKind::Other,
    }
}

fn advice(operation: &str, code: &str) -> String {
    match code {
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => {
            format!("; allow dynamodb:{operation} for this identity")
        }
        "NoCredentials" => {
            "; give the pod credentials: a service account's role, Pod Identity, or AWS_ACCESS_KEY_ID and \
                            AWS_SECRET_ACCESS_KEY"
                .to_owned()
        }
        _ => {
            "; the credentials were not accepted: check that they are current, and the clock of this machine".to_owned()
        }
    }
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// An error and its causes; only each one's first line, and none that only repeats the one before.
fn one_line(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        if !message.contains(line) {
            message.push_str(": ");
            message.push_str(line);
        }
        cause = error.source();
    }
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(MAX_MESSAGE).collect()
}
