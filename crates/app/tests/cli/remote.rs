//! The remote as commands use it: whose credentials sign, what `kache doctor` finds out, what is said without a remote.

use kache_testkit::{AwsServices, Azure, GitHub, Google, Manners, Mischief, S3, Web};

use crate::{Home, Variables};

/// The access key that signed the first request of a dry run, and what the command said.
fn signer(home: &Home, server: &S3, env: &[(&str, &str)]) -> (Option<String>, String) {
    server.forget();
    let endpoint = server.endpoint();
    let mut all = vec![
        ("KACHE_S3_BUCKET", S3::BUCKET),
        ("KACHE_S3_ENDPOINT", endpoint.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    all.extend_from_slice(env);
    let ran = home.kache_with(&["sync", "--pull", "--all", "--dry-run"], &all);
    let seen = server.seen();
    let signed = seen.first().and_then(|request| request.header("authorization")).map(str::to_owned);
    let key = signed.and_then(|text| Some(text.split_once("Credential=")?.1.split('/').next()?.to_owned()));
    (key, ran.err)
}

#[test]
fn credentials_are_taken_in_the_documented_order() {
    let (home, server) = (Home::new(), S3::start());
    home.write(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = s1\n\
         [named]\naws_access_key_id = AKNAMED\naws_secret_access_key = s2\n",
    );
    let script = home.write(
        "process.sh",
        "echo '{\"Version\":1,\"AccessKeyId\":\"AKPROCESS\",\"SecretAccessKey\":\"s\"}'\n",
    );
    home.write(
        ".aws/config",
        &format!(
            "[profile inconfig]\naws_access_key_id = AKCONFIG\naws_secret_access_key = s3\n\
             [profile process]\ncredential_process = sh {}\n",
            script.display()
        ),
    );
    let pair = [("KACHE_S3_ACCESS_KEY", "AKPAIR"), ("KACHE_S3_SECRET_KEY", "hush1")];
    let aws = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "hush2")];
    let profile = |name| [("KACHE_S3_PROFILE", name)];
    let cases: [(&[Variables], Option<&str>); 10] = [
        (&[&pair, &profile("named"), &aws], Some("AKPAIR")),
        (&[&profile("named"), &aws], Some("AKNAMED")),
        (&[&profile("inconfig")], Some("AKCONFIG")),
        (&[&profile("process")], Some("AKPROCESS")),
        (&[&profile("missing"), &aws], None),
        (&[&aws], Some("AKENV")),
        (&[&[("AWS_PROFILE", "named")]], Some("AKNAMED")),
        (&[], Some("AKDEFAULT")),
        (&[&pair[..1], &aws], Some("AKENV")),
        (&[&pair[1..], &aws], Some("AKENV")),
    ];
    for (i, (parts, expected)) in cases.into_iter().enumerate() {
        let env: Vec<_> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (key, said) = signer(&home, &server, &env);
        assert_eq!(key.as_deref(), expected, "{i}: {said}");
        assert!(!said.contains("hush"), "{said}");
        let lone = i >= 8;
        assert_eq!(said.contains("the pair is ignored"), lone, "{i}: {said}");
    }
    // The profile of the file, and the variable that wins over it.
    home.write(".config/kache/config.toml", "[cache.remote]\nbucket = 'b'\nprofile = 'named'\n");
    assert_eq!(signer(&home, &server, &aws).0.as_deref(), Some("AKNAMED"));
    assert_eq!(signer(&home, &server, &profile("inconfig")).0.as_deref(), Some("AKCONFIG"));
    std::fs::remove_file(home.path(".config/kache/config.toml")).expect("removed");
    // Nothing anywhere: an error that says so, and no request.
    std::fs::remove_dir_all(home.path(".aws")).expect("removed");
    let (key, said) = signer(&home, &server, &[]);
    assert_eq!(key, None);
    assert!(said.contains("kache doctor"), "{said}");
}

