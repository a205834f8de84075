//! Native archives: which ones a unit's search paths offer to the compiler, and whether an rlib bundles objects that
//! none of them explains. Rustc bundles static libraries into rlibs without a word in the dep-info, and without
//! changing the metadata. Knows nothing about keys.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kache_core::unit::Unit;

/// The archives that the unit may bundle, as far as observing the compiler won't tell: `lib<name>.a` in each native
/// search directory outside `target_dir` for each `-l static=<name>`, and, where nothing is observed, every `.a` in
/// those below it. Paths may be absent; order is the search order.
pub fn candidates(unit: &Unit, cwd: &Path, target_dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for search in unit.search_paths.iter().filter(|path| matches!(path.kind.as_str(), "native" | "all")) {
        let dir = cwd.join(&search.path);
        if dir.starts_with(target_dir) {
            if kache_store::sys::can_observe() {
                continue;
            }
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            let mut archives: Vec<PathBuf> =
                entries.map(|entry| entry.path()).filter(|path| is_archive(path)).collect();
            archives.sort();
            paths.extend(archives);
        } else {
            paths.extend(static_names(unit).map(|name| dir.join(format!("lib{name}.a"))));
        }
    }
    paths
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "a" || extension == "lib")
}

/// Names of `-l static=name`, `-l static:+whole-archive=name`, with renames (`name:other`) resolved.
fn static_names(unit: &Unit) -> impl Iterator<Item = &str> {
    unit.libraries.iter().filter_map(|library| {
        let (kind, name) = library.split_once('=')?;
        let is_static = kind == "static" || kind.starts_with("static:");
        is_static.then(|| name.split_once(':').map_or(name, |(_, real)| real))
    })
}

/// Whether every native archive that the unit could bundle is among its [`candidates`]: it names no directory
/// outside the target directory, or names what it takes from there.
pub fn may_bundle_unnamed(unit: &Unit, cwd: &Path, target_dir: &Path) -> bool {
    let outside = |path: &&kache_core::unit::SearchPath| {
        matches!(path.kind.as_str(), "native" | "all") && !cwd.join(&path.path).starts_with(target_dir)
    };
    unit.search_paths.iter().any(|path| outside(&path)) && static_names(unit).next().is_none()
}

/// Name of a member of the rlib that the compiler didn't make itself, if there is one.
pub fn foreign_member(rlib: &Path) -> io::Result<Option<String>> {
    let mut file = io::BufReader::new(fs::File::open(rlib)?);
    let mut magic = [0u8; 8];
    file.read_exact(&mut magic)?;
    if magic != *b"!<arch>\n" {
        return Err(io::Error::other("not an archive"));
    }
    let mut long_names = Vec::new();
    let mut header = [0u8; 60];
    while read_header(&mut file, &mut header)? {
        let field =
            |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        let size: u64 = field(48..58).parse().map_err(|_| io::Error::other("malformed archive"))?;
        let name = field(0..16);
        if name == "//" {
            let mut bytes = vec![0u8; usize::try_from(size.min(16 << 20)).unwrap_or(0)];
            file.read_exact(&mut bytes)?;
            long_names = bytes;
            file.seek_relative(i64::try_from(size & 1).unwrap_or(0))?;
            continue;
        }
        if !matches!(name.as_str(), "/" | "/SYM64/") {
            let name = resolve_name(&name, &long_names);
            if !is_own_member(&name) {
                return Ok(Some(name));
            }
        }
        file.seek(SeekFrom::Current(i64::try_from(size + (size & 1)).map_err(io::Error::other)?))?;
    }
    Ok(None)
}

fn read_header(file: &mut impl Read, header: &mut [u8; 60]) -> io::Result<bool> {
    match file.read_exact(header) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// GNU archives keep long names in a table: `/123` is an offset into it.
fn resolve_name(name: &str, long_names: &[u8]) -> String {
    let offset = name.strip_prefix('/').and_then(|offset| offset.parse::<usize>().ok());
    let bytes = offset
        .and_then(|offset| long_names.get(offset..))
        .map_or(name.as_bytes(), |rest| rest.split(|byte| *byte == b'\n').next().unwrap_or_default());
    String::from_utf8_lossy(bytes).trim_end_matches('/').to_owned()
}

/// What rustc itself puts into an rlib: metadata and its code generation units.
fn is_own_member(name: &str) -> bool {
    name == "lib.rmeta"
        || name.ends_with(".rcgu.o")
        || name.ends_with(".rcgu.dwo")
        || name.ends_with(".bundle.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let mut bytes = b"!<arch>\n".to_vec();
        let mut table = Vec::new();
        let mut names = Vec::new();
        for member in members {
            names.push(format!("/{}", table.len()));
            table.extend_from_slice(format!("{member}/\n").as_bytes());
        }
        let mut put = |name: &str, body: &[u8]| {
            bytes.extend_from_slice(format!("{name:<16}{:<32}{:<10}`\n", "", body.len()).as_bytes());
            bytes.extend_from_slice(body);
            if body.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        };
        put("//", &table);
        put("/", b"xyz");
        for name in &names {
            put(name, b"12345");
        }
        fs::write(file.path(), bytes).expect("write");
        file
    }

    #[test]
    fn foreign_members_are_found() {
        let own = ["lib.rmeta", "serde-1.serde.1a2b-cgu.0.rcgu.o"];
        assert_eq!(foreign_member(archive(&own).path()).expect("valid"), None);
        let mixed = ["lib.rmeta", "a.rcgu.o", "a-rather-long-name-of-foo.o"];
        assert_eq!(
            foreign_member(archive(&mixed).path()).expect("valid").as_deref(),
            Some("a-rather-long-name-of-foo.o")
        );
        assert!(foreign_member(Path::new("/dev/null")).is_err());
    }
}
