//! Tables of cases for the layers, their precedence and their errors.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::*;

const FILE: &str = "/etc/kache/config.toml";

fn resolve(toml: &str, env: &[(&str, &str)]) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let env: HashMap<String, OsString> =
        env.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
    Settings::resolve((!toml.is_empty()).then_some((FILE, toml)), |name| env.get(name).cloned())
}

fn settings(toml: &str, env: &[(&str, &str)]) -> Settings {
    resolve(toml, env).and_then(|(settings, _)| settings.checked()).expect("usable settings")
}

fn error(toml: &str, env: &[(&str, &str)]) -> String {
    let result = resolve(toml, env).and_then(|(settings, _)| settings.checked());
    result.expect_err("an error").to_string()
}

#[test]
fn defaults_need_nothing_but_a_home() {
    let settings = settings("", &[("HOME", "/home/u")]);
    assert_eq!(settings.cache_dir(), Ok(Path::new("/home/u/.cache/kache")));
    assert_eq!(settings.local_size_bytes_max, Setting::default_of(50 << 30));
    assert_eq!((*settings.s3_concurrency, *settings.compression_level), (16, 3));
    assert_eq!(*settings.daemon_idle_timeout_s, 600);
    assert!(*settings.cache_executables && !*settings.disabled && *settings.portable_paths);
    assert_eq!(*settings.seed, cfg!(target_os = "linux"));
    assert_eq!(settings.remote(), None);
}

