//! Containers of Azure storage accounts: their requests, signed with the account's key or carrying a shared access
//! signature.

use std::time::SystemTime;

use aws_smithy_types::date_time::Format;
use aws_smithy_types::{DateTime, base64};
use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use kache_core::config::{self, AzureCredentials};
use kache_core::remote::url;
use ring::hmac;

use super::{
    Ask, Client, Cloud, Condition, Fault, PAGE_LEN, Page, PageToken, Patience, Request, Service, part,
};
use crate::remote::Object;
use crate::remote::wire::http::{Failure, TYPE};

/// The requests and answers that are meant.
const VERSION: &str = "2021-12-02";

pub(crate) struct Container {
    /// Without trailing slash.
    endpoint: String,
    account: String,
    container: String,
    credentials: Option<AzureCredentials>,
}

/// A client of a container of an Azure storage account.
pub(crate) type Azure = Cloud<Container>;

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.endpoint, self.container)
    }
}

impl Azure {
    /// A client of the container that the settings name. Sends nothing yet.
    pub fn connect(settings: &config::Azure, patience: Patience) -> Self {
        let container = Container {
            endpoint: settings.endpoint.value.clone(),
            account: settings.account.value.clone(),
            container: settings.container.value.clone(),
            credentials: settings.credentials.clone(),
        };
        Self::over(container, patience)
    }
}

impl Container {
    /// The header that shows who asks.
    fn sign(
        &self,
        key: &str,
        request: &Request,
        query: &[(&str, String)],
        size: u64,
    ) -> Result<String, Failure> {
        let bad = || Failure::new(Fault::Credentials, "the storage account's key is not in base64");
        let key = base64::decode(key).map_err(|_| bad())?;
        let header = |name: &str| {
            let found = request.headers.iter().find(|(own, _)| *own == name);
            found.map_or("", |(_, value)| value.as_str()).to_owned()
        };
        let length = if size == 0 { String::new() } else { size.to_string() };
        // Encoding, language, length, MD5, type, date, and five conditions.
        let mut text = [
            request.method,
            "",
            "",
            &length,
            "",
            &header("content-type"),
            "",
            "",
            "",
            &header("if-none-match"),
            "",
            "",
        ]
        .join("\n");
        let mut own: Vec<_> = request.headers.iter().filter(|(name, _)| name.starts_with("x-ms-")).collect();
        own.sort_unstable();
        for (name, value) in own {
            text.push_str(&format!("\n{name}:{value}"));
        }
        let path = request.url.split('?').next().unwrap_or_default();
        let path = path.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        text.push_str(&format!("\n/{}{}", self.account, path.unwrap_or_default()));
        let mut query: Vec<_> = query.iter().collect();
        query.sort_unstable();
        for (name, value) in query {
            text.push_str(&format!("\n{name}:{value}"));
        }
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        Ok(format!("SharedKey {}:{}", self.account, base64::encode(signature)))
    }
}

impl Service for Container {
    async fn request(&self, _: &Client, ask: Ask<'_>, size: u64) -> Result<Request, Failure> {
        let place = format!("{}/{}", self.endpoint, self.container);
        let of_blob = |name: &str| format!("{place}/{}", url::encode(name));
        let now = DateTime::from(SystemTime::now()).fmt(Format::HttpDate).unwrap_or_default();
        let mut headers = vec![("x-ms-date", now), ("x-ms-version", VERSION.to_owned())];
        let mut query = Vec::new();
        let (method, mut url) = match ask {
            Ask::Read(name) => ("GET", of_blob(name)),
            Ask::Look(name) => ("HEAD", of_blob(name)),
            Ask::Write(name, condition) => {
                headers.push(("content-type", TYPE.to_owned()));
                headers.push(("x-ms-blob-type", "BlockBlob".to_owned()));
                if condition == Condition::Absent {
                    headers.push(("if-none-match", "*".to_owned()));
                }
                ("PUT", of_blob(name))
            }
            Ask::List(prefix, page) => {
                query.extend([("restype", "container".to_owned()), ("comp", "list".to_owned())]);
                query.extend([("prefix", prefix.to_owned()), ("maxresults", PAGE_LEN.to_string())]);
                query.extend(page.map(|page| ("marker", page.to_owned())));
                ("GET", place)
            }
        };
        let fields = query.iter().map(|(name, value)| format!("{name}={}", part(value)));
        let mut fields: Vec<_> = fields.collect();
        if let Some(AzureCredentials::Sas(sas)) = &self.credentials {
            fields.push(sas.0.clone());
        }
        if !fields.is_empty() {
            url = format!("{url}?{}", fields.join("&"));
        }
        let mut request = Request { method, url, headers };
        if let Some(AzureCredentials::Key(key)) = &self.credentials {
            let signature = self.sign(&key.0, &request, &query, size)?;
            request.headers.push(("authorization", signature));
        }
        Ok(request)
    }

