//! What a bucket, a prefix and the address of a server may look like. Asks nobody.

use super::error::Problem;

pub(super) fn value(text: &str, why: &'static str) -> Problem {
    Problem::Value { value: text.to_owned(), why }
}

pub(super) fn word(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Err(value(text, "is empty"));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(value(text, "contains white space"));
    }
    Ok(text.to_owned())
}

pub(super) fn bucket_name(text: &str) -> Result<String, Problem> {
    let name = word(text)?;
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !fits || name.len() > 255 || name.bytes().all(|b| b == b'.') {
        return Err(value(
            text,
            "is not a bucket name (letters, digits, `.`, `-`, `_`; no address and no path)",
        ));
    }
    Ok(name)
}

pub(super) fn object_prefix(text: &str) -> Result<String, Problem> {
    let prefix = text.trim().trim_matches('/');
    if prefix.is_empty() {
        let why = "names nothing: leave the setting out for `artifacts`, or give a name such as `team/kache`";
        return Err(value(text, why));
    }
    if prefix.split('/').any(|part| matches!(part, "" | "." | "..")) || prefix.chars().any(char::is_control) {
        return Err(value(text, "is not a prefix of object names"));
    }
    Ok(prefix.to_owned())
}

/// Checks the address of a server: scheme, host, optional port and path; returns it without trailing slash.
pub(super) fn endpoint_url(text: &str) -> Result<String, Problem> {
    let bad = |why| Err(value(text, why));
    let url = text.trim();
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return bad("is not an address that starts with https:// or http://");
    };
    if url.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '\\')) {
        return bad("contains a character that no address has");
    }
    if url.contains(['?', '#']) {
        return bad("has a query or fragment, which the address of a remote can't have");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(value("…@…", "has a user name in it; credentials don't belong into an address"));
    }
    let (host, port) = match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    };
    if host.is_empty() || (host.starts_with('[') != host.ends_with(']')) {
        return bad("has no host name");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|n| n == 0) || port.parse::<u16>().is_err()) {
        return bad("has a port that is not a number from 1 to 65535");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Whether what is transferred could be read on the way.
pub(super) fn is_plain_http_to_another_machine(endpoint: &str) -> bool {
    let host = host_of(endpoint);
    let loopback = host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    endpoint.starts_with("http://") && !loopback
}

/// The host in an address, without brackets and port.
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}