#[test]
fn the_store_is_where_the_nearest_layer_says() {
    let file = "[cache]\nlocal_store = 'FROM_FILE'";
    for (store, env, want) in [
        ("", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")][..], "/x/kache"),
        ("", &[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")], "/h/.cache/kache"),
        ("/s", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/s"),
        ("~/s", &[("HOME", "/h")], "/h/s"),
        ("s", &[], "/etc/kache/s"),
        ("/s", &[("KACHE_CACHE_DIR", "/e")], "/e"),
        ("/s", &[("KACHE_CACHE_DIR", "")], "/s"),
    ] {
        let text = if store.is_empty() { String::new() } else { file.replace("FROM_FILE", store) };
        assert_eq!(settings(&text, env).cache_dir(), Ok(Path::new(want)), "{store} {env:?}");
    }
    let (homeless, _) = resolve("", &[]).expect("no error yet");
    assert!(homeless.cache_dir().is_err_and(|error| error.to_string().contains("HOME")));
    assert!(error("", &[("KACHE_CACHE_DIR", "here")]).contains("\"here\" is not an absolute path"));
    assert!(error("cache.local_store = '~'", &[]).contains("cache.local_store"));
}

#[test]
fn environment_wins_over_file_and_each_value_knows_its_origin() {
    let toml = "[cache]\nlocal_max_size = '10GB'\nkey_salt = 'file'\ncompression_level = 9\nexclude = ['gen/**']\n\
                cache_executables = false";
    let settings =
        settings(toml, &[("KACHE_MAX_SIZE", "1GiB"), ("KACHE_SEED", "0"), ("KACHE_PROGRESS", "verbose")]);
    assert_eq!(settings.local_size_bytes_max, Setting { value: 1 << 30, origin: Origin::Environment });
    assert_eq!(settings.key_salt, Some(Setting { value: "file".into(), origin: Origin::File }));
    assert_eq!(settings.compression_level, Setting { value: 9, origin: Origin::File });
    assert_eq!(settings.exclude, Setting { value: vec!["gen/**".into()], origin: Origin::File });
    assert_eq!(settings.seed, Setting { value: false, origin: Origin::Environment });
    assert_eq!(*settings.progress, Progress::All);
    let rows = settings.rows();
    let row = rows.iter().find(|row| row.key == Some("cache.cache_executables")).expect("listed");
    assert_eq!((row.value.as_deref(), row.origin), (Some("false"), Origin::File));
}

#[test]
fn what_cannot_be_used_is_an_error_that_names_place_key_and_value() {
    for (toml, env, want) in [
        ("", &[("KACHE_MAX_SIZE", "big")][..], "KACHE_MAX_SIZE: \"big\" is not a size"),
        ("", &[("KACHE_DISABLED", "maybe")], "KACHE_DISABLED: \"maybe\" is neither"),
        ("", &[("KACHE_S3_CONCURRENCY", "0")], "KACHE_S3_CONCURRENCY: \"0\" is not between"),
        ("", &[("KACHE_S3_CONCURRENCY", "x")], "KACHE_S3_CONCURRENCY: \"x\" is not a whole number"),
        ("", &[("KACHE_VERIFY", "some")], "KACHE_VERIFY: \"some\" is neither a switch nor a share"),
        ("", &[("KACHE_PROGRESS", "loud")], "KACHE_PROGRESS: \"loud\" is none of"),
        (
            "cache.local_max_size = 5",
            &[],
            "/etc/kache/config.toml: cache.local_max_size: 5 is a whole number",
        ),
        ("cache.local_max_size = '5'", &[], "cache.local_max_size: \"5\" is not a size"),
        ("cache.daemon_idle_timeout_secs = -1", &[], "cache.daemon_idle_timeout_secs: \"-1\""),
        ("cache.local_only = 'yes'", &[], "cache.local_only: \"yes\" is a string"),
        ("cache.exclude = 'x'", &[], "cache.exclude: \"x\" is a string"),
        ("cache.exclude = ['a', '']", &[], "cache.exclude: \"\" is an empty pattern"),
        (
            "cache.exclude = ['a', 'b/[z-a]']",
            &[],
            "/etc/kache/config.toml: cache.exclude: \"b/[z-a]\" is not a pattern",
        ),
        ("cache.exclude = ['gen/{a,b']", &[], "cache.exclude: \"gen/{a,b\" is not a pattern: unclosed"),
        ("cache.exclude = ['~/src/**']", &[], "cache.exclude: \"~/src/**\" is not a pattern: `~`"),
        ("cache.exclude = ['$HOME/**']", &[], "variables are not expanded"),
        ("cache.local_store = '$HOME/kache'", &[], "cache.local_store: \"$HOME/kache\" has a variable"),
        ("cache.local_store = '/x/${USER}'", &[], "write the path out"),
        ("cache.local_store = '~other/x'", &[], "cache.local_store: \"~other/x\" has a variable or `~`"),
        ("", &[("KACHE_CACHE_DIR", "/x/$USER")], "KACHE_CACHE_DIR: \"/x/$USER\" has a variable"),
        ("[cache]\nlocal_max_siez = '1GB'", &[], "did you mean `cache.local_max_size`?"),
        ("local_max_size = '1GB'", &[], "did you mean `cache.local_max_size`?"),
        (
            "cache = 3",
            &[],
            "/etc/kache/config.toml: cache: 3 is a whole number, but this setting is a section",
        ),
        ("[cache", &[], "/etc/kache/config.toml: not valid TOML"),
    ] {
        let got = error(toml, env);
        assert!(got.contains(want), "{toml} {env:?}: {got}");
    }
}

#[test]
fn a_bucket_alone_is_a_remote_with_the_documented_defaults() {
    for (toml, env, origin) in [
        ("[cache.remote]\ntype = 's3'\nbucket = 'b.c'", &[][..], Origin::File),
        ("", &[("KACHE_S3_BUCKET", "b.c")], Origin::Environment),
        ("[cache.remote]\nbucket = 'other'", &[("KACHE_S3_BUCKET", "b.c")], Origin::Environment),
    ] {
        let settings = settings(toml, env);
        let remote = settings.remote().expect("a remote");
        let s3 = remote.s3().expect("a bucket");
        assert_eq!(s3.bucket, Setting { value: "b.c".into(), origin });
        assert_eq!((s3.region.as_str(), remote.prefix.as_str()), ("us-east-1", "artifacts"));
        assert_eq!((&s3.endpoint, &s3.profile, &s3.credentials), (&None, &None, &None));
        assert!(*settings.portable_paths);
    }
    let settings = settings("cache.local_only = true\ncache.remote.bucket = 'b'", &[]);
    assert!(settings.remote().is_none() && *settings.portable_paths);
}

/// The environment says before the file which kind is meant, and naming the place of one says it, too.
#[test]
fn the_kind_of_a_remote_is_said_or_follows_from_its_place() {
    let (folder, url) = ("type = 'file'\npath = '/mnt/f'", "type = 'http'\nurl = 'https://h/x/'");
    let token = ("KACHE_REMOTE_TOKEN", "hush");
    for (toml, env, described, other) in [
        (folder, &[][..], "/mnt/f/artifacts", None),
        ("path = '/mnt/f'", &[], "/mnt/f/artifacts", None),
        ("path = 'shared'", &[], "/etc/kache/shared/artifacts", None),
        ("path = '~/f'\nprefix = 'p/q'", &[("HOME", "/home/u")], "/home/u/f/p/q", None),
        (url, &[token], "https://h/x/artifacts", None),
        ("url = 'http://[::1]:81'", &[], "http://[::1]:81/artifacts", None),
        ("", &[("KACHE_REMOTE_PATH", "/e")], "/e/artifacts", None),
        ("", &[("KACHE_REMOTE_URL", "https://h")], "https://h/artifacts", None),
        (folder, &[("KACHE_S3_BUCKET", "b")], "s3://b/artifacts at us-east-1", None),
        ("bucket = 'b'", &[("KACHE_REMOTE_PATH", "/e")], "/e/artifacts", None),
        ("bucket = 'b'", &[("KACHE_REMOTE_TYPE", "file"), ("KACHE_REMOTE_PATH", "/e")], "/e/artifacts", None),
        ("bucket = 'b'\npath = '/f'\ntype = 'file'", &[], "/f/artifacts", Some("cache.remote.bucket")),
        (
            "",
            &[("KACHE_REMOTE_TYPE", "http"), ("KACHE_REMOTE_URL", "https://h"), ("KACHE_REMOTE_PATH", "/e")],
            "https://h/artifacts",
            Some("KACHE_REMOTE_PATH"),
        ),
    ] {
        let (settings, warnings) = resolve(&format!("[cache.remote]\n{toml}"), env).expect("usable");
        let remote = settings.remote().unwrap_or_else(|| panic!("{toml} {env:?}: {:?}", settings.problems));
        assert_eq!(remote.describe(), described, "{toml} {env:?}");
        let word = remote.backend.word();
        assert_eq!(
            warnings,
            other.map(|name| Warning::OtherKind(name, word)).into_iter().collect::<Vec<_>>()
        );
        assert_eq!(remote.ambient().contains(&"AWS_"), word == "s3");
        assert!(!format!("{settings:?}{:?}", settings.rows()).contains("hush"));
    }
    for (toml, env, want) in [
        ("type = 'file'", &[][..], "cache.remote.path: is missing"),
        ("type = 'http'\nprefix = 'x'", &[], "cache.remote.url: is missing"),
        ("", &[("KACHE_REMOTE_TYPE", "file")], "KACHE_REMOTE_PATH: is missing"),
        ("", &[("KACHE_REMOTE_TYPE", "webdav")], "KACHE_REMOTE_TYPE: \"webdav\" is not a kind"),
        ("", &[("KACHE_REMOTE_PATH", "relative")], "KACHE_REMOTE_PATH: \"relative\" is not the path"),
        ("url = 'h/x'", &[], "cache.remote.url: \"h/x\" is not an address"),
        ("url = 'https://u:hush@h/'", &[], "cache.remote.url: \"…@…\" has a user name"),
        (
            "url = 'https://h'",
            &[("KACHE_REMOTE_TOKEN", "a\nhush")],
            "KACHE_REMOTE_TOKEN: \"…\" has white space",
        ),
    ] {
        let got = error(&format!("[cache.remote]\n{toml}"), env);
        assert!(got.contains(want) && !got.contains("hush"), "{toml} {env:?}: {got}");
    }
}

#[test]
fn clouds_are_named_and_their_credentials_found() {
    let string = "AccountName=acc;AccountKey=hush==;EndpointSuffix=core.example;";
    let sas = "AccountName=acc;SharedAccessSignature=?sv=1&sig=hush;BlobEndpoint=http://127.0.0.1:1/acc/";
    let azure = ("KACHE_AZURE_CONTAINER", "c-1");
    for (toml, env, described, credentials) in [
        ("type = 'gcs'\nbucket = 'b'", &[][..], "gs://b/artifacts at https://storage.googleapis.com", "None"),
        ("", &[("KACHE_GCS_BUCKET", "b")], "gs://b/artifacts at https://storage.googleapis.com", "None"),
        (
            "bucket = 'other'",
            &[("KACHE_REMOTE_TYPE", "gcs"), ("GOOGLE_APPLICATION_CREDENTIALS", "/k.json")],
            "gs://other/artifacts at https://storage.googleapis.com",
            "Some(\"/k.json\")",
        ),
        (
            "container = 'c-1'\naccount = 'acc'",
            &[("AZURE_STORAGE_KEY", "hush")],
            "https://acc.blob.core.windows.net/c-1/artifacts",
            "Some(Key(Secret(hidden)))",
        ),
        (
            "",
            &[azure, ("AZURE_STORAGE_CONNECTION_STRING", string)],
            "https://acc.blob.core.example/c-1/artifacts",
            "Some(Key(Secret(hidden)))",
        ),
        (
            "",
            &[azure, ("AZURE_STORAGE_CONNECTION_STRING", sas)],
            "http://127.0.0.1:1/acc/c-1/artifacts",
            "Some(Sas(Secret(hidden)))",
        ),
        (
            "",
            &[azure, ("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_SAS_TOKEN", "?sig=hush\n")],
            "https://acc.blob.core.windows.net/c-1/artifacts",
            "Some(Sas(Secret(hidden)))",
        ),
        (
            "",
            &[azure, ("AZURE_STORAGE_ACCOUNT", "another"), ("AZURE_STORAGE_CONNECTION_STRING", string)],
            "https://another.blob.core.windows.net/c-1/artifacts",
            "None",
        ),
    ] {
        let (settings, _) = resolve(&format!("[cache.remote]\n{toml}"), env).expect("usable");
        let remote = settings.remote().unwrap_or_else(|| panic!("{toml} {env:?}: {:?}", settings.problems));
        assert_eq!(remote.describe(), described, "{toml} {env:?}");
        let found = match &remote.backend {
            Backend::Gcs(gcs) => format!("{:?}", gcs.credentials),
            Backend::Azure(azure) => format!("{:?}", azure.credentials),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, credentials, "{toml} {env:?}");
        assert!(!format!("{settings:?}{:?}", settings.rows()).contains("hush"));
    }
    for (env, want) in [
        (&[azure][..], "AZURE_STORAGE_ACCOUNT: is missing"),
        (&[azure, ("KACHE_AZURE_ACCOUNT", "https://acc")], "is not the name of a storage account"),
        (&[("KACHE_AZURE_CONTAINER", "a/b")], "is not a container's name"),
        (&[("KACHE_REMOTE_TYPE", "gcs")], "KACHE_GCS_BUCKET: is missing"),
        (
            &[azure, ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=acc;BlobEndpoint=hush")],
            "AZURE_STORAGE_CONNECTION_STRING: \"…\" has a `BlobEndpoint`",
        ),
    ] {
        let got = error("", env);
        assert!(got.contains(want) && !got.contains("hush"), "{env:?}: {got}");
    }
}

#[test]
fn outside_of_a_job_there_is_no_service_of_github_and_that_is_no_mistake() {
    let (settings, warnings) = resolve("[cache.remote]\ntype = 'gha'", &[]).expect("usable");
    assert!(settings.remote().is_none() && warnings == [Warning::OutsideActions]);
    let levels = "[[cache.remotes]]\ntype = 'gha'\n[[cache.remotes]]\npath = '/mnt/f'";
    assert_eq!(settings_of(levels), "/mnt/f/artifacts");
}

fn settings_of(toml: &str) -> String {
    settings(toml, &[]).remote().expect("a remote").describe()
}

/// Tokens and shared access signatures, which a server could use again, aren't sent to one that a project names.
#[test]
fn credentials_of_clouds_go_to_addresses_of_the_user_only() {
    let resolve = |file: &str, text: &str, env: &[(&str, &str)]| {
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).into());
        let (settings, warnings) = Settings::resolve(Some((file, text)), value).expect("usable");
        let is_sent = match &settings.remote().expect("a remote").backend {
            Backend::Gcs(gcs) => !gcs.is_anonymous,
            Backend::Azure(azure) => azure.credentials.is_some(),
            other => panic!("{other:?}"),
        };
        (is_sent, warnings.iter().filter(|warning| matches!(warning, Warning::Withheld(..))).count())
    };
    let (user, project) = ("/home/u/.config/kache/config.toml", "/w/.kache.toml");
    let gcs = "[cache.remote]\ntype = 'gcs'\nbucket = 'b'\n";
    let elsewhere = format!("{gcs}endpoint = 'https://h'");
    assert_eq!(resolve(project, gcs, &[]), (true, 0));
    assert_eq!(resolve(project, &elsewhere, &[]), (false, 1));
    assert_eq!(resolve(user, &elsewhere, &[]), (true, 0));
    assert_eq!(resolve(project, &elsewhere, &[("KACHE_GCS_ENDPOINT", "https://h")]), (true, 0));
    let azure = "[cache.remote]\ncontainer = 'ccc'\naccount = 'acc'\n";
    let elsewhere = format!("{azure}endpoint = 'https://h'");
    let (key, sas) = (("AZURE_STORAGE_KEY", "k"), ("AZURE_STORAGE_SAS_TOKEN", "sig=s"));
    assert_eq!(resolve(project, azure, &[sas]), (true, 0));
    assert_eq!(resolve(project, &elsewhere, &[sas]), (false, 1));
    assert_eq!(resolve(project, &elsewhere, &[key]), (true, 0), "a signature tells nothing");
    assert_eq!(resolve(user, &elsewhere, &[sas]), (true, 0));
}

/// A project comes from elsewhere: its file can't have the user's token sent to an address of its choice.
#[test]
fn credentials_go_to_addresses_of_the_user_only() {
    let text = "[cache.remote]\nurl = 'https://h'";
    let resolve = |file: &str, env: &[(&str, &str)]| {
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).into());
        let (settings, warnings) = Settings::resolve(Some((file, text)), value).expect("usable");
        let Backend::Http(http) = settings.remote().expect("a remote").backend.clone() else {
            panic!("http")
        };
        (http.credentials.is_some(), warnings)
    };
    let token = ("KACHE_REMOTE_TOKEN", "t");
    assert_eq!(resolve("/home/u/.config/kache/config.toml", &[token]), (true, vec![]));
    assert_eq!(
        resolve("/w/.kache.toml", &[token]),
        (false, vec![Warning::Withheld(token.0, "KACHE_REMOTE_URL")])
    );
    assert_eq!(resolve("/w/.kache.toml", &[token, ("KACHE_REMOTE_URL", "https://h")]), (true, vec![]));
    assert_eq!(resolve("/w/.kache.toml", &[]), (false, vec![]));
}

/// What is owed to one remote isn't owed to another; a corrected password is the same remote with other credentials.
#[test]
fn identities_of_remotes_name_the_place_and_the_user_and_no_password() {
    let remote = |env: &[(&str, &str)]| settings("", env).remote().expect("a remote").clone();
    let at = |url: &'static str, user: &'static str, password: &'static str| {
        remote(&[("KACHE_REMOTE_URL", url), ("KACHE_REMOTE_USER", user), ("KACHE_REMOTE_PASSWORD", password)])
    };
    let one = at("https://h", "u", "p");
    for (other, same, same_credentials) in [
        (at("https://h/", "u", "p"), true, true),
        (at("https://h", "u", "q"), true, false),
        (at("https://h", "v", "p"), false, false),
        (at("https://i", "u", "p"), false, true),
        (remote(&[("KACHE_REMOTE_URL", "https://h"), ("KACHE_REMOTE_TOKEN", "t")]), false, false),
        (remote(&[("KACHE_REMOTE_PATH", "/h")]), false, false),
    ] {
        assert_eq!(other.identity() == one.identity(), same, "{other:?}");
        assert_eq!(other.credentials_id() == one.credentials_id(), same_credentials, "{other:?}");
    }
    let lone =
        resolve("", &[("KACHE_REMOTE_URL", "https://h"), ("KACHE_REMOTE_USER", "u")]).expect("usable").1;
    assert!(
        matches!(&lone[..], [Warning::LoneCredential { unset: "KACHE_REMOTE_PASSWORD", .. }]),
        "{lone:?}"
    );
}

