//! Where a file's bytes lie on the disk, and whether other files share them. Linux only; elsewhere, and on file systems
//! without clones, nobody knows.

use std::fs::File;

/// A run of bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where it begins on the device.
    pub physical: u64,
    pub bytes: u64,
    /// Whether another file has it too.
    pub sharing: Shared,
}

/// Whether other files have the same bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shared {
    No,
    Yes,
}

/// The extents of a file; `None` where its file system has no clones or doesn't tell.
#[cfg(target_os = "linux")]
pub fn extents(file: &File) -> Option<Vec<Extent>> {
    use std::os::fd::AsRawFd as _;

    const BTRFS: u64 = 0x9123_683E;
    const XFS: u64 = 0x5846_5342;
    let kind = u64::try_from(rustix::fs::fstatfs(file).ok()?.f_type).ok()?;
    if ![BTRFS, XFS].contains(&kind) {
        return None;
    }
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Request::from(start);
        // SAFETY: FS_IOC_FIEMAP reads the head of `request` and writes at most `fm_extent_count` extents behind it,
        // which is the length of the array there; the descriptor stays open throughout.
        let answer = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut request) };
        if answer != 0 {
            return None;
        }
        let count = usize::try_from(request.mapped_extents).ok()?.min(EXTENTS);
        for extent in &request.extents[..count] {
            let sharing = if extent.flags & EXTENT_SHARED == 0 { Shared::No } else { Shared::Yes };
            found.push(Extent { physical: extent.physical, bytes: extent.length, sharing });
        }
        let Some(last) = request.extents[..count].last() else { return Some(found) };
        if last.flags & EXTENT_LAST != 0 {
            return Some(found);
        }
        start = last.logical + last.length;
    }
}

/// The extents of a file; nobody tells here.
#[cfg(not(target_os = "linux"))]
pub fn extents(_: &File) -> Option<Vec<Extent>> {
    None
}

#[cfg(target_os = "linux")]
const EXTENTS: usize = 64;
#[cfg(target_os = "linux")]
const EXTENT_LAST: u32 = 0x1;
#[cfg(target_os = "linux")]
const EXTENT_SHARED: u32 = 0x2000;
/// `_IOWR('f', 11, struct fiemap)`, `linux/fiemap.h`.
#[cfg(target_os = "linux")]
const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660Bu32 as libc::Ioctl;

/// `struct fiemap` with room for some extents behind it.
#[cfg(target_os = "linux")]
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [RawExtent; EXTENTS],
}

/// `struct fiemap_extent`.
#[cfg(target_os = "linux")]
#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[cfg(target_os = "linux")]
impl Request {
    fn from(start: u64) -> Self {
        let none =
            RawExtent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
        Self {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped_extents: 0,
            extent_count: EXTENTS as u32,
            reserved: 0,
            extents: [none; EXTENTS],
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The sizes that the kernel's header has.
    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<RawExtent>(), 56);
        assert_eq!(size_of::<Request>(), 32 + EXTENTS * 56);
    }
}
