//! Whether an address to which a server sends is of the same service, and what its endpoint is. Asks nobody.

use kache_core::config::host_of;

/// The endpoint of `location`, the address of an object in the bucket, if the server at `from` may send there: on the same
/// machine or in the same domain, and not from https to http.
pub(super) fn endpoint(from: &str, location: &str, bucket: &str) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    if scheme != "https" && !(scheme == "http" && from.starts_with("http://")) {
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.split('?').next().unwrap_or_default();
    let endpoint = match authority.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.')) {
        Some(authority) => format!("{scheme}://{authority}"),
        None => {
            let mut parts = path.split('/');
            let above: Vec<&str> = parts.by_ref().take_while(|part| *part != bucket).collect();
            // Without the bucket in it, it is no address of an object.
            if above.len() == path.split('/').count() {
                return None;
            }
            format!("{scheme}://{}", [vec![authority], above].concat().join("/"))
        }
    };
    is_same_service(host_of(from), host_of(&endpoint)).then_some(endpoint)
}

fn is_same_service(from: &str, to: &str) -> bool {
    let domain = |host: &str| -> Option<String> {
        let labels: Vec<&str> = host.split('.').collect();
        let is_name = host.parse::<std::net::IpAddr>().is_err() && labels.len() > 2;
        is_name.then(|| labels[labels.len() - 2..].join(".").to_ascii_lowercase())
    };
    from == to || domain(from).is_some_and(|from| Some(from) == domain(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_the_same_service_are_followed() {
        let aws = "https://s3.amazonaws.com";
        for (from, location, expected) in [
            (aws, "https://b.s3-us-west-2.amazonaws.com/k/x", Some("https://s3-us-west-2.amazonaws.com")),
            (
                aws,
                "https://s3.eu-west-1.amazonaws.com/b/k?list-type=2",
                Some("https://s3.eu-west-1.amazonaws.com"),
            ),
            (aws, "https://s3.evil.example/b/k", None),
            (aws, "http://s3.eu-west-1.amazonaws.com/b/k", None),
            (aws, "https://s3.eu-west-1.amazonaws.com/other/k", None),
            (aws, "/b/k", None),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9001/b/k", Some("http://127.0.0.1:9001")),
            ("http://127.0.0.1:9000", "http://127.0.0.2:9001/b/k", None),
            ("http://s3.lan/in/path", "https://s3.lan/in/path/b/k", Some("https://s3.lan/in/path")),
            ("https://minio.com", "https://other.com/b/k", None),
        ] {
            assert_eq!(endpoint(from, location, "b").as_deref(), expected, "{location}");
        }
    }
}
