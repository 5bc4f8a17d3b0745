//! Where the present rate of change leads: how far back recovery points will reach, when the volume is full, and how
//! large it would have to be.

use super::shares::{Share, volume_for};
use control_api::time::SECOND;

/// What the present rates lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// Nanoseconds that each item will reach back, at most as far as wanted; `None` while it does not grow.
    pub(crate) windows: Vec<Option<u64>>,
    /// Seconds until the journals take all of their room, if points were given up for their age only; `None` when that
    /// is enough for ever.
    pub(crate) full_in: Option<u64>,
    /// Bytes of a volume on which all windows fit; `None` while nothing grows.
    pub(crate) needed: Option<u64>,
    /// The same for windows of 24 hours, whatever the policies say.
    pub(crate) needed_for_a_day: Option<u64>,
}

/// Nanoseconds.
const DAY: u64 = 24 * 3600 * SECOND;

/// What follows when all journals together have `room` bytes.
pub(crate) fn forecast(shares: &[Share], room: u64) -> Forecast {
    let rate = shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.rate));
    Forecast {
        windows: windows(shares, room),
        full_in: full_in(shares, room),
        needed: (rate > 0).then(|| needed(shares, rate, |share| share.window)),
        needed_for_a_day: (rate > 0).then(|| needed(shares, rate, |_| DAY)),
    }
}

fn needed(shares: &[Share], rate: u64, window: impl Fn(&Share) -> u64) -> u64 {
    let whole = |share: &Share| match share.rate {
        0 => share.bytes,
        _ => share.grows_in(window(share)),
    };
    volume_for(sum(shares, whole), rate)
}

fn sum(shares: &[Share], bytes: impl Fn(&Share) -> u64) -> u64 {
    shares.iter().fold(0, |sum, share| sum.saturating_add(bytes(share)))
}

/// Bytes of an item that has long reached back by `length`, as far as its policy lets it.
fn settled(share: &Share, length: u64) -> u64 {
    if share.rate == 0 || share.held {
        return share.bytes;
    }
    let whole = share.grows_in(share.window);
    let least = share.min.min(whole);
    share.grows_in(length.min(share.window)).max(least).min(share.max.unwrap_or(u64::MAX))
}

/// All reach back equally far, but for what their policies say.
fn windows(shares: &[Share], room: u64) -> Vec<Option<u64>> {
    let fits = |length: u64| sum(shares, |share| settled(share, length)) <= room;
    let longest = shares.iter().map(|share| share.window).max().unwrap_or(0);
    let (mut fitting, mut too_long) = (0, longest.saturating_add(1));
    while too_long - fitting > 1 {
        let length = fitting + (too_long - fitting) / 2;
        if fits(length) { fitting = length } else { too_long = length }
    }
    let window = |share: &Share| {
        let nanos = u128::from(settled(share, fitting)) * u128::from(SECOND);
        let nanos = nanos.checked_div(u128::from(share.rate))?;
        // A length that is whole in nanoseconds is not whole in bytes.
        let rounding = SECOND / share.rate + 1;
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Some(if nanos.saturating_add(rounding) >= share.window { share.window } else { nanos })
    };
    shares.iter().map(window).collect()
}

/// Bytes of an item after so many nanoseconds. What it holds now leaves the window as evenly as it came.
fn bytes_after(share: &Share, nanos: u64) -> u64 {
    if share.rate == 0 || share.held {
        return share.bytes;
    }
    let still_wanted = share.window.saturating_sub(nanos).min(share.reach);
    let old = u128::from(share.bytes) * u128::from(still_wanted) / u128::from(share.reach.max(1));
    let old = if share.reach == 0 { share.bytes } else { old as u64 };
    let new = share.grows_in(nanos.min(share.window));
    old.saturating_add(new).min(share.max.unwrap_or(u64::MAX))
}

