//! Checks of the store and of what the file systems can do, by really trying. Removes what it tries with.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::quantity::format_size;
use kache_store::Store;
use kache_store::hashing::{Blessing, DigestMemo};
use kache_store::link::{Mode, Note, Permission, Sharing, Stamp, place, set_mtime_of};
use kache_store::verify::{Checksums, Problem, Repair};

use super::{Args, Findings, Verdict};
use crate::ui::Ui;

/// What kache puts into the store's directory.
const OWN_NAMES: &[&str] =
    &["CACHEDIR.TAG", "daemon", "journal", "locks", "memo", "queue", "v1", "wrapper.log"];
/// Problems listed one by one.
const PROBLEMS_MAX: usize = 20;

/// Opens the store as a build would, and looks at its size.
pub fn store(settings: &Settings, findings: &mut Findings) -> Option<Store> {
    findings.section = "Store";
    let opened = settings.cache_dir().map_err(|error| error.to_string());
    let opened = opened.and_then(|dir| Store::open(dir).map_err(|error| error.to_string()));
    let store = match opened {
        Ok(store) => store.leaving_free(settings.free_bytes_min.as_deref().copied()),
        Err(error) => {
            findings.add_with_hint(
                Verdict::Bad,
                error,
                "set KACHE_CACHE_DIR to a directory that can be written",
            );
            return None;
        }
    };
    let dir = store.root();
    match Scratch::new(dir) {
        Ok(_) => findings.add(Verdict::Good, format!("{} can be written", dir.display())),
        Err(error) => findings.add_with_hint(
            Verdict::Bad,
            format!("{} can't be written: {error}", dir.display()),
            "until it can, hits still work and nothing new is stored",
        ),
    }
    if let Some(why) = fs::metadata(dir).ok().and_then(|meta| exposure(meta.uid(), meta.mode())) {
        let hint = "whoever can write there can run code in your builds: make it yours alone (`chmod 700`)";
        findings.add_with_hint(Verdict::Warning, format!("{} {why}", dir.display()), hint);
    }
    surroundings(dir, findings);
    let denied = store.denied();
    if let Some(first) = denied.first() {
        let what = format!("{} folders belong to another user, among them {}", denied.len(), first.display());
        let hint = format!("units there are never served or stored; `sudo chown -R $USER {}`", dir.display());
        findings.add_with_hint(Verdict::Bad, what, hint);
    }
    let limit = format_size(*settings.local_size_bytes_max);
    match store.usage_estimate() {
        Ok(usage) => {
            findings.add(Verdict::Good, format!("about {} of {limit} are used", format_size(usage.bytes)))
        }
        Err(error) => findings.add(Verdict::Warning, error.to_string()),
    }
    if let Some(room) = store.room() {
        let free = format_size(room.free_bytes);
        if room.is_low() {
            let what = format!("only {free} are free on the store's file system: nothing is copied there");
            let reserve = format_size(room.reserve_bytes);
            let hint = format!("kache leaves {reserve} to others; `kache gc` makes room");
            findings.add_with_hint(Verdict::Warning, what, hint);
        } else {
            findings.add(Verdict::Good, format!("{free} are free on its file system"));
        }
    }
    Some(store)
}

/// What is around the store and in it that has nothing to do with it.
fn surroundings(dir: &Path, findings: &mut Findings) {
    let above = |names: &[&str]| {
        dir.ancestors().skip(1).find(|above| names.iter().any(|name| above.join(name).exists()))
    };
    if let Some(target) = above(&[".rustc_info.json"]) {
        let what = format!("the store is in the target directory {}", target.display());
        findings.add_with_hint(
            Verdict::Warning,
            what,
            "`cargo clean` removes it: set KACHE_CACHE_DIR to another place",
        );
    } else if let Some(checkout) = above(&[".git", "Cargo.toml"]) {
        let what = format!("the store is in the checkout {}", checkout.display());
        findings.add_with_hint(
            Verdict::Note,
            what,
            "have git ignore it; `git clean` removes it, other checkouts don't find it",
        );
    }
    let foreign: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|item| item.file_name().to_string_lossy().into_owned())
        .filter(|name| !OWN_NAMES.contains(&name.as_str()) && !name.starts_with('.'))
        .collect();
    if !foreign.is_empty() {
        let what = format!("files that are not kache's are in the store: {}", foreign.join(", "));
        findings.add_with_hint(Verdict::Note, what, "kache leaves them alone, and no limit counts them");
    }
}

/// Who else could change the store.
fn exposure(owner: u32, mode: u32) -> Option<&'static str> {
    let me = rustix::process::geteuid().as_raw();
    match (owner == me || owner == 0, mode & 0o022) {
        (false, _) => Some("belongs to another user"),
        (true, 0) => None,
        (true, _) => Some("can be written by others"),
    }
}