/// Roles, single sign-on, web identity, containers and instances, each where AWS documents it.
#[test]
fn services_that_hand_out_credentials_are_asked() {
    let (server, services) = (S3::start(), AwsServices::start());
    let home = Home::new();
    let token = home.write("token", "JWT");
    let session = "sso_session = my\nsso_account_id = 123456789012\nsso_role_name = r\n";
    let legacy = "sso_start_url = https://x.example/start\nsso_region = us-east-1\n\
                  sso_account_id = 123456789012\nsso_role_name = r\n";
    home.write(
        ".aws/config",
        &format!(
            "[profile base]\naws_access_key_id = AKBASE\naws_secret_access_key = s\n\
             [profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nregion = us-east-1\n\
             [profile fromenv]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = Environment\n\
             [profile web]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = {}\n\
             [sso-session my]\nsso_start_url = https://x.example/start\nsso_region = us-east-1\n\
             sso_registration_scopes = sso:account:access\n\
             [profile sso]\n{session}[profile legacy]\n{legacy}",
            token.display()
        ),
    );
    let cached = |access: &str, expires: &str| {
        format!(
            r#"{{"startUrl":"https://x.example/start","region":"us-east-1","accessToken":"{access}","expiresAt":"{expires}","clientId":"c","clientSecret":"s","registrationExpiresAt":"2099-01-01T00:00:00Z","refreshToken":"r"}}"#
        )
    };
    // Named after the SHA-1 of the session's name and of the start address.
    let of_session = ".aws/sso/cache/3ece1471f44f63177cbc35ba0b904e0c096b6783.json";
    home.write(
        ".aws/sso/cache/80c7f57c51e0449101de09ef74138a588ea0d4a6.json",
        &cached("LEGACY", "2099-01-01T00:00:00Z"),
    );
    home.write(of_session, &cached("CACHED", "2099-01-01T00:00:00Z"));
    let metadata = services.at("");
    let container = services.at("/container");
    let token = token.to_str().expect("UTF-8");
    let aws = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", token), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    let in_container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())];
    let pod = [in_container[0], ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)];
    let on_instance =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str())];
    let profile = |name| [("KACHE_S3_PROFILE", name)];
    let places = services.env();
    let places: Vec<_> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let check = |parts: &[Variables], expected: &str| {
        let env: Vec<_> = places.iter().chain(parts.iter().copied().flatten()).copied().collect();
        let (key, said) = signer(&home, &server, &env);
        assert_eq!(key.as_deref(), Some(expected), "{parts:?}: {said}");
    };
    check(&[&profile("role")], "AKROLEAKBASE");
    check(&[&profile("fromenv"), &aws], "AKROLEAKENV");
    check(&[&profile("web")], "AKWEB");
    check(&[&profile("sso")], "AKSSOCACHED");
    check(&[&profile("legacy")], "AKSSOLEGACY");
    check(&[&web], "AKWEB");
    check(&[&in_container], "AKCONTAINER");
    check(&[&pod], "AKCONTAINERTOKEN");
    check(&[&on_instance], "AKINSTANCE");
    check(&[&on_instance, &web, &aws], "AKENV");
    home.write(of_session, &cached("CACHED", "2020-01-01T00:00:00Z"));
    check(&[&profile("sso")], "AKSSOREFRESHED");
}

#[test]
fn without_a_remote_it_says_how_to_configure_one() {
    let home = Home::new();
    for args in [&["sync", "--all"][..], &["save-manifest"]] {
        let ran = home.kache(args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("[cache.remote]") && ran.err.contains("KACHE_S3_BUCKET"), "{ran:?}");
    }
    let off = [("KACHE_S3_BUCKET", "b"), ("KACHE_LOCAL_ONLY", "1")];
    let ran = home.kache_with(&["sync", "--all"], &off);
    assert!(ran.code == 2 && ran.err.contains("KACHE_LOCAL_ONLY"), "{ran:?}");
    let wrong = [("KACHE_S3_BUCKET", "b"), ("KACHE_S3_TRUSTED_KEYS", "nonsense")];
    let ran = home.kache_with(&["sync", "--all"], &wrong);
    assert!(ran.code == 2 && ran.err.contains("cache.remote.trusted_keys"), "{ran:?}");
    let plain = [("KACHE_S3_BUCKET", "b"), ("KACHE_S3_ENDPOINT", "http://192.0.2.1:9")];
    let ran = home.kache_with(&["doctor"], &[&plain[..], &[("KACHE_LOCAL_ONLY", "1")]].concat());
    assert!(ran.out.contains("plain http"), "{ran:?}");
}

