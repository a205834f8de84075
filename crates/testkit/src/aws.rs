//! What hands out temporary credentials in AWS, on loopback: the token service, single sign-on, the container endpoint
//! and the instance's metadata. Each answers with an access key that says who it was and what it was shown; nothing
//! is checked beyond that.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// The services, on one port. They live as long as the test's process.
pub struct AwsServices {
    port: u16,
}

struct Request {
    method: String,
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl AwsServices {
    /// Starts them.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                std::thread::spawn(move || serve(&socket));
            }
        });
        Self { port }
    }

    /// The address, with a path.
    pub fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Variables that lead there whoever asks for the token service or single sign-on.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_STS", self.at("/sts")),
            ("AWS_ENDPOINT_URL_SSO", self.at("")),
            ("AWS_ENDPOINT_URL_SSO_OIDC", self.at("")),
        ]
    }
}

fn serve(socket: &TcpStream) {
    let mut input = BufReader::new(socket);
    while let Some(request) = read(&mut input) {
        let (status, body) = answer(&request);
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut output = socket;
        if output.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(input: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: String::new() };
    let long = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    input.take(long).read_to_string(&mut request.body).ok()?;
    Some(request)
}

fn answer(request: &Request) -> (u16, String) {
    let path = request.path.split('?').next().unwrap_or_default();
    let role = path.trim_end_matches('/').trim_end_matches("-extended");
    match (request.method.as_str(), path) {
        (_, path) if path.starts_with("/sts") => (200, token_service(request)),
        ("PUT", "/latest/api/token") => (200, "METADATATOKEN".to_owned()),
        (_, path) if path.starts_with("/latest/") && request.header("x-aws-ec2-metadata-token").is_none() => {
            (401, String::new())
        }
        _ if role.ends_with("/iam/security-credentials") => (200, "a-role".to_owned()),
        (_, path) if path.starts_with("/latest/meta-data/iam/security-credentials") => (
            200,
            temporary(
                "AKINSTANCE",
                r#""Code":"Success","Type":"AWS-HMAC","LastUpdated":"2020-01-01T00:00:00Z","#,
            ),
        ),
        (_, path) if path.starts_with("/container") => {
            let shown =
                if request.header("authorization").is_some() { "AKCONTAINERTOKEN" } else { "AKCONTAINER" };
            (200, temporary(shown, ""))
        }
        (_, path) if path.starts_with("/federation") => {
            let token = request.header("x-amz-sso_bearer_token").unwrap_or("nothing");
            let key = format!(
                r#"{{"roleCredentials":{{"accessKeyId":"AKSSO{token}","secretAccessKey":"s","sessionToken":"t","expiration":4102444800000}}}}"#
            );
            (200, key)
        }
        ("POST", "/token") => (
            200,
            r#"{"accessToken":"REFRESHED","tokenType":"Bearer","expiresIn":3600,"refreshToken":"r2"}"#
                .to_owned(),
        ),
        _ => (404, String::new()),
    }
}

/// Credentials as the container endpoint and the instance's metadata give them.
fn temporary(key: &str, more: &str) -> String {
    format!(
        r#"{{{more}"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"{EXPIRES}","RoleArn":"r"}}"#
    )
}

/// Credentials as the token service gives them: for a role, the key tells which one asked for it.
fn token_service(request: &Request) -> String {
    let is_web = request.body.contains("AssumeRoleWithWebIdentity")
        || request.path.contains("AssumeRoleWithWebIdentity");
    let asker =
        request.header("authorization").and_then(|text| text.split_once("Credential=")?.1.split('/').next());
    let (action, key) = match (is_web, asker) {
        (true, _) => ("AssumeRoleWithWebIdentity", "AKWEB".to_owned()),
        (false, asker) => ("AssumeRole", format!("AKROLE{}", asker.unwrap_or_default())),
    };
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser>\
         <AssumedRoleId>A:B</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{EXPIRES}</Expiration></Credentials></{action}Result></{action}Response>"
    )
}
