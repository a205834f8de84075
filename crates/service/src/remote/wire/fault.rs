//! What statuses and failed connections mean for whoever asked. Knows no kind of server.

use std::io::ErrorKind;
use std::time::Duration;

use crate::remote::Fault;

/// What a connection that failed means, and its causes in one line.
pub(in crate::remote) fn fault_of_transport(error: &(dyn std::error::Error + 'static)) -> (Fault, String) {
    let detail = describe(error);
    // The TLS library's own words; its errors are too deep inside to be told apart by type.
    let is_certificate = detail.contains("invalid peer certificate");
    let fault = match is_certificate {
        true => Fault::Certificate,
        false if leads_nowhere(error) => Fault::Unreachable,
        false => Fault::Unavailable,
    };
    (fault, detail)
}

/// What a status means, where nothing more is said.
pub(in crate::remote) fn fault_of_status(status: u16) -> Fault {
    match status {
        301 | 302 | 307 | 308 => Fault::WrongRegion,
        401 => Fault::Credentials,
        403 => Fault::Denied,
        404 => Fault::NotFound,
        409 => Fault::Unavailable,
        429 | 503 => Fault::Throttled,
        413 => Fault::TooLarge,
        405 | 501 => Fault::Unsupported,
        507 => Fault::Full,
        500..=599 => Fault::Unavailable,
        _ => Fault::Protocol,
    }
}

/// For how long a server wants to be left alone, by its header `retry-after`.
pub(in crate::remote) fn pause(retry_after: Option<&str>) -> Option<Duration> {
    retry_after?.trim().parse().ok().map(Duration::from_secs)
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

/// An error and its causes in one line. The messages of credential providers name files, profiles and addresses, never
/// the credentials.
pub(in crate::remote) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
