//! What an answer of a server means for whoever asked. Knows codes and statuses, no operations.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::connect::without_credentials;
use crate::remote::Fault;
use crate::remote::wire::fault::{describe, fault_of_status, fault_of_transport, pause};

/// Kind and details of a failed request.
pub(super) struct Failure {
    pub fault: Fault,
    pub detail: String,
    /// What the server says about when to come again.
    pub pause: Option<Duration>,
    /// The region of the bucket, and the address to which the server sends, where it names them.
    pub elsewhere: (Option<String>, Option<String>),
}

impl Failure {
    fn new(fault: Fault, detail: String) -> Self {
        Self { fault, detail, pause: None, elsewhere: (None, None) }
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
            let location = answer.raw().headers().get("location").map(str::to_owned);
            let elsewhere = if fault == Fault::WrongRegion { (region, location) } else { Default::default() };
            if let Some(region) = &elsewhere.0 {
                detail = format!("{detail}; the bucket is in region {region}");
            } else if let Some(location) = &elsewhere.1 {
                detail = format!("{detail}; the server sends to {location}");
            }
            let pause = pause(answer.raw().headers().get("retry-after"));
            Failure { fault, detail, pause, elsewhere }
        }
        SdkError::ResponseError(_) => Failure::new(Fault::Protocol, describe(&error)),
        SdkError::ConstructionFailure(_) if credentials_error(&error).is_none() => {
            Failure::new(Fault::Unsupported, describe(&error))
        }
        _ => {
            if let Some(why) = credentials_error(&error) {
                return Failure::new(Fault::Credentials, without_credentials(why));
            }
            let (fault, detail) = fault_of_transport(&error);
            Failure::new(fault, detail)
        }
    }
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
        // Ceph and Garage; MinIO's for a bucket and for its disks.
        "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
            return Fault::Full;
        }
        _ => {}
    }
    fault_of_status(status)
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
            (403, "QuotaExceeded", Fault::Full),
            (507, "", Fault::Full),
            (400, "BadDigest", Fault::Protocol),
        ] {
            assert_eq!(fault_of(status, code), expected, "{status} {code}");
        }
    }
}
