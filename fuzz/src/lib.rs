//! What the fuzzers do with the bytes they make up. The same functions replay every kept input in `kache-core`'s tests, so
//! that they compile on every change and nothing that was once found comes back.

use std::ffi::{OsStr, OsString};
use std::io::Cursor;

use kache_core::cargo_call;
use kache_core::config::{CrateFile, Settings};
use kache_core::depinfo::DepInfo;
use kache_core::digest::Digest;
use kache_core::entry::Entry;
use kache_core::event::{Event, Glimpse};
use kache_core::form::FormError;
use kache_core::invocation::{Env, Invocation};
use kache_core::key::EntryKey;
use kache_core::lockfile::Lockfile;
use kache_core::paths::{Root, Roots};
use kache_core::process_stat::ProcessStat;
use kache_core::protocol::{self, FRAME_BYTES_MAX, HEADER_BYTES, Reply, Request};
use kache_core::record::{RECORDS_MAX, RecordSet};
use kache_core::remap::{self, Adjustments};
use kache_core::remote::build::BuildManifest;
use kache_core::remote::keys::{CrateDir, Keys, Label, Named};
use kache_core::remote::manifest::{BLOBS_MAX, Manifest, Pack, Signed};
use kache_core::remote::member::Member;
use kache_core::remote::records;
use kache_core::remote::shared::{self, About, Head, Part};
use kache_core::scan::{Scanner, only_locates};
use kache_core::seeding::locked_packages;
use kache_core::snapshot::{Header, Snapshot};
use kache_core::unit::Unit;
use kache_core::{archive, diagnostics, link_report, printable, quantity};

/// A target's name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each is a program in `fuzz_targets` as well.
pub const TARGETS: &[Target] = &[
    ("archive", archive),
    ("argv", argv),
    ("build_manifest", build_manifest),
    ("config", config),
    ("depinfo", depinfo),
    ("entry", entry),
    ("event", event),
    ("link_report", link_report),
    ("lockfile", lockfile),
    ("manifest", manifest),
    ("member", member),
    ("messages", messages),
    ("names", names),
    ("processes", processes),
    ("protocol", protocol),
    ("quantity", quantity),
    ("record", record),
    ("remote_records", remote_records),
    ("shared", shared),
    ("snapshot", snapshot),
];

/// Archives.
pub fn archive(data: &[u8]) {
    let _ = archive::foreign_member(Cursor::new(data));
}

/// Command lines, as from a response file.
pub fn argv(data: &[u8]) {
    // One argument a line, as in a response file. Behind an empty line: the environment.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (args, env) = text.split_once("\n\n").unwrap_or((text, ""));
    let argv: Vec<OsString> = std::iter::once("rustc").chain(args.lines()).map(OsString::from).collect();
    let env =
        Env::new(env.lines().filter_map(|line| line.split_once('=')).map(|(n, v)| (n.into(), v.into())));
    let Ok(call) = Invocation::split(&argv, OsStr::new("/w"), env) else { return };
    let roots = Roots::new([(Root::Workspace, "/w".to_owned()), (Root::Target, "/w/target".to_owned())]);
    if let Ok(unit) = Unit::parse(&call) {
        let adjustments =
            Adjustments { remapped: remap::remapped_roots(&unit, &roots, "/w"), ..Adjustments::default() };
        let args = remap::adjust(&call.args, &roots, &adjustments);
        assert!(
            args.iter().filter(|arg| call.args.contains(arg)).count()
                <= call.args.len() + adjustments.remapped.len()
        );
        let _ = (unit.stem(), unit.dep_info_name(), unit.kind(), unit.runs_linker());
    }
}

/// What builds needed, as the bucket has it.
pub fn build_manifest(data: &[u8]) {
    if let Ok(manifest) = BuildManifest::decode(data) {
        let again = BuildManifest::decode(&manifest.encode()).expect("what is encoded can be decoded");
        assert_eq!(again.encode(), manifest.encode());
    }
}

/// Settings files with an environment, and a crate's `kache.toml`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Behind an empty line: the environment.
    let (file, env) = text.split_once("\n\n#env\n").unwrap_or((text, ""));
    let env = |name: &str| {
        let value = env.lines().filter_map(|line| line.split_once('=')).find(|(n, _)| *n == name);
        value.map(|(_, value)| value.into())
    };
    if let Ok((settings, _)) = Settings::resolve(Some(("config.toml", file)), env) {
        let _ = settings.rows();
    }
    let _ = CrateFile::parse("kache.toml", file);
}

/// `.d` files.
pub fn depinfo(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(info) = DepInfo::parse(text) {
        let again = DepInfo::parse(&info.render()).expect("what is rendered can be parsed");
        assert_eq!(again.render(), info.render());
    }
}

