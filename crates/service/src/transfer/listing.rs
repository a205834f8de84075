//! Lists manifests, page by page. Objects that aren't manifests are passed over.

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;

use super::{Refusal, Transfer, TransferError, refuse};

/// A manifest that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The crate that it is filed under.
    pub dir: CrateDir,
    /// The entry.
    pub key: EntryKey,
}

impl Transfer {
    /// The manifests of one crate, or of all.
    ///
    /// # Errors
    /// When the bucket can't be listed, or its pages don't advance.
    pub async fn list_manifests(&self, dir: Option<&CrateDir>) -> Result<Vec<Listed>, TransferError> {
        let prefix = dir.map_or_else(|| self.keys.manifests(), |dir| self.keys.manifests_of(dir));
        let mut found = Vec::new();
        let mut page = None;
        let mut last = String::new();
        loop {
            let listed = self.retry(|| self.remote.list(&prefix, page.clone())).await?;
            // Servers that don't understand where to go on begin again: that would never end.
            if let Some((first, _)) = listed.objects.first()
                && *first <= last
            {
                return Err(refuse(&prefix, Refusal::Listing));
            }
            if let Some((name, _)) = listed.objects.last() {
                last.clone_from(name);
            }
            let manifests = listed.objects.iter().filter_map(|(name, _)| self.keys.parse_manifest(name));
            found.extend(manifests.map(|(dir, key)| Listed { dir, key }));
            match listed.next {
                Some(_) if listed.objects.is_empty() => return Err(refuse(&prefix, Refusal::Listing)),
                Some(next) => page = Some(next),
                None => return Ok(found),
            }
        }
    }
}
