//! Which entries the bucket has, found out for many at once, so that a push of nothing new asks little. What was seen there
//! within a day is remembered in the store, and one in a hundred is asked for again. The rest is listed where that takes
//! fewer requests than asking for each.

use std::collections::{BTreeSet, HashSet};

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::MANIFEST_BYTES_MAX;
use kache_store::clock::since_1970;
use tokio::task::JoinSet;

use super::{Transfer, TransferError};

/// Kind of the memos; the key is the remote's identity.
const MEMO: &str = "in-remote";
/// For how long what was seen is believed, in seconds: buckets forget old objects.
const BELIEVED_S: u64 = 86_400;
/// Of so many that are remembered, one is asked for, and no more at once than this.
const SAMPLED: usize = 100;
const SAMPLES_MAX: usize = 16;
/// Fewer entries aren't listed: asking for one takes two or three requests.
const LISTED_MIN: usize = 4;
/// Most that are remembered, as the memo's length allows.
const REMEMBERED_MAX: usize = 32_000;
/// Length of a digest and of the time in front of them, in bytes.
const DIGEST_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

impl Transfer {
    /// Those of the entries that the bucket has, as far as that is cheaply found out.
    pub async fn known(&self, keys: &[EntryKey]) -> BTreeSet<EntryKey> {
        let remembered = self.remembered();
        let mut known: BTreeSet<EntryKey> =
            keys.iter().copied().filter(|key| remembered.contains(key)).collect();
        known.retain(|key| !self.is_broken(key));
        let mut looks = JoinSet::new();
        for key in known.iter().step_by(SAMPLED.max(known.len() / SAMPLES_MAX)).copied() {
            let me = self.clone();
            looks.spawn(async move { me.is_there(key).await });
        }
        while let Some(is_there) = looks.join_next().await {
            if !is_there.unwrap_or(false) {
                self.forget_all();
                known.clear();
                break;
            }
        }
        let rest: Vec<EntryKey> = keys.iter().filter(|key| !known.contains(*key)).copied().collect();
        // A listing doesn't tell who signed.
        if rest.len() >= LISTED_MIN && self.can_list() && !self.policy.trust.is_particular() {
            match self.watched(self.listed_among(rest)).await {
                Ok(listed) => known.extend(listed),
                Err(error) => tracing::debug!(%error, "each entry is asked for"),
            }
        }
        known
    }

    /// These entries are in the bucket.
    pub fn remember(&self, keys: impl IntoIterator<Item = EntryKey>) {
        let Some(remote) = &self.policy.remote else { return };
        let since_s = self.memory().map_or_else(now_s, |(since_s, _)| since_s);
        let mut known = self.remembered();
        let before = known.len();
        known.extend(keys);
        if known.len() == before {
            return;
        }
        let mut bytes = since_s.to_le_bytes().to_vec();
        known.iter().take(REMEMBERED_MAX).for_each(|key| bytes.extend_from_slice(key.0.as_bytes()));
        if let Err(error) = self.store.memo_put(MEMO, remote, &bytes) {
            tracing::debug!(%error, "the next push asks again");
        }
    }

    /// When the first of what is remembered was seen, and all of it; `None` once that is too long ago.
    fn memory(&self) -> Option<(u64, Vec<u8>)> {
        let bytes = self.store.memo_get(MEMO, self.policy.remote.as_ref()?)?;
        let since_s = u64::from_le_bytes(bytes.get(..TIME_BYTES)?.try_into().ok()?);
        (since_s..since_s.saturating_add(BELIEVED_S)).contains(&now_s()).then_some((since_s, bytes))
    }

    fn remembered(&self) -> BTreeSet<EntryKey> {
        let Some((_, bytes)) = self.memory() else { return BTreeSet::new() };
        let digests = bytes[TIME_BYTES..].chunks_exact(DIGEST_BYTES);
        digests.filter_map(|bytes| Some(EntryKey(Digest::from_bytes(bytes.try_into().ok()?)))).collect()
    }

    fn forget_all(&self) {
        if let Some(remote) = &self.policy.remote
            && let Err(error) = self.store.memo_forget(MEMO, remote)
        {
            tracing::warn!(%error, "what the remote no longer has may not be pushed for a day");
        }
    }

    async fn is_there(&self, key: EntryKey) -> bool {
        let entry = self.blocking(move |this| this.store.peek_entry(&key)).await;
        let Ok(Ok(Some(entry))) = entry else { return false };
        let Some(dir) = CrateDir::of(&entry.package, &entry.crate_name) else { return false };
        self.has_manifest(&dir, &key).await.unwrap_or(false)
    }

    /// Those of the entries of which a listing has all objects; an error also where it takes too many requests.
    async fn listed_among(&self, keys: Vec<EntryKey>) -> Result<Vec<EntryKey>, TransferError> {
        let prefix = self.keys.all();
        let mut listed: HashSet<(String, Digest)> = HashSet::new();
        let mut page = None;
        for _ in 0..=keys.len() / SAMPLED {
            let found = self.retry(|| self.remote.list(&prefix, page.clone())).await?;
            for object in &found.objects {
                let is_usable = object.size <= MANIFEST_BYTES_MAX || !object.name.ends_with(".json");
                let parts = object.name.strip_prefix(&prefix).filter(|_| is_usable);
                let parts = parts.and_then(|rest| Some((rest.split_once('/')?.0, rest.rsplit_once('/')?.1)));
                if let Some((kind, file)) = parts
                    && let Some(Ok(digest)) = file.split('.').next().map(str::parse)
                {
                    listed.insert((kind.to_owned(), digest));
                }
            }
            page = found.next;
            if page.is_none() {
                break;
            }
        }
        if page.is_some() {
            return Ok(Vec::new());
        }
        self.blocking(move |this| {
            let has = |kind: &str, digest| listed.contains(&(kind.to_owned(), digest));
            let is_whole = |key: &EntryKey| {
                if !has("manifests", key.0) || !has("packs", key.0) || this.is_broken(key) {
                    return false;
                }
                let Ok(Some(entry)) = this.store.peek_entry(key) else { return false };
                has("inputs", entry.unit.0)
                    || this.store.records(&entry.unit).is_ok_and(|set| set.records.is_empty())
            };
            keys.into_iter().filter(is_whole).collect()
        })
        .await
    }
}

fn now_s() -> u64 {
    since_1970().as_secs()
}