/// Entries.
pub fn entry(data: &[u8]) {
    // Blind bytes would never get past the checksum.
    let sealed = [data, format!("\n{:08x}\n", crc32fast::hash(data)).as_bytes()].concat();
    for data in [data, &sealed] {
        if let Ok(entry) = Entry::decode(data) {
            assert_eq!(Entry::decode(&entry.encode()).expect("what is encoded can be decoded"), entry);
        }
    }
}

/// The journal.
pub fn event(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let glimpse = Glimpse::decode(line);
        if let Some(event) = Event::decode(line) {
            let line = event.encode();
            let again = Event::decode(line.trim_ascii_end()).expect("what is encoded can be decoded");
            assert_eq!(again.encode(), line);
            assert!(
                glimpse.is_some_and(|glimpse| glimpse.at_ms == event.at_ms),
                "what is an event can be found"
            );
        }
    }
}

/// The linker's report.
pub fn link_report(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for file in link_report::parse(text, "/w").into_iter().flatten() {
        assert!(file.starts_with('/'), "{file:?} is not absolute");
    }
}

/// Lockfiles.
pub fn lockfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = locked_packages(text);
    if let Ok(lockfile) = Lockfile::parse(text) {
        let names: Vec<&str> = lockfile.names().collect();
        for (name, version) in lockfile.dependencies_first() {
            assert!(lockfile.has(name, version) && names.contains(&name));
        }
    }
}

/// Manifests of packs, read for whichever key they claim to be of.
pub fn manifest(data: &[u8]) {
    let claimed = match Manifest::decode(data, &EntryKey(Digest::of(b"nobody's"))) {
        Err(FormError::OtherEntry(_, claimed)) => claimed,
        other => return drop(other),
    };
    if let Ok(manifest) = Manifest::decode(data, &claimed) {
        let bytes: u64 = manifest.blobs.iter().map(|blob| blob.size).sum();
        assert!(bytes <= manifest.pack.unpacked_size && manifest.blobs.len() <= BLOBS_MAX);
        let again = Manifest::decode(&manifest.encode(), &claimed).expect("what is encoded can be decoded");
        assert_eq!(again, manifest);
        assert_eq!(again.signed_bytes(), manifest.signed_bytes());
    }
}

/// Names of a pack's members.
pub fn member(data: &[u8]) {
    if let Some(member) = Member::parse(data) {
        assert_eq!(member.to_string().as_bytes(), data, "a name has one form");
        assert!(!data.starts_with(b"/") && !data.windows(2).any(|pair| pair == b".."));
    }
}

/// What the compiler prints, and paths in it.
pub fn messages(data: &[u8]) {
    let roots = Roots::new([(Root::Workspace, "/w/a\"b".to_owned()), (Root::Target, "/t".to_owned())]);
    let _ = diagnostics::classify(data);
    let _ = diagnostics::degraded(data);
    let _ = diagnostics::unmap(data, &roots, &[Root::Target, Root::Workspace]);
    let _ = Scanner::new(&roots, &["/home"]).mentions(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = only_locates(text, "OUT_DIR");
    if let Some(tokens) = roots.tokenize(text) {
        assert_eq!(roots.detokenize(&tokens).as_deref(), Some(text), "a text survives its tokens");
    }
}

/// Names of objects in a bucket, names that people choose, and what is shown of them.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keys = Keys::new("a/b");
    if let Some((dir, key)) = keys.parse_manifest(text) {
        assert_eq!(keys.manifest(&dir, &key), text, "a name has one form");
    }
    match Named::parse(text) {
        Some(Named::Pack(dir, key)) => assert!(text.ends_with(&keys.pack(&dir, &key)["a/b/".len()..])),
        Some(Named::Manifest(dir, key)) => {
            assert!(text.ends_with(&keys.manifest(&dir, &key)["a/b/".len()..]))
        }
        Some(Named::Build(label)) => assert!(text.ends_with(&keys.build(&label)["a/b/".len()..])),
        Some(Named::Snapshots(hash)) => assert!(text.ends_with(&keys.snapshots(&hash)["a/b/".len()..])),
        Some(Named::Inputs(_)) | None => {}
    }
    if let Ok(label) = text.parse::<Label>() {
        assert!(!text.contains('/') && label.to_string() == text);
    }
    if let Some(dir) = CrateDir::of(text, "x") {
        assert!(!dir.as_str().contains(['/', '.', '-']));
    }
    assert!(!printable::line(text).contains(char::is_control));
    assert!(!printable::page(text, &[]).contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
}

/// Cargo's command line, one argument a line, and the kernel's line about a process.
pub fn processes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let args: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(call) = cargo_call::parse(&args) {
        assert!(
            !call.profile.is_empty() && !call.profile.contains(['/', '.']),
            "{} is a part of a path",
            call.profile
        );
        assert!(call.passed_on.iter().all(|arg| args.contains(arg)));
    }
    if let Some(stat) = ProcessStat::parse(text) {
        assert!(!stat.state.is_empty() && !stat.start.is_empty());
    }
}

