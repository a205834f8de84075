//! What an answer of a server means for whoever asked. Knows codes and statuses, no operations.

use std::io::ErrorKind;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::connect::{describe, without_credentials};
use crate::remote::Fault;

/// Kind and details of a failed request.
pub(super) struct Failure {
    pub fault: Fault,
    pub detail: String,
    /// What the server says about when to come again.
    pub pause: Option<Duration>,
}

impl Failure {
    fn new(fault: Fault, detail: String) -> Self {
        Self { fault, detail, pause: None }
    }
}

/// Judges a failed request.
pub(super) fn judge<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let region = answer.raw().headers().get("x-amz-bucket-region").map(str::to_owned);
            let code = answer.err().code().unwrap_or_default();
            // Some servers send an empty one.
            let message = answer.err().message().filter(|message| !message.is_empty());
            let mut detail = match (message, code) {
                (Some(message), "") => format!("{message} (status {status})"),
                (Some(message), code) => format!("{message} ({code}, status {status})"),
                (None, "") => format!("status {status}"),
                (None, code) => format!("{code}, status {status}"),
            };
            let fault = fault_of(status, code);
            if let Some(region) = region.filter(|_| fault == Fault::WrongRegion) {
                detail = format!("{detail}; the bucket is in region {region}");
            }
            let pause = answer.raw().headers().get("retry-after").and_then(|value| value.trim().parse().ok());
            Failure { pause: pause.map(Duration::from_secs), ..Failure::new(fault, detail) }
        }
        SdkError::ResponseError(_) => Failure::new(Fault::Protocol, describe(&error)),
        SdkError::ConstructionFailure(_) if credentials_error(&error).is_none() => {
            Failure::new(Fault::Unsupported, describe(&error))
        }
        _ => {
            if let Some(why) = credentials_error(&error) {
                return Failure::new(Fault::Credentials, without_credentials(why));
            }
            let detail = describe(&error);
            // The TLS library's own words; its errors are too deep inside to be told apart by type.
            let is_certificate = detail.contains("invalid peer certificate");
            let fault = match is_certificate {
                true => Fault::Certificate,
                false if leads_nowhere(&error) => Fault::Unreachable,
                false => Fault::Unavailable,
            };
            Failure::new(fault, detail)
        }
    }
}

/// Whether no connection was made because nobody takes any there.
fn leads_nowhere(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let refused = matches!(
            kind,
            Some(ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
        );
        // The standard library has no kind for it.
        if refused || error.to_string().contains("failed to lookup address") {
            return true;
        }
        next = error.source();
    }
    false
}

/// The part of an error that tells why there are no credentials.
fn credentials_error<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e (dyn std::error::Error + 'static)> {
    let mut next = Some(error);
    while let Some(error) = next.filter(|error| !error.is::<CredentialsError>()) {
        next = error.source();
    }
    next
}

/// What a status and an error code mean. Answers to HEAD have no code.
fn fault_of(status: u16, code: &str) -> Fault {
    match code {
        "NoSuchKey" => return Fault::NotFound,
        "NoSuchBucket" => return Fault::NoBucket,
        "RequestTimeTooSkewed" => return Fault::ClockSkew,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "NotSignedUp"
        | "InvalidSecurity"
        | "InvalidClientTokenId" => {
            return Fault::Credentials;
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => return Fault::WrongRegion,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded" => return Fault::Throttled,
        "NotImplemented" => return Fault::Unsupported,
        "EntityTooLarge" => return Fault::TooLarge,
        _ => {}
    }
    match status {
        301 | 302 | 307 | 308 => Fault::WrongRegion,
        401 => Fault::Credentials,
        403 => Fault::Denied,
        404 => Fault::NotFound,
        409 => Fault::Unavailable,
        429 | 503 => Fault::Throttled,
        413 => Fault::TooLarge,
        405 | 501 => Fault::Unsupported,
        500..=599 => Fault::Unavailable,
        _ => Fault::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (status, code, expected) in [
            (404, "", Fault::NotFound),
            (404, "NoSuchKey", Fault::NotFound),
            (404, "NoSuchBucket", Fault::NoBucket),
            (403, "", Fault::Denied),
            (403, "AccessDenied", Fault::Denied),
            (403, "RequestTimeTooSkewed", Fault::ClockSkew),
            (403, "SignatureDoesNotMatch", Fault::Credentials),
            (400, "ExpiredToken", Fault::Credentials),
            (301, "PermanentRedirect", Fault::WrongRegion),
            (307, "", Fault::WrongRegion),
            (400, "AuthorizationHeaderMalformed", Fault::WrongRegion),
            (503, "SlowDown", Fault::Throttled),
            (500, "InternalError", Fault::Unavailable),
            (501, "NotImplemented", Fault::Unsupported),
            (400, "BadDigest", Fault::Protocol),
        ] {
            assert_eq!(fault_of(status, code), expected, "{status} {code}");
        }
    }
}