#[test]
fn trouble_with_the_remote_leaves_the_local_settings_usable() {
    for (toml, env, want) in [
        ("bucket = 'b'\nwitnesses = 0", &[][..], "cache.remote.witnesses: \"0\" is not a number from 1"),
        (
            "bucket = 'b'\ntrusted_keys = ['k']\nwitnesses = 2",
            &[],
            "cache.remote.witnesses: \"2\" is not a number from 1",
        ),
        ("bucket = ''", &[], "cache.remote.bucket: \"\" is empty"),
        ("bucket = 'https://b'", &[], "cache.remote.bucket: \"https://b\" is not a bucket name"),
        ("region = 'r'", &[], "cache.remote.bucket: is missing"),
        ("type = 'ftp'\nbucket = 'b'", &[], "cache.remote.type: \"ftp\" is not a kind"),
        ("bucket = 7", &[], "cache.remote.bucket: 7 is a whole number"),
        ("bucket = 'b'\nbukket = 'c'", &[], "unknown setting (did you mean `cache.remote.bucket`?)"),
        (
            "bucket = 'b'\nprefix = '/'",
            &[],
            "cache.remote.prefix: \"/\" names nothing: leave the setting out",
        ),
        ("bucket = 'b'\nprefix = 'a/../b'", &[], "is not a prefix"),
        (
            "bucket = 'b'",
            &[("KACHE_S3_ENDPOINT", "s3.example.com")],
            "KACHE_S3_ENDPOINT: \"s3.example.com\" is not an address",
        ),
    ] {
        let text = format!("[cache.remote]\n{toml}");
        let (settings, _) = resolve(&text, env).expect("local settings are fine");
        assert_eq!(settings.remote().is_some(), toml.contains("bukket"), "{toml}");
        let got = settings.checked().expect_err("a problem").to_string();
        assert!(got.contains(want), "{toml}: {got}");
    }
}

