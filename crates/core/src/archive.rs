//! Members of an rlib, read from its bytes. Knows `ar` archives as far as rustc writes them, and not what is in a member.

use std::io::{self, Read, Seek, SeekFrom};

/// Name of a member of the rlib that the compiler didn't make itself, if there is one.
pub fn foreign_member(mut file: impl Read + Seek) -> io::Result<Option<String>> {
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
            file.seek(SeekFrom::Current(i64::try_from(size & 1).unwrap_or(0)))?;
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
    use std::io::Cursor;

    use super::*;

    fn archive(members: &[&str]) -> Cursor<Vec<u8>> {
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
        Cursor::new(bytes)
    }

    #[test]
    fn foreign_members_are_found() {
        let own = ["lib.rmeta", "serde-1.serde.1a2b-cgu.0.rcgu.o"];
        assert_eq!(foreign_member(archive(&own)).expect("valid"), None);
        let mixed = ["lib.rmeta", "a.rcgu.o", "a-rather-long-name-of-foo.o"];
        assert_eq!(
            foreign_member(archive(&mixed)).expect("valid").as_deref(),
            Some("a-rather-long-name-of-foo.o")
        );
        assert!(foreign_member(Cursor::new(b"")).is_err());
    }
}
