//! Finding grains that overlap, in bounded memory.

use crate::Problem;
use std::ops::Range;

/// Grains that one window may hold: 16 MiB of memory while they are collected.
const WINDOW_GRAINS: u64 = 1 << 20;

/// The grains that start in one window of the file, or just before it. A large file is looked at window by window.
pub(super) struct SharedGrains {
    window: Range<u64>,
    length: u64,
    /// First sector and number of each; grain numbers fit into 32 bits because table counts are limited.
    grains: Vec<(u32, u32)>,
}

impl SharedGrains {
    /// The windows of a file of `end` sectors, for grains of `length` sectors.
    pub(super) fn windows(end: u64, length: u64) -> impl Iterator<Item = Range<u64>> {
        let size = WINDOW_GRAINS * length;
        (0..end.div_ceil(size).max(1)).map(move |number| number * size..(number + 1) * size)
    }

    pub(super) fn new(window: Range<u64>, length: u64) -> SharedGrains {
        SharedGrains { window, length, grains: Vec::new() }
    }

    /// Adds a grain, if it is one of this window.
    pub(super) fn insert(&mut self, grain: u64, sector: u32, report: impl FnMut(u32, Problem)) {
        let start = u64::from(sector);
        if start + self.length <= self.window.start || start >= self.window.end {
            return;
        }
        self.grains.push((sector, grain as u32));
        if self.grains.len() as u64 >= 2 * WINDOW_GRAINS {
            self.settle(report);
        }
    }

    /// Reports grains that overlap an earlier one, and forgets them.
    pub(super) fn settle(&mut self, mut report: impl FnMut(u32, Problem)) {
        self.grains.sort_unstable();
        let mut last: Option<(u32, u32)> = None;
        let (length, window_start) = (self.length, self.window.start);
        self.grains.retain(|(sector, grain)| {
            if let Some((last_sector, last_grain)) = last
                && u64::from(sector - last_sector) < length
            {
                if u64::from(*sector) >= window_start {
                    let (first, second) = (last_grain.into(), (*grain).into());
                    report(*sector, Problem::SharedGrain { first, second, sector: *sector });
                }
                return false;
            }
            last = Some((*sector, *grain));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_once_across_windows() {
        let size = WINDOW_GRAINS * 16;
        let windows: Vec<_> = SharedGrains::windows(size + 1, 16).collect();
        assert_eq!(windows.len(), 2);
        let border = size as u32;
        let mut found = Vec::new();
        for window in windows {
            let mut shared = SharedGrains::new(window, 16);
            for (grain, sector) in
                [(1, 128), (2, 128), (3, 144), (4, border - 8), (5, border + 4), (6, border + 20)]
            {
                shared.insert(grain, sector, |_, _| panic!("not full"));
            }
            shared.settle(|sector, _| found.push(sector));
        }
        assert_eq!(found, [128, border + 4]);
    }
}