#[test]
fn trouble_with_figures_of_transfers_leaves_the_rest_usable() {
    for (toml, variable, value, want) in [
        ("", "KACHE_COMPRESSION_LEVEL", "fast", "KACHE_COMPRESSION_LEVEL: \"fast\" is not a whole number"),
        ("", "KACHE_S3_CONCURRENCY", "0", "KACHE_S3_CONCURRENCY: \"0\" is not between 1 and 512"),
        (
            "",
            "KACHE_DAEMON_IDLE_TIMEOUT",
            "-1",
            "KACHE_DAEMON_IDLE_TIMEOUT: \"-1\" is not a number of seconds",
        ),
        ("", "KACHE_DAEMON", "maybe", "KACHE_DAEMON: \"maybe\" is neither"),
        ("cache.s3_concurrency = 'x'", "", "", "cache.s3_concurrency: \"x\" is a string"),
    ] {
        let text = format!("cache.remote.bucket = 'b'\n{toml}");
        let (settings, _) = resolve(&text, &[(variable, value)]).expect("local settings are fine");
        assert!(settings.remote().is_some() && *settings.daemon, "{want}");
        let figures =
            (*settings.s3_concurrency, *settings.compression_level, *settings.daemon_idle_timeout_s);
        assert_eq!(figures, (16, 3, 600), "{want}");
        let got = settings.checked().expect_err("a problem").to_string();
        assert!(got.contains(want), "{got}");
    }
}

