//! How much room there is on the store's file system, and how much of it kache leaves to others: above all to the target
//! directories beside it. Copies stop there, and sweeps make that much room; does not know what is copied.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use crate::entries::TOUCH_EVERY_S;
use crate::error::Error;
use crate::evict::SweepOptions;
use crate::layout::Store;

/// A twentieth of the file system stays free, but no more than this, in bytes.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
/// And no less than this, in bytes, or a quarter of a small one: linkers make large files.
const RESERVE_BYTES_MIN: u64 = 256 << 20;

/// Where others need room on the disk, only entries of this age stay, in seconds: enough for one that is being stored.
const GRACE_WITHOUT_ROOM: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this user may still write, in bytes.
    pub free_bytes: u64,
    /// What kache leaves to others, in bytes.
    pub reserve_bytes: u64,
}

impl Room {
    /// `None` where the file system doesn't say: some in memory have no size.
    fn of(free_bytes: u64, size_bytes: u64, free_bytes_min: Option<u64>) -> Option<Self> {
        let least = RESERVE_BYTES_MIN.min(size_bytes / 4);
        let part_bytes = (size_bytes / 20).clamp(least, RESERVE_BYTES_MAX);
        let reserve_bytes = free_bytes_min.unwrap_or(part_bytes);
        (size_bytes > 0).then_some(Self { free_bytes, reserve_bytes })
    }

    /// Whether others need what is left.
    pub fn is_low(&self) -> bool {
        self.free_bytes < self.reserve_bytes
    }

    /// What a sweep should free, in bytes: once it has to, somewhat more, so that it doesn't have to again at once.
    pub fn lacking_bytes(&self) -> u64 {
        let enough_bytes = self.reserve_bytes.saturating_add(self.headroom_bytes());
        if self.is_low() { enough_bytes.saturating_sub(self.free_bytes) } else { 0 }
    }

    /// As much again as is left to others, or what that comes to by itself where a setting says more.
    pub fn headroom_bytes(&self) -> u64 {
        self.reserve_bytes.min(RESERVE_BYTES_MAX)
    }
}

impl Store {
    /// The room on the store's file system; `None` where that can't be found out.
    pub fn room(&self) -> Option<Room> {
        let stat = rustix::fs::statvfs(self.root()).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Room::of(bytes(stat.f_bavail), bytes(stat.f_blocks), self.free_bytes_min)
    }

    /// The same store, which leaves so many bytes on its disk free.
    #[must_use]
    pub fn leaving_free(mut self, bytes: Option<u64>) -> Self {
        self.free_bytes_min = bytes;
        self
    }

    /// Whether others need the room that is left on the store's file system.
    pub fn is_room_low(&self) -> bool {
        self.room().is_some_and(|room| room.is_low())
    }

    /// Fails, as a full disk would, where a copy of `bytes` would take what is left to others.
    pub(crate) fn require_room(&self, bytes: u64, path: &Path) -> Result<(), Error> {
        match self.room() {
            Some(room) if room.free_bytes < room.reserve_bytes.saturating_add(bytes) => {
                Err(Error::new("take the last room on the disk for", path, Errno::NOSPC))
            }
            _ => Ok(()),
        }
    }
}

impl SweepOptions {
    /// What keeps a store within its limit, and its disk usable for others.
    pub fn keeping(limit_bytes: u64, room: Option<Room>) -> Self {
        let options = Self { limit_bytes: Some(limit_bytes), ..Self::default() };
        match room.map_or(0, |room| room.lacking_bytes()) {
            0 => options,
            room_bytes => Self { room_bytes, grace: GRACE_WITHOUT_ROOM, ..options },
        }
    }

    /// The same for a store that is about to be copied, with nothing that builds: `du` says at most the limit then.
    pub fn of_copy(self) -> Self {
        Self { whole: true, grace: Duration::ZERO, ..self }
    }

    /// The age at which an entry certainly wasn't used for `age_max`: a use may be noted a little too early. Zero is for
    /// all entries.
    pub(crate) fn age_max_s(&self) -> Option<i64> {
        let age_s = i64::try_from(self.age_max?.as_secs()).unwrap_or(i64::MAX);
        Some(if age_s == 0 { 0 } else { age_s.saturating_add(TOUCH_EVERY_S) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_stays_free_and_a_sweep_makes_twice_that() {
        assert_eq!(Room::of(0, 0, None), None);
        let gib = 1 << 30;
        let of = |free, floor| Room::of(free, 400 * gib, Some(floor)).expect("a size").lacking_bytes();
        assert_eq!((of(99 * gib, 100 * gib), of(100 * gib, 100 * gib)), (2 * gib, 0));
        assert_eq!((of(gib / 4, gib / 2), of(0, 0)), (gib * 3 / 4, 0));
        for (free, size, low, lacking) in [
            (40 * gib, 400 * gib, false, 0),
            (gib, 400 * gib, false, 0),
            (gib - 1, 400 * gib, true, gib + 1),
            (gib / 5, 3 * gib, true, gib / 2 - gib / 5),
            (gib / 4, 3 * gib, false, 0),
            (240, 1000, true, 260),
            (250, 1000, false, 0),
        ] {
            let room = Room::of(free, size, None).expect("a size");
            assert_eq!((room.is_low(), room.lacking_bytes()), (low, lacking), "{free} of {size}");
            let options = SweepOptions::keeping(7, Some(room));
            assert_eq!((options.limit_bytes, options.room_bytes), (Some(7), lacking));
            assert_eq!(options.grace < SweepOptions::default().grace, low);
        }
    }
}
