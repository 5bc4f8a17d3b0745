//! One holder at a time for each byte of a disk, first come first served.

use disk::ByteRange;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Locks ranges of one disk. Those that overlap wait for each other in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// Held and waited for, oldest first.
    ranges: Vec<(u64, ByteRange)>,
}

/// A locked range, until it is dropped.
#[derive(Debug)]
pub(crate) struct RangeGuard<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

impl RangeLocks {
    /// Waits until every overlapping range that came before is free.
    pub(crate) fn lock(&self, range: ByteRange) -> RangeGuard<'_> {
        let mut queue = self.queue();
        let ticket = queue.next;
        queue.next += 1;
        queue.ranges.push((ticket, range));
        while queue.ranges.iter().any(|(earlier, held)| *earlier < ticket && held.overlaps(&range)) {
            queue = self.changed.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        RangeGuard { locks: self, ticket }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut queue = self.locks.queue();
        queue.ranges.retain(|(ticket, _)| *ticket != self.ticket);
        let others_wait = !queue.ranges.is_empty();
        drop(queue);
        if others_wait {
            self.locks.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn overlapping_holders_exclude_each_other_and_others_do_not_wait() {
        let locks = RangeLocks::default();
        let range = |start, end| ByteRange::between(Bytes(start), Bytes(end));
        let (inside, worst) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let apart = locks.lock(range(1000, 2000));
        std::thread::scope(|scope| {
            for start in 0..4 {
                let (locks, inside, worst) = (&locks, &inside, &worst);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _held = locks.lock(range(start, start + 10));
                        worst.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        drop(apart);
        assert_eq!(worst.into_inner(), 1);
    }
}