#[test]
fn doctor_tries_the_remote_step_by_step() {
    let (home, server) = (Home::new(), S3::start());
    let env = server.env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let doctor = |more: &[(&str, &str)]| home.kache_with(&["doctor"], &[&env[..], more].concat()).out;
    // A name goes through the system's resolver.
    let by_name = server.endpoint().replace("127.0.0.1", "localhost");
    let said = doctor(&[("KACHE_S3_ENDPOINT", &by_name)]);
    for step in
        ["localhost is ", "accepts connections", "credentials from KACHE_S3_ACCESS_KEY", "listing works"]
    {
        assert!(said.contains(step), "{step}: {said}");
    }
    assert!(said.contains("writing works") && said.contains("reading works"), "{said}");
    assert!(!said.contains(S3::SECRET_KEY), "{said}");
    for (mischief, advice) in [
        (Mischief::Status(403, "RequestTimeTooSkewed"), "clock"),
        (Mischief::Status(404, "NoSuchBucket"), "create the bucket"),
        (Mischief::Status(403, "InvalidAccessKeyId"), "sign in again"),
        (Mischief::Status(301, "PermanentRedirect"), "KACHE_S3_REGION"),
        (Mischief::Status(403, "AccessDenied"), "s3:ListBucket"),
    ] {
        server.arrange("GET", "", 1, mischief);
        let said = doctor(&[]);
        assert!(said.contains(advice), "{advice}: {said}");
    }
    server.arrange("PUT", "", 1, Mischief::Status(403, "AccessDenied"));
    assert!(doctor(&[]).contains("pulls work, pushes don't"));
    server.arrange("PUT", "", 1, Mischief::Status(403, "QuotaExceeded"));
    assert!(doctor(&[]).contains("raise the bucket's quota"));
    for method in ["GET", "PUT"] {
        server.arrange(method, "", 1, Mischief::Page);
        let said = doctor(&[]);
        assert!(said.contains("the login page of a proxy") && said.contains("BAD"), "{said}");
        server.arrange(method, "", u32::MAX, Mischief::CalledPage);
        let said = doctor(&[]);
        assert!(said.contains("writing works") && said.contains("reading works"), "{said}");
        server.recover();
    }
    let twice = format!("{}/{}", server.endpoint(), S3::BUCKET);
    let ran = home.kache_with(&["doctor"], &[&env[..], &[("KACHE_S3_ENDPOINT", &twice)]].concat());
    assert!(ran.out.contains("ends in the bucket's name") && ran.code == 3, "{ran:?}");
    let ran = home.kache_with(&["doctor"], &[&env[..], &[("KACHE_S3_PREFIX", "/")]].concat());
    assert!(ran.out.contains("leave the setting out for `artifacts`"), "{ran:?}");
    // Neither listing nor writing nor reading is allowed.
    for method in ["GET", "PUT"] {
        server.arrange(method, "", u32::MAX, Mischief::Status(403, "AccessDenied"));
    }
    let ran = home.kache_with(&["doctor"], &env);
    assert!(ran.out.contains("nothing may be done here") && ran.code == 3, "{ran:?}");
    server.recover();
    let said = doctor(&[("KACHE_S3_ENDPOINT", "http://127.0.0.1:9")]);
    assert!(
        said.contains("no connection to 127.0.0.1, port 9") && said.contains("KACHE_S3_ENDPOINT"),
        "{said}"
    );
    let said = doctor(&[("KACHE_S3_ENDPOINT", "http://no-such-host.invalid")]);
    assert!(said.contains("can't be resolved"), "{said}");
}