    fn judge(&self, ask: Ask<'_>, failure: Failure, code: Option<&str>, body: &[u8]) -> Failure {
        let said = String::from_utf8_lossy(body);
        let tag = |name: &str| {
            let (_, rest) = said.split_once(&format!("<{name}>"))?;
            Some(rest.split_once("</")?.0)
        };
        let code = code.or_else(|| tag("Code")).unwrap_or_default();
        let why = tag("AuthenticationErrorDetail").unwrap_or_default();
        let fault = match code {
            "ContainerNotFound" | "ContainerBeingDeleted" => Fault::NoBucket,
            "AuthenticationFailed" if why.contains("too old") => Fault::ClockSkew,
            "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
                Fault::Credentials
            }
            "ServerBusy" | "OperationTimedOut" => Fault::Throttled,
            // A container that may not be seen isn't told from none.
            "ResourceNotFound" if !matches!(ask, Ask::Read(_) | Ask::Look(_)) => Fault::NoBucket,
            _ => failure.fault,
        };
        let detail = match code {
            "" => failure.detail,
            code => format!("{code} ({})", failure.detail),
        };
        Failure { fault, detail, ..failure }
    }

    fn size(&self, announced: Option<u64>, _: &[u8]) -> Option<u64> {
        announced
    }

    fn page(&self, body: &[u8]) -> Option<Page> {
        let text = std::str::from_utf8(body).ok()?;
        let mut document = Document::new(text.trim_start_matches('\u{feff}'));
        let mut root =
            document.root_element().ok().filter(|root| root.start_el().matches("EnumerationResults"))?;
        let mut page = Page::default();
        while let Some(mut part) = root.next_tag() {
            match part.start_el().local() {
                "Blobs" => {
                    while let Some(mut blob) = part.next_tag() {
                        page.objects.extend(object(&mut blob));
                    }
                }
                "NextMarker" => {
                    let marker = try_data(&mut part).ok()?.into_owned();
                    page.next = Some(PageToken(marker)).filter(|marker| !marker.0.is_empty());
                }
                _ => {}
            }
        }
        Some(page)
    }

    async fn renew(&self) -> bool {
        false
    }
}

fn object(blob: &mut ScopedDecoder<'_, '_>) -> Option<Object> {
    let (mut name, mut size, mut modified_s) = (None, None, 0);
    while let Some(mut field) = blob.next_tag() {
        match field.start_el().local() {
            "Name" => name = Some(try_data(&mut field).ok()?.into_owned()),
            "Properties" => {
                while let Some(mut property) = field.next_tag() {
                    match property.start_el().local() {
                        "Content-Length" => size = try_data(&mut property).ok()?.parse().ok(),
                        "Last-Modified" => {
                            let time = DateTime::from_str(&try_data(&mut property).ok()?, Format::HttpDate);
                            modified_s = time.map_or(0, |time| time.secs());
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Object { name: name?, size: size?, modified_s })
}
