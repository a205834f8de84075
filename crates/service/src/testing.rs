//! What tests of this crate share: stores with an entry in them, a bucket in memory, an ear for warnings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, Output, OutputKind, Text};
use kache_core::entry_key::{self, Rendering};
use kache_core::key::{EntryKey, KeyWriter, UnitKey};
use kache_core::paths::Roots;
use kache_core::plan::EPOCH_S;
use kache_core::provenance::Provenance;
use kache_core::record::{Input, InputRecord, Observed};
use kache_core::remote::keys::CrateDir;
use kache_store::Store;
use kache_store::blobs::IngestHow;
use kache_store::link::Permission;

use crate::remote::memory::Memory;
use crate::transfer::{Policy, Transfer};

/// One machine: a store of its own, and the bucket that all share.
pub struct Machine {
    pub dir: tempfile::TempDir,
    pub transfer: Transfer,
}

/// What is stored on a machine.
pub struct Stored {
    pub key: EntryKey,
    pub unit: UnitKey,
    pub dir: CrateDir,
    pub entry: Entry,
}

impl Machine {
    pub fn new(bucket: &Arc<Memory>, policy: Policy) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Arc::new(Store::open(dir.path()).expect("open"));
        Self { dir, transfer: Transfer::new(store, bucket.clone(), "artifacts", policy) }
    }

    /// The same store with other keys.
    pub fn rekeyed(&self, bucket: &Arc<Memory>, policy: Policy) -> Self {
        let store = Arc::clone(self.transfer.store());
        let dir = tempfile::tempdir().expect("temp dir");
        Self { dir, transfer: Transfer::new(store, bucket.clone(), "artifacts", policy) }
    }

    pub fn store(&self) -> &Store {
        self.transfer.store()
    }

    /// Stores the result of a compile that read one file and these variables; its outputs are `content` and, as a
    /// message, `stderr`.
    pub fn compile(&self, name: &str, content: &[u8], stderr: &[u8], variables: &[&str]) -> Stored {
        let value = Observed::Content(Digest::of(content));
        let variables: Vec<_> = variables.iter().map(|name| (*name, value)).collect();
        self.compile_with(name, content, stderr, &variables)
    }

    /// The same, where each variable looked like this.
    pub fn compile_with(
        &self,
        name: &str,
        content: &[u8],
        stderr: &[u8],
        variables: &[(&str, Observed)],
    ) -> Stored {
        let file = self.dir.path().join("output");
        std::fs::write(&file, content).expect("write");
        let digest = Digest::of(content);
        let store = self.store();
        store.ingest(&digest, &file, IngestHow::Clone, EPOCH_S + 3, Permission::Executable).expect("blob");
        let mut unit = KeyWriter::new("unit");
        unit.text("compiler", Digest::of(b"rustc").to_string());
        unit.text("mode", "build");
        unit.text("crate name", name);
        unit.text("flag -C opt-level", "3");
        let (unit, unit_fields) = unit.finish();
        let mut entry = Entry::new(UnitKey(unit), name);
        entry.package = name.to_owned();
        entry.package_version = "1.0.0".to_owned();
        entry.dep_info_name = format!("{name}.d");
        entry.stderr = Text::Blob(store.ingest_bytes(stderr).expect("text"));
        entry.outputs.push(Output {
            name: format!("lib{name}.rlib"),
            kind: OutputKind::Rlib,
            digest,
            size: content.len() as u64,
            mtime_s: EPOCH_S + 3,
            executable: true,
        });
        let source = (Input::File("{ws}/src/lib.rs".to_owned()), Observed::Content(Digest::of(content)));
        let variables = variables.iter().map(|(name, value)| (Input::Env((*name).to_owned()), *value));
        let (inputs, observed): (Vec<_>, Vec<_>) = [source].into_iter().chain(variables).unzip();
        let record = InputRecord { inputs, provenance: Provenance::Here, ..InputRecord::default() };
        let roots = Roots::default();
        let (key, entry_fields) =
            entry_key::derive(&entry.unit, &record, &observed, &roots, &Rendering::default());
        let evidence = Evidence {
            crate_name: name.to_owned(),
            unit_fields,
            entry_fields,
            record: record.clone(),
            ..Evidence::default()
        };
        store.publish(&key, &entry, &evidence).expect("published");
        store.add_record(&entry.unit, InputRecord { last: Some(key), ..record }).expect("record");
        let dir = CrateDir::of(name, name).expect("a name");
        Stored { key, unit: entry.unit, dir, entry }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds have nothing in common, and none of them is zero.
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn number(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).expect("32 bits")
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number()).expect("it fits") % end.max(1)
    }

    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}
