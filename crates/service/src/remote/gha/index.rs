//! Which bundle has which object: `[1, [bundle…], {name: [bundle's number, offset, length, time]…}]` as JSON, compressed with
//! zstd. Asks nobody.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::Arc;

const VERSION: u32 = 1;
/// Most objects of an index: the newest stay.
const OBJECTS_MAX: usize = 100_000;
/// Most bytes of an index.
const BYTES_MAX: u64 = 128 << 20;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub bundle: String,
    /// In the bundle, in bytes.
    pub offset: u64,
    pub size: u64,
    pub modified_s: i64,
}

/// Objects and their places. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(Arc<BTreeMap<String, Place>>);

impl Index {
    pub fn get(&self, name: &str) -> Option<Place> {
        self.0.get(name).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, name: String, place: Place) {
        Arc::make_mut(&mut self.0).insert(name, place);
    }

    /// Adds what another has, in place of what is here.
    pub fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            Arc::make_mut(&mut self.0)
                .extend(other.0.iter().map(|(name, place)| (name.clone(), place.clone())));
        }
    }

    /// Whether all objects of another are here, wherever; a later writer's counts.
    pub fn has_all(&self, other: &Self) -> bool {
        let is_here = |name: &String, place: &Place| {
            self.0.get(name).is_some_and(|here| here == place || here.modified_s >= place.modified_s)
        };
        other.0.iter().all(|(name, place)| is_here(name, place))
    }

    /// Leaves out what is in bundles that are gone.
    pub fn forget(&mut self, gone: &HashSet<String>) {
        if self.0.values().any(|place| gone.contains(&place.bundle)) {
            Arc::make_mut(&mut self.0).retain(|_, place| !gone.contains(&place.bundle));
        }
    }

    /// Objects whose names begin so, in order.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, Place)> {
        let from = self.0.range(prefix.to_owned()..);
        let fitting = from.take_while(move |(name, _)| name.starts_with(prefix));
        fitting.map(|(name, place)| (name.as_str(), place.clone()))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut newest: Vec<_> = self.0.iter().collect();
        if newest.len() > OBJECTS_MAX {
            newest.sort_by_key(|(_, place)| std::cmp::Reverse(place.modified_s));
            newest.truncate(OBJECTS_MAX);
        }
        let mut bundles: Vec<&str> = newest.iter().map(|(_, place)| place.bundle.as_str()).collect();
        bundles.sort_unstable();
        bundles.dedup();
        let objects: BTreeMap<_, _> = newest
            .iter()
            .map(|(name, place)| {
                let number = bundles.binary_search(&place.bundle.as_str()).unwrap_or_default();
                (name, (number, place.offset, place.size, place.modified_s))
            })
            .collect();
        let text = serde_json::to_vec(&(VERSION, &bundles, objects)).unwrap_or_default();
        zstd::encode_all(text.as_slice(), 3).unwrap_or_default()
    }

    /// What an index says; `None` for one that says nothing, or is a newer kache's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        zstd::Decoder::new(bytes).ok()?.take(BYTES_MAX).read_to_end(&mut text).ok()?;
        type Places = BTreeMap<String, (usize, u64, u64, i64)>;
        let (version, bundles, objects): (u32, Vec<String>, Places) = serde_json::from_slice(&text).ok()?;
        let place = |(name, (number, offset, size, modified_s)): (String, (usize, u64, u64, i64))| {
            let bundle = bundles.get(number)?.clone();
            offset.checked_add(size)?;
            Some((name, Place { bundle, offset, size, modified_s }))
        };
        (version == VERSION).then(|| Self(Arc::new(objects.into_iter().filter_map(place).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(objects: &[(&str, &str, i64)]) -> Index {
        let mut index = Index::default();
        for (name, bundle, modified_s) in objects {
            let place = Place { bundle: (*bundle).to_owned(), offset: 7, size: 3, modified_s: *modified_s };
            index.insert((*name).to_owned(), place);
        }
        index
    }

    #[test]
    fn an_index_comes_back_and_what_is_none_says_nothing() {
        let all = index(&[("a/1", "x", 1), ("a/2", "y", 2), ("b", "x", 3)]);
        let back = Index::decode(&all.encode()).expect("an index");
        assert_eq!(back.0, all.0);
        assert_eq!(back.below("a/").map(|(name, _)| name).collect::<Vec<_>>(), ["a/1", "a/2"]);
        let packed = |text: &str| zstd::encode_all(text.as_bytes(), 3).expect("packed");
        for odd in [b"".to_vec(), b"{}".to_vec(), packed("[2,[],{}]"), packed("[1,[],[]]"), packed("null")] {
            assert!(Index::decode(&odd).is_none());
        }
        let hostile = format!("[1,[\"x\"],{{\"a\":[1,0,1,0],\"b\":[0,{},9,0],\"c\":[0,0,1,0]}}]", u64::MAX);
        let left = Index::decode(&packed(&hostile)).expect("an index");
        assert_eq!(left.0.keys().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn what_jobs_wrote_is_merged() {
        let mut all = index(&[("a", "x", 1), ("b", "x", 1)]);
        let mine = index(&[("b", "y", 2), ("c", "y", 2)]);
        assert!(!all.has_all(&mine));
        all.merge(mine.clone());
        assert!(all.has_all(&mine) && all.get("b").is_some_and(|place| place.bundle == "y"));
        assert!(index(&[("b", "z", 3), ("c", "z", 3)]).has_all(&mine), "a later writer's counts");
        all.forget(&HashSet::from(["y".to_owned()]));
        assert_eq!(all.0.keys().collect::<Vec<_>>(), ["a"]);
    }
}