/// Frames between wrapper and daemon, as both sides read them.
pub fn protocol(data: &[u8]) {
    let Some((header, body)) = data.split_first_chunk::<HEADER_BYTES>() else { return };
    let Ok(length) = protocol::body_length(header) else { return };
    assert!(length <= FRAME_BYTES_MAX);
    // What follows a body is nobody's.
    let body = &body[..length.min(body.len())];
    if let Ok(request) = protocol::decode::<Request>(body) {
        let is_fine = request.check().is_ok();
        if let Ok(frame) = protocol::encode(&request) {
            let again: Request =
                protocol::decode(&frame[HEADER_BYTES..]).expect("what is encoded can be decoded");
            assert_eq!(again.check().is_ok(), is_fine);
            assert_eq!(again, request);
        }
        if let Request::Find(find) = &request
            && is_fine
        {
            assert!(!find.crate_name.contains(['/', '.', '\0']) && !find.package.contains(['/', '.', '\0']));
        }
        if let Request::Seed(seed) = &request
            && is_fine
        {
            assert!(seed.dir.starts_with('/') && !seed.about.manifest_key.to_string().contains(['/', '\0']));
        }
    }
    if let Ok(reply) = protocol::decode::<Reply>(body)
        && let Ok(frame) = protocol::encode(&reply)
    {
        let again: Reply = protocol::decode(&frame[HEADER_BYTES..]).expect("what is encoded can be decoded");
        assert_eq!(again, reply);
    }
}

/// Durations and sizes.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = quantity::parse_duration(text);
    let _ = quantity::parse_size(text);
}

/// Input records.
pub fn record(data: &[u8]) {
    if let Ok(set) = RecordSet::decode(data) {
        let again = RecordSet::decode(&set.encode()).expect("what is encoded can be decoded");
        assert_eq!(again.records, set.records);
    }
}

/// Input records of the bucket, and their way to the store's own.
pub fn remote_records(data: &[u8]) {
    let Ok(theirs) = records::decode(data) else { return };
    let mut mine = RecordSet::default();
    records::merge(&mut mine, &theirs);
    assert!(mine.records.len() <= RECORDS_MAX && mine.records.iter().all(records::is_acceptable));
    let before = mine.clone();
    records::merge(&mut mine, &theirs);
    assert_eq!(mine.records, before.records, "a second time there is nothing new");
    let again = RecordSet::decode(&mine.encode()).expect("what is encoded can be decoded");
    assert_eq!(again.records, mine.records);
}

/// Snapshots as the bucket has them: as they come, and as the payload of a head that fits, below checksums that blind
/// bytes would never get right.
pub fn shared(data: &[u8]) {
    let nobodys = Digest::of(b"nobody's");
    let manifest_key = "host".parse().expect("a label");
    let mut about =
        About { manifest_key, lockfile: nobodys, compiler: nobodys, cargo_home: "/cargo".to_owned() };
    let _ = Head::decode(data, &about);
    let Ok(header) = Header::decode(data) else { return };
    about.lockfile = header.lock;
    about.compiler = header.compiler.unwrap_or(nobodys);
    about.cargo_home = header.cargo_home;
    let size = data.len() as u64;
    let pack = Pack { digest: Digest::of(data), size, unpacked_size: size };
    let head = Head::new(&about, pack, vec![Part { context: header.context, size }]);
    let object = head.encode(data);
    let Ok((again, payload)) = Head::decode(&object, &about) else { return };
    assert_eq!((again.signed_bytes(), payload), (head.signed_bytes(), data));
    if let Ok(snapshots) = again.split(payload, &about, 1000) {
        assert!(snapshots.iter().flat_map(|snapshot| &snapshot.units).all(|unit| unit.seen_s <= 1000));
        let joined = shared::join(snapshots.clone(), snapshots);
        let (bytes, parts) = shared::payload(&joined).expect("no more than there was");
        assert_eq!(parts.iter().map(|part| part.size).sum::<u64>(), bytes.len() as u64);
    }
}

/// Snapshots of dependencies.
pub fn snapshot(data: &[u8]) {
    if let Ok(snapshot) = Snapshot::decode(data) {
        let bytes = snapshot.encode();
        let again = Snapshot::decode(&bytes).expect("what is encoded can be decoded");
        assert_eq!(again.encode(), bytes);
        let _ = snapshot.entries();
        let mut joined = again;
        joined.absorb(snapshot);
    }
}