#[test]
fn endpoints() {
    let endpoint = |text: &str| {
        let settings = settings("cache.remote.bucket = 'b'", &[("KACHE_S3_ENDPOINT", text)]);
        settings.remote().and_then(Remote::s3).and_then(|s3| s3.endpoint.clone()).expect("an endpoint").value
    };
    for (given, used) in [
        ("https://s3.example.com", "https://s3.example.com"),
        ("https://s3.example.com/", "https://s3.example.com"),
        ("http://127.0.0.1:9000/base/", "http://127.0.0.1:9000/base"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ] {
        assert_eq!(endpoint(given), used);
    }
    let got = error("cache.remote.bucket = 'b'", &[("KACHE_S3_ENDPOINT", "http://")]);
    assert!(got.ends_with("has no host name"), "{got}");
    for bad in [
        "ftp://x",
        "https://",
        "https:///x",
        "https://a b",
        "https://a:b",
        "https://a:0",
        "https://a:70000",
        "https://a?x",
        "https://user:pw@host",
        "https://<account-id>.example.com",
        "https://[::1",
    ] {
        let got = error("cache.remote.bucket = 'b'", &[("KACHE_S3_ENDPOINT", bad)]);
        assert!(got.starts_with("KACHE_S3_ENDPOINT: ") && !got.contains("pw"), "{bad}: {got}");
    }
}

#[test]
fn warnings() {
    let warnings = |toml: &str, env: &[(&str, &str)]| resolve(toml, env).expect("usable").1;
    let remote = "cache.remote.bucket = 'b'";
    for (env, next) in [
        (&[("KACHE_S3_SECRET_KEY", "hush")][..], "the standard AWS chain is used"),
        (&[("KACHE_S3_SECRET_KEY", "hush"), ("KACHE_S3_PROFILE", "ci")], "the profile ci is used"),
    ] {
        let said: Vec<_> = warnings(remote, env).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [format!(
                "KACHE_S3_SECRET_KEY is set but KACHE_S3_ACCESS_KEY is not; the pair is ignored and {next}"
            )]
        );
    }
    let http = |address: &str| warnings(remote, &[("KACHE_S3_ENDPOINT", address)]).len();
    assert_eq!(
        ["http://10.0.0.1:9000", "http://localhost:1", "http://127.0.0.9", "http://[::1]:9"].map(http),
        [1, 0, 0, 0]
    );
    assert_eq!(warnings("", &[("KACHE_S3_ENDPOINT", "https://x")]), [Warning::NoBucket("KACHE_S3_ENDPOINT")]);
    let clamped = Warning::Clamped { place: "cache.compression_level".into(), given: 99, used: 22 };
    assert_eq!(warnings("cache.compression_level = 99", &[]), [clamped]);
    assert_eq!(*settings("", &[("KACHE_COMPRESSION_LEVEL", "-5")]).compression_level, 1);
}

