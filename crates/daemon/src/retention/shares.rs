//! Who gives up how much when the retention volume is short of room.
//!
//! All windows shrink alike: whoever reaches back furthest gives first, until all reach back equally far. An item above
//! its own maximum gives before all others. One that is not above its minimum gives nothing, as long as another one is
//! above its own. What is asked for is a limit; the item's engine keeps it by removing whole segments, and never its
//! newest recovery point.

use control_api::time::SECOND;

const GIB: u64 = 1 << 30;

/// Seconds until as much has been pruned as was written: one to notice, and two for the job to get its turn and be done.
const PRUNING_TAKES: u64 = 3;
/// More than this is not kept free just in case.
const STANDING_HEADROOM: u64 = 4 * GIB;

/// One item's part of the volume, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Bytes that its journal takes.
    pub(crate) bytes: u64,
    /// Nanoseconds from its oldest recovery point to the newest state that is known of its source.
    pub(crate) reach: u64,
    /// Bytes that it keeps while others have more than they keep.
    pub(crate) min: u64,
    /// Bytes that it takes at most.
    pub(crate) max: Option<u64>,
    /// Bytes of its largest segment: the engine frees whole ones, so up to so many more than it is asked to.
    pub(crate) grain: u64,
    /// Bytes a second that it grows by.
    pub(crate) rate: u64,
    /// Nanoseconds that it is to reach back.
    pub(crate) window: u64,
    /// True while nothing of it can be given up.
    pub(crate) held: bool,
}

impl Share {
    /// What is left of it once it keeps its maximum.
    pub(super) fn within_max(&self) -> u64 {
        match self.max {
            Some(max) if !self.held => self.bytes.min(max),
            _ => self.bytes,
        }
    }

    /// A limit that the engine can keep without going below the minimum.
    fn floor(&self) -> u64 {
        if self.min == 0 { 0 } else { self.min + self.grain }
    }

    /// Bytes appended in so many nanoseconds.
    pub(super) fn grows_in(&self, nanos: u64) -> u64 {
        let bytes = u128::from(self.rate) * u128::from(nanos) / u128::from(SECOND);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// How much an item's journal may take now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// What the volume has.
    #[default]
    Free,
    /// Its own maximum.
    Maximum(u64),
    /// Less, because the volume is short of room.
    Shortage(u64),
}

impl Allowance {
    /// In bytes.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Allowance::Free => None,
            Allowance::Maximum(bytes) | Allowance::Shortage(bytes) => Some(bytes),
        }
    }
}

/// Bytes of a volume that are kept free for what is written until pruning takes effect.
pub(crate) fn headroom(capacity: u64, rate: u64) -> u64 {
    let standing = (capacity / 20).min(STANDING_HEADROOM);
    let surge = rate.saturating_mul(PRUNING_TAKES).min(capacity / 4);
    standing.max(surge)
}

/// The smallest volume on which `bytes` fit beside the headroom.
pub(crate) fn volume_for(bytes: u64, rate: u64) -> u64 {
    let standing = (bytes / 19).min(STANDING_HEADROOM);
    let surge = rate.saturating_mul(PRUNING_TAKES).min(bytes / 3);
    bytes.saturating_add(standing.max(surge))
}

/// What each item may take when `shortage` bytes more have to become free.
pub(crate) fn allowances(shares: &[Share], shortage: u64) -> Vec<Allowance> {
    let above_max: u64 = shares.iter().map(|share| share.bytes - share.within_max()).sum();
    let mut shortage = shortage.saturating_sub(above_max);
    let mut pools: Vec<Pool> = shares.iter().map(|share| Pool::new(share, share.floor())).collect();
    let before: Vec<u64> = pools.iter().map(|pool| pool.bytes).collect();
    shortage -= lower(&mut pools, shortage);
    if shortage > 0 {
        // Everyone is down to what it keeps, and now all give of that.
        pools.iter_mut().for_each(|pool| pool.floor = 0);
        lower(&mut pools, shortage);
    }
    let limits = pools.iter().zip(before).zip(shares);
    limits
        .map(|((pool, before), share)| match share.max {
            _ if pool.bytes < before => Allowance::Shortage(pool.bytes),
            Some(max) => Allowance::Maximum(max),
            None => Allowance::Free,
        })
        .collect()
}

/// What an item has and could give, as if its bytes were spread evenly over its reach.
struct Pool {
    bytes: u64,
    reach: u64,
    floor: u64,
}

impl Pool {
    fn new(share: &Share, floor: u64) -> Pool {
        let reach = if share.held { 0 } else { share.reach };
        Pool { bytes: share.within_max(), reach, floor }
    }

    /// What it gives to reach back no further than `length`.
    fn gives(&self, length: u64) -> u64 {
        let too_far = self.reach.saturating_sub(length);
        let bytes = u128::from(self.bytes) * u128::from(too_far) / u128::from(self.reach.max(1));
        (bytes as u64).min(self.bytes.saturating_sub(self.floor))
    }

    fn give(&mut self, bytes: u64) {
        let left = self.bytes - bytes;
        self.reach = (u128::from(self.reach) * u128::from(left) / u128::from(self.bytes.max(1))) as u64;
        self.bytes = left;
    }
}

