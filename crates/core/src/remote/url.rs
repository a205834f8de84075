//! Names of objects as paths of addresses.

use std::fmt::Write;

/// A name with everything encoded that has a meaning of its own in an address, or none.
pub fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_plain_stays_as_it_is() {
        for (name, encoded) in [
            ("artifacts/v3/packs/serde_json/0a.tar.zst", "artifacts/v3/packs/serde_json/0a.tar.zst"),
            ("a b/ü?#%&", "a%20b/%C3%BC%3F%23%25%26"),
            ("", ""),
        ] {
            assert_eq!(encode(name), encoded);
        }
    }
}
