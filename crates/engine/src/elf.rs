//! Where an ELF file keeps its debug information. Knows no other format and looks at no content.

use std::ops::Range;

use object::{Object, ObjectSection, ReadRef, SectionFlags};

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