/// Lowers the reach of all to the greatest common length at which they give `wanted` bytes, or all they have. What was
/// given of it.
fn lower(pools: &mut [Pool], wanted: u64) -> u64 {
    let at = |length: u64| pools.iter().fold(0u64, |sum, pool| sum.saturating_add(pool.gives(length)));
    let (mut enough, mut too_long) = (0, pools.iter().map(|pool| pool.reach).max().unwrap_or(0) + 1);
    while too_long - enough > 1 {
        let length = enough + (too_long - enough) / 2;
        if at(length) >= wanted { enough = length } else { too_long = length }
    }
    let mut given = 0u64;
    for pool in pools {
        let bytes = pool.gives(enough);
        pool.give(bytes);
        given = given.saturating_add(bytes);
    }
    given.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600 * SECOND;

    fn share(bytes: u64, hours: u64) -> Share {
        Share { bytes, reach: hours * HOUR, ..Share::default() }
    }

    fn limits(shares: &[Share], shortage: u64) -> Vec<Option<u64>> {
        allowances(shares, shortage).into_iter().map(Allowance::bytes).collect()
    }

    #[test]
    fn who_reaches_back_furthest_gives_first() {
        let shares = [share(2400, 24), share(1000, 10)];
        assert_eq!(limits(&shares, 0), [None, None]);
        assert_eq!(limits(&shares, 400), [Some(2000), None]);
        assert_eq!(limits(&shares, 1400), [Some(1000), None]);
        // From there on both shrink alike.
        assert_eq!(limits(&shares, 1600), [Some(900), Some(900)]);
        assert_eq!(limits(&shares, u64::MAX), [Some(0), Some(0)]);
    }

    #[test]
    fn a_maximum_is_kept_first_and_a_minimum_last() {
        let above = Share { max: Some(500), ..share(700, 1) };
        assert_eq!(limits(&[share(2400, 24), above.clone()], 200), [None, Some(500)]);
        assert_eq!(limits(&[share(2400, 24), above], 300), [Some(2300), Some(500)]);
        let spared = Share { min: 2000, ..share(2400, 24) };
        assert_eq!(limits(&[spared.clone(), share(1000, 10)], 600), [Some(2000), Some(800)]);
        // Only when nobody has more than a minimum.
        assert_eq!(limits(&[spared, share(1000, 10)], 2400), [Some(1000), Some(0)]);
    }

    #[test]
    fn what_cannot_be_given_up_is_left_out() {
        let held = Share { held: true, max: Some(1), ..share(5000, 90) };
        let allowed = allowances(&[held, share(1000, 10)], 100);
        assert_eq!(allowed, [Allowance::Maximum(1), Allowance::Shortage(900)]);
    }

    #[test]
    fn headroom_fits_small_and_large_volumes() {
        const MIB: u64 = 1 << 20;
        assert_eq!(headroom(300 * MIB, 0), 15 * MIB);
        assert_eq!(headroom(300 * MIB, 10 * MIB), 30 * MIB);
        assert_eq!(headroom(300 * MIB, 50 * MIB), 75 * MIB);
        assert_eq!(headroom(10 << 40, 100 * MIB), 4 * GIB);
        assert_eq!(headroom(10 << 40, 2 * GIB), 6 * GIB);
    }

    prop_compose! {
        fn any_share()(
            bytes in 0u64..1 << 44,
            reach in 0u64..40 * 24 * HOUR,
            min in prop_oneof![Just(0), 0u64..1 << 44],
            max in prop_oneof![Just(None), (0u64..1 << 44).prop_map(Some)],
            held in proptest::bool::weighted(0.1),
        ) -> Share {
            let max = max.map(|max| max.max(min));
            Share { bytes, reach, min, max, held, ..Share::default() }
        }
    }

    proptest! {
        /// Invariant 4: enough is given where there is enough, no more than that, the furthest reach first, and
        /// minima last.
        #[test]
        fn invariant_4_the_oldest_give_just_enough(
            shares in proptest::collection::vec(any_share(), 0..8),
            shortage in 0u64..1 << 45,
        ) {
            let allowed = allowances(&shares, shortage);
            let left = |n: usize| allowed[n].bytes().unwrap_or(u64::MAX).min(shares[n].bytes);
            let all = 0..shares.len();
            let freed: u64 = all.clone().filter(|n| !shares[*n].held).map(|n| shares[n].bytes - left(n)).sum();
            let for_max: u64 = shares.iter().map(|share| share.bytes - share.within_max()).sum();
            let movable = |n: &usize| !shares[*n].held && shares[*n].reach > 0;
            let most: u64 = all.clone().filter(movable).map(|n| shares[n].within_max()).sum::<u64>() + for_max;
            // Lengths are whole nanoseconds, which is some bytes for a journal that is large and short.
            let step = |share: &Share| share.bytes / share.reach.max(1) + 2;
            let slack: u64 = shares.iter().map(step).sum();
            prop_assert!(freed >= shortage.min(most), "{freed} freed of {shortage}, {most} possible");
            prop_assert!(freed <= shortage.max(for_max) + 2 * slack, "{freed} freed for {shortage}");
            // What is left of the reach of each that gave: equal, but for minima.
            let length = |n: usize| {
                let share = &shares[n];
                let has = share.within_max().max(1);
                (u128::from(share.reach) * u128::from(left(n).min(has)) / u128::from(has)) as u64
            };
            let gave = |n: &usize| matches!(allowed[*n], Allowance::Shortage(_));
            let below_min = all.clone().any(|n| gave(&n) && left(n) < shares[n].min);
            for n in all.clone().filter(gave) {
                prop_assert!(!shares[n].held);
                for other in all.clone().filter(movable) {
                    let spared = left(other) <= shares[other].min;
                    let rounding = shares[n].reach / shares[n].within_max().max(1)
                        + shares[other].reach / shares[other].within_max().max(1) + 2;
                    if !below_min {
                        prop_assert!(spared || length(other) <= length(n) + 2 * rounding,
                            "{other} keeps {} and {n} only {}", length(other), length(n));
                    } else {
                        prop_assert!(spared, "{other} is above its minimum while another goes below");
                    }
                }
            }
        }
    }
}