/// How outputs get from the store into target directories below `dir`.
pub fn abilities(store: &Store, dir: &Path, findings: &mut Findings) {
    findings.section = "File systems";
    let blob = match Scratch::new(store.root()) {
        Ok(blob) => blob,
        Err(_) => return,
    };
    let there = match Scratch::new(dir) {
        Ok(there) => there,
        Err(error) => {
            return findings.add(Verdict::Warning, format!("{} can't be written: {error}", dir.display()));
        }
    };
    let reflinks = matches!(
        place(blob.path(), there.path(), Sharing::Private(Stamp::Now), Permission::Plain, Note::None),
        Ok(Mode::Reflink)
    );
    let link = there.path().with_extension("link");
    let links = fs::hard_link(blob.path(), &link).is_ok();
    let _ = fs::remove_file(&link);
    let shown = dir.display();
    match (reflinks, links) {
        (true, _) => findings.add(Verdict::Good, format!("outputs are cloned into {shown}: no bytes copied")),
        (false, true) => findings.add(
            Verdict::Good,
            format!("no clones here, but hard links: libraries are linked into {shown}, executables copied"),
        ),
        (false, false) => findings.add_with_hint(
            Verdict::Warning,
            format!("neither clones nor hard links from the store to {shown}: everything is copied"),
            "put the store (KACHE_CACHE_DIR) on the same file system as your projects",
        ),
    }
    for (name, file) in [("the store", &blob), ("that directory", &there)] {
        if keeps_attributes(store, file.path()) {
            findings.add(Verdict::Good, format!("{name} keeps extended attributes"));
        } else {
            let what =
                format!("{name} keeps no extended attributes: digests are remembered in files of their own");
            findings.add(Verdict::Note, what);
        }
    }
}

/// Whether digests can be put down on a file's inode.
fn keeps_attributes(store: &Store, path: &Path) -> bool {
    // Only a file that hasn't changed for a while is trusted with one.
    const LONG_AGO_S: i64 = 1_000_000_000;
    set_mtime_of(path, LONG_AGO_S).is_ok()
        && matches!(DigestMemo::new(store).remember(path, &Digest::of(CONTENT)), Ok(Blessing::Remembered))
}

/// Compares entries with what is there, and drops what is broken if asked to.
pub fn integrity(store: &Store, args: &Args, ui: &Ui, findings: &mut Findings) {
    findings.section = "Integrity";
    let checksums = if args.checksums { Checksums::Read } else { Checksums::Skip };
    let verified = store.verify(checksums, &mut |progress| {
        if progress.done.is_multiple_of(64) {
            ui.progress(&format!("checked {} of {} blobs", progress.done, progress.total));
        }
    });
    ui.progress("");
    let verification = match verified {
        Ok(verification) => verification,
        Err(error) => return findings.add(Verdict::Bad, error.to_string()),
    };
    let how = if args.checksums { "contents" } else { "sizes and times" };
    let summary =
        format!("{} entries and {} blobs checked ({how})", verification.entries, verification.blobs);
    let orphaned =
        |problem: &Problem| if let Problem::OrphanBlob(_, size) = problem { Some(*size) } else { None };
    let orphans: Vec<u64> = verification.problems.iter().filter_map(orphaned).collect();
    let is_redated = |problem: &&Problem| matches!(problem, Problem::RedatedBlob(..));
    let redated: Vec<&Problem> = verification.problems.iter().filter(is_redated).collect();
    let problems: Vec<&Problem> = verification
        .problems
        .iter()
        .filter(|problem| !matches!(problem, Problem::OrphanBlob(..) | Problem::RedatedBlob(..)))
        .collect();
    findings.add(if problems.is_empty() { Verdict::Good } else { Verdict::Note }, summary);
    if !orphans.is_empty() {
        let size = format_size(orphans.iter().sum());
        findings.add(
            Verdict::Note,
            format!("{} blobs ({size}) that nothing needs; `kache gc` removes them", orphans.len()),
        );
    }
    if !redated.is_empty() {
        let put_back = |problem: &&&Problem| matches!(store.repair(problem), Ok(Repair::Intact));
        let count = redated.iter().filter(|_| args.repair).filter(put_back).count();
        let what = format!("{} blobs are intact and have another time, as in a copied store", redated.len());
        match args.repair {
            true => findings.add(Verdict::Note, format!("{what}: {count} got theirs back")),
            false => findings.add(Verdict::Note, format!("{what}; builds that need them put it back")),
        }
    }
    let treated: Vec<(Verdict, String)> =
        problems.iter().map(|problem| treat(store, problem, args)).collect();
    let rest = &treated[treated.len().min(PROBLEMS_MAX)..];
    if !rest.is_empty() {
        let is_bad = rest.iter().any(|(verdict, _)| *verdict == Verdict::Bad);
        let verdict = if is_bad { Verdict::Bad } else { Verdict::Note };
        findings.add(verdict, format!("{} problems in all, the first {PROBLEMS_MAX} are:", treated.len()));
    }
    for (verdict, what) in treated.into_iter().take(PROBLEMS_MAX) {
        findings.add(verdict, what);
    }
    if !problems.is_empty() && !args.repair {
        findings.add_with_hint(
            Verdict::Note,
            "nothing was changed",
            "`kache doctor --repair` drops what is broken",
        );
    }
}

/// Drops what is broken, if that was asked for and is possible.
fn treat(store: &Store, problem: &Problem, args: &Args) -> (Verdict, String) {
    if !args.repair || !problem.is_repairable() {
        return (Verdict::Bad, problem.to_string());
    }
    match store.repair(problem) {
        Ok(_) => (Verdict::Note, format!("{problem}: dropped, the next compile brings it back")),
        Err(error) => (Verdict::Bad, format!("{problem}: can't be dropped: {error}")),
    }
}

const CONTENT: &[u8] = b"kache doctor tries what this file system can do; this file can be removed\n";

/// A file to try things with; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!(".kache-doctor-{}", std::process::id()));
        let mut file = fs::File::create_new(&path)?;
        let scratch = Self(path);
        io::Write::write_all(&mut file, CONTENT)?;
        Ok(scratch)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