#[test]
fn both_halves_make_explicit_credentials_that_never_show() {
    let env = [("KACHE_S3_BUCKET", "b"), ("KACHE_S3_ACCESS_KEY", "id"), ("KACHE_S3_SECRET_KEY", "hush")];
    let settings = settings("", &env);
    let credentials =
        settings.remote().and_then(Remote::s3).and_then(|s3| s3.credentials.clone()).expect("a pair");
    assert_eq!((credentials.access_key.as_str(), credentials.secret_key.as_str()), ("id", "hush"));
    assert!(!format!("{settings:?}{:?}", settings.rows()).contains("hush"));
}

#[test]
fn crate_files_hold_extra_inputs_and_nothing_else() {
    let parse = |text: &str| CrateFile::parse("/w/kache.toml", text).map_err(|error| error.to_string());
    let globs = parse("extra_inputs = ['migrations/**/*.sql', 'x']").expect("fine").extra_inputs;
    assert_eq!(globs, ["migrations/**/*.sql", "x"]);
    assert_eq!(parse(""), Ok(CrateFile::default()));
    for (text, want) in [
        ("extra_input = []", "/w/kache.toml: extra_input: unknown setting (did you mean `extra_inputs`?)"),
        ("[cache]\n", "/w/kache.toml: cache: unknown setting"),
        (
            "extra_inputs = 'x'",
            "/w/kache.toml: extra_inputs: \"x\" is a string, but this setting is a list of strings",
        ),
        ("extra_inputs = [1]", "/w/kache.toml: extra_inputs: 1 is a whole number"),
        ("extra_inputs = [''", "/w/kache.toml: not valid TOML"),
    ] {
        assert!(parse(text).is_err_and(|got| got.starts_with(want)), "{text}");
    }
}

