//! Google Cloud Storage, by its JSON requests.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use kache_core::config;
use serde_json::Value;

use super::google::Tokens;
use super::{
    Ask, Client, Cloud, Condition, Fault, PAGE_LEN, Page, PageToken, Patience, Request, Service, part,
};
use crate::remote::Object;
use crate::remote::wire::http::Failure;

/// A bucket of Google Cloud Storage.
pub(crate) struct Bucket {
    server: String,
    bucket: String,
    tokens: Option<Tokens>,
}

/// A client of a bucket of Google Cloud Storage.
pub(crate) type Gcs = Cloud<Bucket>;

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.server, self.bucket)
    }
}

impl Gcs {
    /// A client of the bucket that the settings name. Sends nothing yet.
    pub fn connect(settings: &config::Gcs, patience: Patience) -> Self {
        let server = settings.server().to_owned();
        let tokens = (!settings.is_anonymous).then(|| Tokens::new(settings));
        Self::over(Bucket { server, bucket: settings.bucket.value.clone(), tokens }, patience)
    }
}

impl Service for Bucket {
    async fn source(&self, client: &Client) -> Result<Option<String>, Failure> {
        let source = match &self.tokens {
            None => "nowhere: they are withheld".to_owned(),
            Some(tokens) => tokens.token(client).await.map(|_| tokens.source())?,
        };
        Ok(Some(format!("credentials from {source}")))
    }

    async fn request(&self, client: &Client, ask: Ask<'_>, _: u64) -> Result<Request, Failure> {
        let Self { server, bucket, .. } = self;
        let of_bucket = format!("{server}/storage/v1/b/{bucket}/o");
        let (method, url) = match ask {
            Ask::Read(name) => ("GET", format!("{of_bucket}/{}?alt=media", part(name))),
            Ask::Look(name) => ("GET", format!("{of_bucket}/{}?fields=size", part(name))),
            Ask::Write(name, condition) => {
                let condition = if condition == Condition::Absent { "&ifGenerationMatch=0" } else { "" };
                let query = format!("uploadType=media&fields=size&name={}{condition}", part(name));
                ("POST", format!("{server}/upload/storage/v1/b/{bucket}/o?{query}"))
            }
            Ask::List(prefix, page) => {
                let page = page.map(|page| format!("&pageToken={}", part(page))).unwrap_or_default();
                let fields = "nextPageToken,items(name,size,updated)";
                let query = format!("prefix={}&maxResults={PAGE_LEN}&fields={fields}{page}", part(prefix));
                ("GET", format!("{of_bucket}?{query}"))
            }
        };
        let mut headers = Vec::new();
        if let Some(tokens) = &self.tokens {
            headers.push(("authorization", format!("Bearer {}", tokens.token(client).await?)));
        }
        Ok(Request { method, url, headers })
    }

    fn judge(&self, ask: Ask<'_>, failure: Failure, _: Option<&str>, body: &[u8]) -> Failure {
        let said = serde_json::from_slice::<Value>(body).ok();
        let said = said.as_ref().and_then(|said| said["error"]["message"].as_str());
        // Objects that are asked for as they are have errors of plain text.
        let plain =
            || std::str::from_utf8(body).ok().filter(|text| text.len() < 300 && !text.starts_with('<'));
        let said = said.or_else(plain).map(str::trim).unwrap_or_default();
        let is_of_bucket =
            said.contains("bucket does not exist") || !matches!(ask, Ask::Read(_) | Ask::Look(_));
        let fault = match failure.fault {
            Fault::NotFound if is_of_bucket => Fault::NoBucket,
            fault => fault,
        };
        let detail = if said.is_empty() { failure.detail } else { format!("{said} ({})", failure.detail) };
        Failure { fault, detail, ..failure }
    }

    fn size(&self, _: Option<u64>, body: &[u8]) -> Option<u64> {
        number(&serde_json::from_slice::<Value>(body).ok()?["size"])
    }

    fn page(&self, body: &[u8]) -> Option<Page> {
        let listed: Value = serde_json::from_slice(body).ok()?;
        listed.as_object()?;
        let objects = listed["items"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(|item| {
            let updated = DateTime::from_str(item["updated"].as_str()?, Format::DateTimeWithOffset);
            Some(Object {
                name: item["name"].as_str()?.to_owned(),
                size: number(&item["size"])?,
                modified_s: updated.map_or(0, |time| time.secs()),
            })
        });
        let next = listed["nextPageToken"].as_str().map(|token| PageToken(token.to_owned()));
        Some(Page { objects: objects.collect(), next })
    }

    async fn renew(&self) -> bool {
        match &self.tokens {
            Some(tokens) => tokens.renew().await,
            None => false,
        }
    }
}

/// A number that JSON has as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}
