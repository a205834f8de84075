//! Which variables look like credentials: an entry that depends on one stays on this machine. Knows names only.

/// Words at a name's end, or before `_` inside it, that mark a credential.
const ENDINGS: &[&str] = &[
    "_TOKEN",
    "_PASSWORD",
    "_PASSWD",
    "_PASSPHRASE",
    "_CREDENTIALS",
    "_API_KEY",
    // Addresses that have a password in them, as a rule.
    "DATABASE_URL",
    "REDIS_URL",
    "AMQP_URL",
    "MONGODB_URI",
    "_DSN",
    "CONNECTION_STRING",
];
/// Words anywhere in a name that mark a credential.
const ANYWHERE: &[&str] = &["_SECRET", "SECRET_", "PRIVATE_KEY", "ACCESS_KEY"];
const WHOLE: &[&str] = &["TOKEN", "SECRET", "PASSWORD", "API_KEY"];

/// Whether a variable looks like a credential, or is listed in `cache.remote.secret_env`, whose patterns may have a
/// `*` at either end; what one with a `!` in front matches is none.
pub fn is_secret(name: &str, listed: &[String]) -> bool {
    if listed.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| matches(pattern, name)) {
        return false;
    }
    let upper = name.to_ascii_uppercase();
    WHOLE.contains(&upper.as_str())
        || ENDINGS.iter().any(|ending| upper.ends_with(ending))
        || ANYWHERE.iter().any(|word| upper.contains(word))
        || listed.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_are_recognised() {
        for secret in [
            "CARGO_REGISTRY_TOKEN",
            "MY_SECRET",
            "MY_SECRET_FILE",
            "DB_PASSWORD",
            "token",
            "AWS_SECRET_ACCESS_KEY",
            "STRIPE_API_KEY",
            "DATABASE_URL",
            "TEST_DATABASE_URL",
            "SENTRY_DSN",
        ] {
            assert!(is_secret(secret, &[]), "{secret}");
        }
        for plain in ["CARGO_PKG_VERSION", "OUT_DIR", "TOKENIZER", "SECRETARY", "PATH", "TARGET"] {
            assert!(!is_secret(plain, &[]), "{plain}");
        }
        let listed = ["LICENCE".to_owned(), "ACME_*".to_owned(), "*_PIN".to_owned(), "*KEY*".to_owned()];
        for secret in ["LICENCE", "ACME_URL", "CARD_PIN", "A_KEY_B"] {
            assert!(is_secret(secret, &listed), "{secret}");
            assert!(!is_secret(secret, &[]), "{secret}");
        }
        assert!(!is_secret("LICENCES", &listed));
        let none = ["!DATABASE_URL".to_owned(), "!PUBLIC_*".to_owned(), "*_URL".to_owned()];
        for plain in ["DATABASE_URL", "PUBLIC_TOKEN"] {
            assert!(!is_secret(plain, &none), "{plain}");
        }
        assert!(is_secret("TEST_DATABASE_URL", &none));
    }
}
