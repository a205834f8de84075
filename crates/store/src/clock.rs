//! Time as the file system sees it: stamps of files, the kernel's coarse clock, and which boot this is. Does not know
//! what the stamps are used for.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
const SECOND_NS: i128 = 1_000_000_000;

/// A point in time as a file's stamp has it, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(i128);

impl FileTime {
    pub fn modified(meta: &Metadata) -> Self {
        Self::from_parts(meta.mtime(), meta.mtime_nsec())
    }

    /// When anything about the inode last changed, including its names; nobody can set it.
    pub fn changed(meta: &Metadata) -> Self {
        Self::from_parts(meta.ctime(), meta.ctime_nsec())
    }

    /// When the inode came to be; nothing on a file system that doesn't note it.
    pub fn born(meta: &Metadata) -> Option<Self> {
        let since = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)))
    }

    /// Now, by the clock that the kernel stamps files with. A precise clock runs ahead of it by up to a tick, and so
    /// may a stamp: since Linux 6.13, an inode whose stamps were looked at gets a precise one at its next change
    /// (multigrain timestamps). What is stamped after this sample is never older than it.
    pub fn now_coarse() -> Self {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        let now = clock_gettime(ClockId::RealtimeCoarse);
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
        let now = clock_gettime(ClockId::Realtime);
        Self::from_parts(now.tv_sec, now.tv_nsec)
    }

    /// Now, by the precise clock: no stamp is ahead of it unless somebody set it.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self::from_parts(now.tv_sec, now.tv_nsec)
    }

    /// From seconds since 1970 and nanoseconds.
    pub fn from_parts(seconds: i64, nanos: i64) -> Self {
        Self(i128::from(seconds) * SECOND_NS + i128::from(nanos))
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(SECOND_NS)).unwrap_or(i64::MAX)
    }

    /// Nanoseconds within the second.
    pub fn nanos(self) -> u32 {
        u32::try_from(self.0.rem_euclid(SECOND_NS)).unwrap_or(0)
    }

    /// How long ago this was at `now`, in whole seconds; negative for the future.
    pub fn age_s(self, now: FileTime) -> i64 {
        i64::try_from((now.0 - self.0).div_euclid(SECOND_NS)).unwrap_or(i64::MAX)
    }
}

/// The real-time clock.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sets a file's modification time to whole seconds.
pub(crate) fn set_mtime(file: &File, seconds: i64) -> io::Result<()> {
    let mtime = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: omit(), last_modification: mtime })?)
}

/// Sets a file's modification time to the kernel's idea of now, which is the clock that other files are stamped with.
pub(crate) fn set_mtime_now(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: omit(), last_modification: now })?)
}

fn omit() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }
}

/// Names the running boot: whatever was written under another one may have been lost by a power cut. On Linux the
/// kernel's boot id; elsewhere the time of the boot, rounded, so that a changed clock costs a needless check and
/// nothing else. Never empty.
pub fn boot_id() -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        if cfg!(target_os = "linux")
            && let Ok(text) = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
            && !text.trim().is_empty()
        {
            return text.trim().to_owned();
        }
        let boot_s = clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Monotonic).tv_sec;
        format!("booted-{}", boot_s.div_euclid(16))
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_split_and_compare() {
        for (s, ns) in [(0, 0), (5, 999_999_999), (-3, 1)] {
            let time = FileTime::from_parts(s, ns);
            assert_eq!((time.seconds(), i64::from(time.nanos())), (s, ns));
        }
        let early = FileTime::from_parts(10, 500_000_000);
        assert_eq!(early.age_s(FileTime::from_parts(12, 499_999_999)), 1);
        assert_eq!(early.age_s(FileTime::from_parts(12, 500_000_000)), 2);
        assert_eq!(early.age_s(FileTime::from_parts(10, 0)), -1);
    }

    #[test]
    fn a_file_touched_later_is_never_older_than_the_coarse_clock_was() {
        let file = tempfile::tempfile().expect("temp file");
        for _ in 0..100 {
            set_mtime(&file, 1).expect("set");
            let stamp = || FileTime::modified(&file.metadata().expect("stat"));
            assert_eq!(stamp(), FileTime::from_parts(1, 0));
            let before = FileTime::now_coarse();
            set_mtime_now(&file).expect("set");
            assert!(before <= stamp() && stamp() <= FileTime::now());
            assert!(stamp().age_s(FileTime::now_coarse()) < 60);
        }
    }

    #[test]
    fn the_boot_id_is_stable_and_not_empty() {
        assert!(!boot_id().is_empty());
        assert_eq!(boot_id(), boot_id());
    }
}