/// The first moment at which there is no room. Between the moments at which an item begins or ceases to give up what it
/// holds now, each item's size goes one way, straight but for its maximum.
fn full_in(shares: &[Share], room: u64) -> Option<u64> {
    let full = |nanos: u64| sum(shares, |share| bytes_after(share, nanos)) >= room;
    let turns = |share: &Share| [share.window.saturating_sub(share.reach), share.window];
    let mut moments: Vec<u64> = shares.iter().flat_map(turns).chain([0]).collect();
    moments.sort_unstable();
    let end = moments.iter().position(|moment| full(*moment))?;
    let (mut before, mut after) = (end.checked_sub(1).map_or(0, |n| moments[n]), moments[end]);
    while after - before > SECOND {
        let middle = before + (after - before) / 2;
        if full(middle) { after = middle } else { before = middle }
    }
    Some(after / SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600 * SECOND;
    const MIB: u64 = 1 << 20;

    /// An item that has long written so many MiB a second and reaches back so many hours of the day that it should.
    fn settled_at(mib: u64, hours: u64) -> Share {
        let rate = mib * MIB;
        let bytes = rate * hours * 3600;
        Share { bytes, reach: hours * HOUR, rate, window: DAY, ..Share::default() }
    }

    #[test]
    fn windows_that_fit_are_whole_and_never_fill_the_volume() {
        let share = settled_at(1, 24);
        let day = share.bytes;
        let found = forecast(std::slice::from_ref(&share), day + MIB);
        assert_eq!(
            found,
            Forecast {
                windows: vec![Some(DAY)],
                full_in: None,
                needed: Some(day + 4096 * MIB),
                needed_for_a_day: Some(day + 4096 * MIB)
            }
        );
        // So it is while they are still being filled.
        let young = settled_at(1, 2);
        assert_eq!(forecast(&[young], day + MIB).full_in, None);
    }

    #[test]
    fn what_a_day_needs_is_told_whatever_the_policies_say() {
        for window in [HOUR, DAY, 7 * DAY] {
            let share = Share { window, ..settled_at(1, 1) };
            let found = forecast(std::slice::from_ref(&share), 1 << 40);
            assert_eq!(found.needed_for_a_day, Some(24 * 3600 * MIB + 4096 * MIB));
            assert_eq!(found.needed == found.needed_for_a_day, window == DAY);
        }
        assert_eq!(forecast(&[settled_at(0, 1)], 1 << 40).needed_for_a_day, None);
    }

    #[test]
    fn windows_that_do_not_fit_are_as_long_as_the_room_lasts() {
        let shares = [settled_at(1, 2), settled_at(3, 2)];
        let room = 4 * MIB * 12 * 3600;
        let found = forecast(&shares, room);
        for window in found.windows {
            assert!(window.unwrap().abs_diff(12 * HOUR) < SECOND, "{window:?}");
        }
        assert!(found.full_in.unwrap().abs_diff(10 * 3600) <= 1, "{:?}", found.full_in);
        let day = 4 * MIB * 24 * 3600;
        assert_eq!(found.needed, Some(day + 4 * 1024 * MIB));
    }

    #[test]
    fn minima_and_maxima_bend_windows() {
        let hour = 3600 * MIB;
        let spared = Share { min: 20 * hour, ..settled_at(1, 2) };
        let bound = Share { max: Some(2 * hour), ..settled_at(1, 2) };
        let windows = forecast(&[spared, bound, settled_at(1, 2)], 30 * hour).windows;
        let hours: Vec<u64> = windows.iter().map(|window| (window.unwrap() + SECOND) / HOUR).collect();
        assert_eq!(hours, [20, 2, 8]);
    }

    #[test]
    fn what_does_not_grow_keeps_what_it_has() {
        let quiet = Share { rate: 0, ..settled_at(1, 10) };
        let held = quiet.bytes;
        let found = forecast(std::slice::from_ref(&quiet), held * 2);
        assert_eq!(found, Forecast { windows: vec![None], ..Forecast::default() });
        let found = forecast(&[quiet, settled_at(1, 0)], held * 2);
        assert_eq!(found.windows[1].map(|window| (window + SECOND) / HOUR), Some(10));
        assert!(found.full_in.unwrap().abs_diff(10 * 3600) <= 1);
        assert_eq!(forecast(&[], 0), Forecast { full_in: Some(0), ..Forecast::default() });
    }

    /// What an old burst frees as it leaves the window is counted on.
    #[test]
    fn an_old_burst_makes_room_when_it_leaves_the_window() {
        let burst = Share { bytes: 10_000 * MIB, reach: 24 * HOUR, ..settled_at(1, 0) };
        let burst = Share { rate: MIB / 10, ..burst };
        assert_eq!(forecast(&[burst], 10_001 * MIB).full_in, None);
    }

    prop_compose! {
        fn any_share()(
            bytes in 0u64..1 << 40, reach in 0u64..2 * DAY, rate in 0u64..1 << 28, window in HOUR..7 * DAY,
            min in 0u64..1 << 40, more in prop_oneof![Just(None), (0u64..1 << 40).prop_map(Some)],
        ) -> Share {
            let max = more.map(|more| min + more);
            Share { bytes, reach, rate, window, min, max, ..Share::default() }
        }
    }

    proptest! {
        /// The oracle goes forward minute by minute.
        #[test]
        fn the_volume_is_full_when_a_slow_look_finds_it_full(
            shares in proptest::collection::vec(any_share().prop_map(|share| Share { max: None, ..share }), 1..5),
            room in 0u64..1 << 43,
        ) {
            let minute = 60 * SECOND;
            let full = |n: &u64| sum(&shares, |share| bytes_after(share, n * minute)) >= room;
            let slow = (0..8 * DAY / minute).find(full).map(|minute| minute * 60);
            match (full_in(&shares, room), slow) {
                (None, None) => {}
                // A peak may fall between two minutes.
                (Some(found), None) => prop_assert!(full(&(found / 60)) || full(&(found / 60 + 1)) || found % 60 > 0),
                (Some(found), Some(slow)) => prop_assert!(found <= slow, "{found} s and not {slow} s"),
                (None, Some(slow)) => prop_assert!(false, "full after {slow} s"),
            }
        }

        #[test]
        fn windows_fit_and_are_no_longer_than_wanted(
            shares in proptest::collection::vec(any_share(), 1..5),
            room in 0u64..1 << 43,
        ) {
            let windows = windows(&shares, room);
            for (share, window) in shares.iter().zip(&windows) {
                prop_assert_eq!(window.is_none(), share.rate == 0);
                prop_assert!(window.is_none_or(|window| window <= share.window));
            }
            let least = sum(&shares, |share| settled(share, 0));
            let taken: u64 = shares.iter().zip(&windows).map(|(share, window)| match window {
                None => share.bytes,
                Some(window) => share.grows_in(*window),
            }).sum();
            let rounding: u64 = shares.iter().map(|share| share.rate / 1000 + 1000).sum();
            prop_assert!(taken <= room.max(least) + rounding, "{} of {}", taken, room);
        }
    }
}
