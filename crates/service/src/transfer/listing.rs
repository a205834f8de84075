//! Lists manifests, page by page. Objects that aren't manifests are passed over.

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;

use super::{Refusal, Transfer, TransferError, refuse};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The crate that it is filed under.
    pub dir: CrateDir,
    pub key: EntryKey,
}

impl Transfer {
    /// The manifests of one crate, or of all.
    pub async fn list_manifests(&self, dir: Option<&CrateDir>) -> Result<Vec<Listed>, TransferError> {
        Ok(self.dated_manifests(dir).await?.into_iter().map(|(_, listed)| listed).collect())
    }

    /// So many manifests of one crate, the newest first.
    ///
    /// # Errors
    /// As [`Transfer::list_manifests`].
    pub async fn newest_manifests(&self, dir: &CrateDir, count: usize) -> Result<Vec<Listed>, TransferError> {
        let mut dated = self.dated_manifests(Some(dir)).await?;
        dated.sort_by_key(|(modified_s, _)| std::cmp::Reverse(*modified_s));
        Ok(dated.into_iter().take(count).map(|(_, listed)| listed).collect())
    }

    /// The manifests of one crate, or of all, with the times at which they were written, in seconds since 1970.
    async fn dated_manifests(&self, dir: Option<&CrateDir>) -> Result<Vec<(i64, Listed)>, TransferError> {
        let prefix = dir.map_or_else(|| self.keys.manifests(), |dir| self.keys.manifests_of(dir));
        let mut found = Vec::new();
        let mut page = None;
        let mut last = String::new();
        loop {
            let listed = self.retry(|| self.remote.list(&prefix, page.clone())).await?;
            // Servers that don't understand where to go on begin again: that would never end.
            if let Some(first) = listed.objects.first()
                && first.name <= last
            {
                return Err(refuse(&prefix, Refusal::Listing));
            }
            if let Some(object) = listed.objects.last() {
                last.clone_from(&object.name);
            }
            found.extend(listed.objects.iter().filter_map(|object| {
                let (dir, key) = self.keys.parse_manifest(&object.name)?;
                Some((object.modified_s, Listed { dir, key }))
            }));
            match listed.next {
                Some(_) if listed.objects.is_empty() => return Err(refuse(&prefix, Refusal::Listing)),
                Some(next) => page = Some(next),
                None => return Ok(found),
            }
        }
    }
}