/// What doctor says of a folder and of web servers, with advice that fits the kind.
#[test]
fn doctor_tries_folders_and_web_servers() {
    let home = Home::new();
    let doctor = |env: &[(&str, String)]| {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        home.kache_with(&["doctor"], &env).out
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = |path: &std::path::Path| vec![("KACHE_REMOTE_PATH", path.display().to_string())];
    let said = doctor(&folder(dir.path()));
    for step in ["folder /", "prefix artifacts", "listing works: 0 entries", "writing works", "reading works"]
    {
        assert!(said.contains(step), "{step}: {said}");
    }
    let said = doctor(&folder(&dir.path().join("none")));
    assert!(said.contains("there is no folder") && said.contains("mount what it is on"), "{said}");

    let server = Web::start(Manners::Heedless);
    let said = doctor(&server.env());
    for step in [
        "web server http://",
        "accepts connections",
        "carry a token",
        "no listing",
        "writing works",
        "reading works",
    ] {
        assert!(said.contains(step), "{step}: {said}");
    }
    assert!(!said.contains(Web::TOKEN), "{said}");
    let said = doctor(&[("KACHE_REMOTE_URL", server.url())]);
    assert!(said.contains("carry no credentials") && said.contains("set KACHE_REMOTE_TOKEN"), "{said}");
    let moved = Mischief::StatusWith(301, "", "location", "https://elsewhere.example/".to_owned());
    server.arrange("PUT", "", 1, moved);
    let said = doctor(&server.env());
    assert!(said.contains("https://elsewhere.example/") && said.contains("no redirections"), "{said}");
    let only = Web::start(Manners::ReadOnly);
    assert!(doctor(&only.env()).contains("pulls work, pushes don't"));
    let said = doctor(&[("KACHE_REMOTE_URL", "http://127.0.0.1:9/x".to_owned())]);
    assert!(said.contains("no connection to 127.0.0.1, port 9"), "{said}");
}

/// The same of clouds: whose credentials are used, and what is wrong with them.
#[test]
fn doctor_tries_clouds() {
    let home = Home::new();
    let doctor = |env: &[(&str, String)]| {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let said = home.kache_with(&["doctor"], &env).out;
        let listed = home.kache_with(&["config", "--list"], &env).out;
        for secret in ["PRIVATE KEY", Azure::KEY, "hush", "ya29."] {
            assert!(!said.contains(secret) && !listed.contains(secret), "{said} {listed}");
        }
        said
    };
    let (google, azure, github) = (Google::start(), Azure::start(), GitHub::start());
    let said = doctor(&github.env_of_pull_request());
    for step in [
        "cache service of GitHub Actions at http://127.0.0.1",
        "opens caches of refs/pull/7/merge, refs/heads/main (reading)",
        "listing works: 0 entries",
        "writing works",
        "reading works",
    ] {
        assert!(said.contains(step), "{step}: {said}");
    }
    let said = doctor(&github.env_of(&[("refs/heads/main", 1)]));
    assert!(said.contains("writing is not allowed") && said.contains("pulls work, pushes don't"), "{said}");
    let said = doctor(&[("KACHE_REMOTE_TYPE", "gha".to_owned())]);
    assert!(said.contains("ACTIONS_RUNTIME_TOKEN aren't both set"), "{said}");
    let said = doctor(&google.env());
    for step in [
        "bucket build-cache at http://127.0.0.1",
        "accepts connections",
        "credentials from the service account builds@testkit.iam.gserviceaccount.com in /",
        "listing works: 0 entries",
        "writing works",
        "reading works",
    ] {
        assert!(said.contains(step), "{step}: {said}");
    }
    let said = doctor(&google.env_with(std::path::Path::new("/none.json")));
    assert!(
        said.contains("can't read /none.json") && said.contains("GOOGLE_APPLICATION_CREDENTIALS"),
        "{said}"
    );
    let nobody = [google.env_on_machine(), vec![("GCE_METADATA_HOST", "127.0.0.1:9".to_owned())]].concat();
    let said = doctor(&nobody);
    assert!(
        said.contains("gives no token") && said.contains("gcloud auth application-default login"),
        "{said}"
    );
    google.arrange("POST", "/upload", 1, Mischief::Status(403, "Forbidden"));
    let said = doctor(&google.env());
    assert!(said.contains("Storage Object User allows them"), "{said}");
    let said = doctor(&[google.env(), vec![("KACHE_GCS_BUCKET", "other".to_owned())]].concat());
    assert!(said.contains("bucket does not exist") && said.contains("KACHE_GCS_BUCKET"), "{said}");

    let said = doctor(&azure.env());
    for step in [
        "container build-cache at http://127.0.0.1",
        "signed with the key of testkit",
        "listing works: 0 entries",
        "writing works",
        "reading works",
    ] {
        assert!(said.contains(step), "{step}: {said}");
    }
    assert!(doctor(&azure.env_with_sas()).contains("requests carry a shared access signature"));
    let said = doctor(&[azure.env(), vec![("AZURE_STORAGE_KEY", "aHVzaA==".to_owned())]].concat());
    assert!(said.contains("AuthenticationFailed") && said.contains("set AZURE_STORAGE_KEY"), "{said}");
    let said = doctor(&[azure.env(), vec![("KACHE_AZURE_CONTAINER", "other".to_owned())]].concat());
    assert!(said.contains("ContainerNotFound") && said.contains("create the container"), "{said}");
}