#[test]
fn rows_cover_every_variable_of_the_settings() {
    let remotes = ["", "KACHE_GCS_BUCKET", "KACHE_AZURE_CONTAINER"];
    let of = |name: &str| settings("", &[(name, "bbb"), ("KACHE_AZURE_ACCOUNT", "acc")]).rows();
    let listed: Vec<_> = remotes.into_iter().flat_map(of).filter_map(|row| row.variable).collect();
    let secrets = [env::KACHE_S3_ACCESS_KEY, env::KACHE_S3_SECRET_KEY, env::KACHE_REMOTE_TOKEN];
    let login = [env::KACHE_REMOTE_USER, env::KACHE_REMOTE_PASSWORD];
    let others =
        [env::KACHE_CONFIG, env::KACHE_JOB, env::KACHE_IN_FALLBACK, env::KACHE_IN_SCRIPT, "KACHE_FAULT"];
    let elsewhere = [&secrets[..], &login, &others].concat();
    for variable in env::ALL.iter().filter(|variable| variable.name.starts_with("KACHE_")) {
        assert!(listed.contains(&variable.name) || elsewhere.contains(&variable.name), "{}", variable.name);
    }
}

/// A value of each setting's kind is understood, one of another kind is not.
#[test]
fn every_key_has_the_kind_that_it_is_read_as() {
    for row in settings("", &[]).rows() {
        let Some(key) = row.key.filter(|key| !key.starts_with("cache.remote.")) else { continue };
        let right = match row.kind {
            Kind::Text if key.ends_with("max_size") || key.ends_with("free_space") => "'1GiB'",
            Kind::Text if key.starts_with("clean.") => "'7d'",
            Kind::Text => "'/x'",
            Kind::Switch => "true",
            Kind::Number => "5",
            Kind::List => "['x']",
        };
        let found = settings(&format!("{key} = {right}"), &[]).rows();
        let found = found.into_iter().find(|found| found.key == Some(key)).expect("listed");
        assert_eq!(found.origin, Origin::File, "{key}");
        let wrong = if row.kind == Kind::List { "true" } else { "[1]" };
        assert!(error(&format!("{key} = {wrong}"), &[]).contains(key), "{key}");
    }
}

#[test]
fn a_rule_for_cleaning_that_cannot_be_used_removes_nothing() {
    let clean = |text: &str| settings(text, &[]).clean;
    let rules = clean("clean.auto = true\nclean.unused_for = '7d'\nclean.min_free_space = '2GiB'");
    assert_eq!(
        (*rules.auto, rules.unused_for.as_secs(), rules.orphaned_after.as_secs()),
        (true, 604_800, 86_400)
    );
    assert_eq!(rules.free_bytes_min.map(|free| free.value), Some(2 << 30));
    let (found, _) =
        Settings::resolve(Some(("/c.toml", "clean.auto = true\nclean.unused_for = 'soon'")), |_| None)
            .expect("the cache works");
    assert!(!*found.clean.auto && found.checked().is_err());
}

#[test]
fn patterns_without_a_root_match_below_any_directory() {
    for (pattern, path, matches) in [
        ("gen/**", "/w/app/gen/src/lib.rs", true),
        ("./gen/*.rs", "/w/gen/lib.rs", true),
        ("gen/**", "/w/app/regen/lib.rs", false),
        ("**/gen/**", "/w/gen/lib.rs", true),
        ("/w/app/**", "/w/app/src/lib.rs", true),
        ("/app/**", "/w/app/src/lib.rs", false),
        ("*/app/**", "/w/app/src/lib.rs", true),
    ] {
        let glob = source_glob(pattern).expect("a pattern").compile_matcher();
        assert_eq!(glob.is_match(path), matches, "{pattern} {path}");
    }
}

#[test]
fn what_looks_like_a_setting_and_is_none() {
    let meant = |name: &str| env::unknown(name).map(|meant| meant.unwrap_or_default());
    for (name, expected) in [
        ("KACHE_MAXSIZE", Some("KACHE_MAX_SIZE")),
        ("KACHE_CACHEDIR", Some("KACHE_CACHE_DIR")),
        ("kache_seed", Some("KACHE_SEED")),
        ("KACHE_S3_BUCKETS", Some("KACHE_S3_BUCKET")),
        ("KACHE_SOMETHING_ELSE", Some("")),
        ("KACHE_MAX_SIZE", None),
        ("KACHE_TEST_LAYOUT", None),
        ("KACHEX", None),
        ("PATH", None),
    ] {
        assert_eq!(meant(name).as_deref(), expected, "{name}");
    }
}

