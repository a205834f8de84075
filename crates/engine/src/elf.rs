//! What an ELF file says: where it keeps its debug information, and which of its functions use another one. Knows no
//! other format, and no function by name.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use object::elf::FileHeader64;
use object::read::ReadCache;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{
    Architecture, Endianness, Object, ObjectSection, ObjectSymbol, ReadRef, SectionFlags, SectionKind,
    SymbolKind,
};

/// The sections that no program loads and only debuggers read, as ranges of the file. `None` where the file isn't
/// understood.
pub fn debug_ranges<'d>(data: impl ReadRef<'d>) -> Option<Vec<Range<u64>>> {
    let file = object::File::parse(data).ok()?;
    let ranges = file.sections().filter_map(|section| {
        let is_debug =
            section.name().is_ok_and(|name| name.starts_with(".debug_") || name.starts_with(".zdebug_"));
        let is_loaded = match section.flags() {
            SectionFlags::Elf { sh_flags } => sh_flags & u64::from(object::elf::SHF_ALLOC) != 0,
            _ => true,
        };
        let (start, size) = section.file_range().filter(|_| is_debug && !is_loaded)?;
        Some(start..start.checked_add(size)?)
    });
    Some(ranges.collect())
}

/// Whether a file is a program that runs without a dynamic loader.
pub fn is_static(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let data = ReadCache::new(file);
    let Ok(header) = FileHeader64::<Endianness>::parse(&data) else { return false };
    let Ok(endian) = header.endian() else { return false };
    let segments = header.program_headers(endian, &data).unwrap_or_default();
    !segments.is_empty() && segments.iter().all(|segment| segment.p_type(endian) != object::elf::PT_INTERP)
}

/// Names of the functions whose code refers to a function with a name that `is_wanted` accepts: calls it, jumps to it or
/// takes its address. `None` where the file isn't understood or has no table of symbols.
pub fn users(file: &[u8], is_wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let file = object::File::parse(file).ok()?;
    let is_near: fn(&[u8]) -> i64 = match file.architecture() {
        // Each form ends with the distance of what it refers to from its own end.
        Architecture::X86_64 => |code| {
            let distance = <[u8; 4]>::try_from(code).map_or(0, i32::from_le_bytes);
            i64::from(distance) + 4
        },
        // `b` and `bl`: the low 26 bits are the distance in words.
        Architecture::Aarch64 => |code| {
            let word = <[u8; 4]>::try_from(code).map_or(0, u32::from_le_bytes);
            let is_branch = word & 0x7c00_0000 == 0x1400_0000;
            if is_branch { i64::from((word << 6) as i32 >> 4) } else { 0 }
        },
        _ => return None,
    };
    let step = if file.architecture() == Architecture::Aarch64 { 4 } else { 1 };
    let functions: BTreeMap<u64, &str> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
        .collect();
    if functions.is_empty() {
        return None;
    }
    let mut wanted: Vec<u64> =
        functions.iter().filter(|(_, name)| is_wanted(name)).map(|(address, _)| *address).collect();
    // Where an address is kept that the loader puts right: the code refers to that place.
    let kept = file.dynamic_relocations().into_iter().flatten();
    let kept = kept.filter(|(_, relocation)| wanted.contains(&relocation.addend().cast_unsigned()));
    let kept: Vec<u64> = kept.map(|(place, _)| place).collect();
    let mut users = Vec::new();
    if step != 1 && !kept.is_empty() {
        // There two instructions lead to it. Who has them isn't looked for.
        users.push(String::new());
    }
    wanted.extend(kept);
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data().ok()?;
        for (at, piece) in code.windows(4).enumerate().step_by(step) {
            let here = section.address() + at as u64;
            if wanted.contains(&here.wrapping_add_signed(is_near(piece))) {
                users.extend(functions.range(..=here).next_back().map(|(_, name)| (*name).to_owned()));
            }
        }
    }
    Some(users)
}