#[test]
fn levels_are_read_as_single_remotes_are() {
    let toml = "[[cache.remotes]]\nurl = 'http://10.0.0.7:8271'\nread_only = true\ntrusted_keys = ['k']\n\
                [[cache.remotes]]\npath = 'near'\nwrite_only = true\nsecret_env = ['X_*']\n\
                [[cache.remotes]]\nbucket = 'b'\nregion = 'auto'\nprefix = 'p'";
    let there = settings(toml, &[("KACHE_REMOTE_TOKEN", "hush"), ("KACHE_S3_PREFIX", "ignored")]);
    let remote = there.remote().expect("a remote");
    assert_eq!(
        remote.describe(),
        "http://10.0.0.7:8271/artifacts, then /etc/kache/near/artifacts, then s3://b/p at auto"
    );
    let levels: Vec<Remote> = remote.levels().collect();
    let said =
        levels.iter().map(|level| (level.read_only.value, level.write_only.value, level.further.len()));
    assert_eq!(said.collect::<Vec<_>>(), [(true, false, 0), (false, true, 0), (false, false, 0)]);
    assert_eq!(levels.iter().map(|level| level.trusted_keys.len()).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(levels.iter().all(|level| *level.secret_env == ["X_*"]));
    let Backend::Http(http) = &levels[0].backend else { panic!("a web server") };
    assert!(http.credentials.is_some(), "there is one server that it can be for");
    assert!(
        !remote.is_read_only()
            && there.rows().iter().all(|row| row.key != Some("cache.remote.url") || row.value.is_none())
    );
    // Every level counts for who the remote is.
    let other = settings(&toml.replace("region = 'auto'", "region = 'auto'\nendpoint = 'https://e'"), &[]);
    assert_ne!(other.remote().expect("a remote").identity(), remote.identity());
    assert_ne!(levels[0].identity(), remote.identity());

    let everywhere = settings(toml, &[("KACHE_READ_ONLY", "1"), ("KACHE_S3_TRUSTED_KEYS", "a,b")]);
    let remote = everywhere.remote().expect("a remote");
    assert!(remote.is_read_only() && remote.levels().all(|level| level.trusted_keys.len() == 2));
    let replaced = settings(toml, &[("KACHE_REMOTE_PATH", "/e")]);
    assert_eq!(replaced.remote().expect("a remote").describe(), "/e/artifacts");
    let servers = "[[cache.remotes]]\nurl = 'https://a'\n[[cache.remotes]]\nurl = 'https://b'";
    let (two, warnings) = resolve(servers, &[("KACHE_REMOTE_TOKEN", "hush")]).expect("usable");
    assert_eq!(warnings, [Warning::ForWhichServer("KACHE_REMOTE_TOKEN")]);
    assert!(!format!("{two:?}").contains("hush"));
    assert_eq!(settings("cache.remotes = []", &[]).remote(), None);
    let one = settings("[[cache.remotes]]\npath = '/mnt/f'", &[]);
    let single = settings("[cache.remote]\npath = '/mnt/f'", &[]);
    assert_eq!(one.remote().map(Remote::identity), single.remote().map(Remote::identity));

    for (toml, want) in [
        (
            "[cache.remote]\npath = '/f'\n[[cache.remotes]]\npath = '/g'",
            "cache.remotes: can't be combined with `cache.remote`",
        ),
        ("cache.remotes = 'x'", "cache.remotes: \"x\" is a string, but this setting is a list of sections"),
        ("cache.remotes = ['x']", "is a string, but this setting is a section"),
        (
            "[[cache.remotes]]\npath = '/f'\n[[cache.remotes]]\nprefix = 'x'",
            "cache.remotes[1].bucket: is missing",
        ),
        ("[[cache.remotes]]", "cache.remotes[0]: is missing, and `bucket`, `container`, `path` or `url`"),
        ("[[cache.remotes]]\npath = '/f'\nread_olny = true", "cache.remotes[0].read_olny: unknown setting"),
        (
            "[[cache.remotes]]\npath = '/f'\nread_only = true\nwrite_only = true",
            "cache.remotes[0].write_only: can't be combined",
        ),
        ("[[cache.remotes]]\npath = '/f'\nread_only = 'x'", "cache.remotes[0].read_only: \"x\" is a string"),
        (&"[[cache.remotes]]\npath = '/f'\n".repeat(9), "more than 8 levels"),
    ] {
        let said = error(toml, &[]);
        assert!(said.contains(want), "{toml}: {said}");
    }
}
