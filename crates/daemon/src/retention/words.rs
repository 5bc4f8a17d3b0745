//! What people are told about the room on the retention volume.

use super::forecast::Forecast;
use super::shares::{Share, headroom};
use control_api::time::{self, SECOND};
use disk::Bytes;

/// Percent of the volume at which there is an alert, a more urgent one, and the most urgent one.
const THRESHOLDS: [u64; 3] = [80, 90, 95];
/// It is taken back when so many percent less are used.
const HYSTERESIS: u64 = 2;
/// Items that an alert names.
const NAMED: usize = 5;

/// How full a volume is, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Roomy,
    Filling,
    NearlyFull,
    Full,
}

const ALERTING: [Level; 3] = [Level::Filling, Level::NearlyFull, Level::Full];

impl Level {
    /// The level that follows this one at `percent`.
    pub(super) fn at(self, percent: u64) -> Level {
        let reached = |level: &Level, threshold: u64| {
            let kept = if *level <= self { HYSTERESIS } else { 0 };
            percent + kept >= threshold
        };
        let levels = ALERTING.iter().zip(THRESHOLDS);
        levels
            .filter(|(level, threshold)| reached(level, *threshold))
            .map(|(level, _)| *level)
            .max()
            .unwrap_or_default()
    }
}

/// The volume as an alert describes it.
pub(super) struct Scene<'a> {
    pub(super) folder: &'a str,
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) names: &'a [String],
    pub(super) shares: &'a [Share],
    pub(super) forecast: &'a Forecast,
    /// True when points of the window are being given up.
    pub(super) shrinking: bool,
}

impl Scene<'_> {
    pub(super) fn percent(&self) -> u64 {
        (u128::from(self.used) * 100 / u128::from(self.capacity.max(1))) as u64
    }

    /// What is neither a journal nor free.
    fn others(&self) -> u64 {
        let journals: u64 = self.shares.iter().map(|share| share.bytes).sum();
        self.used.saturating_sub(journals)
    }

    fn rate(&self) -> u64 {
        self.shares.iter().map(|share| share.rate).sum()
    }

    /// The message of the alert: what holds the room, where it leads, what to do.
    pub(super) fn message(&self, level: Level) -> String {
        let how = match level {
            Level::Roomy | Level::Filling => "is filling",
            Level::NearlyFull => "is nearly full",
            Level::Full => "is full",
        };
        format!(
            "the retention volume {} {how}: {} % of {} are used, by {}; {}; {}",
            self.folder,
            self.percent(),
            Bytes(self.capacity),
            self.users(),
            self.outlook(),
            self.advice()
        )
    }

    fn users(&self) -> String {
        let mut items: Vec<(&String, u64)> =
            self.names.iter().zip(self.shares).map(|(name, share)| (name, share.bytes)).collect();
        items.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut users: Vec<String> =
            items.iter().take(NAMED).map(|(name, bytes)| format!("{name} {}", Bytes(*bytes))).collect();
        if let Some(rest) = items.get(NAMED..).filter(|rest| !rest.is_empty()) {
            let bytes: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
            users.push(format!("{} more items {}", rest.len(), Bytes(bytes)));
        }
        users.push(format!("other files {}", Bytes(self.others())));
        users.join(", ")
    }

    /// How long until it is full, and how far back recovery points will reach.
    fn outlook(&self) -> String {
        let rate = self.rate();
        if rate == 0 {
            return "nothing is written to it now".to_owned();
        }
        let full = match self.forecast.full_in {
            None => "the retention windows fit and it will not be full".to_owned(),
            Some(_) if self.shrinking => "windows are shortened from their old end to make room".to_owned(),
            Some(seconds) => {
                format!("its room is used up in {}", time::format_duration(seconds.saturating_mul(SECOND)))
            }
        };
        let mut text = format!("at the present {}/s {full}", Bytes(rate));
        if let Some(short) = self.shortest() {
            text.push_str(&format!(", and {short}"));
        }
        text
    }

    /// The item whose window will fall short the most.
    fn shortest(&self) -> Option<String> {
        let items = self.names.iter().zip(self.shares).zip(&self.forecast.windows);
        let short = items.filter_map(|((name, share), window)| {
            window.filter(|window| *window < share.window).map(|window| (name, share.window, window))
        });
        let (name, wanted, window) = short
            .min_by_key(|(_, wanted, window)| u128::from(*window) * 1000 / u128::from((*wanted).max(1)))?;
        Some(format!(
            "recovery points of {name} will reach back {} instead of {}",
            time::format_duration(window),
            time::format_duration(wanted)
        ))
    }

    fn advice(&self) -> String {
        let others = self.others();
        if others > headroom(self.capacity, 0) && others > self.capacity / 5 {
            return format!("move the other files ({}) away from it", Bytes(others));
        }
        let minima = self.shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.min));
        if minima > self.capacity - headroom(self.capacity, 0) {
            return format!(
                "min_journal of all items comes to {}, more than it has: lower it (mtctl policy, or mtd.toml for an item of \
                 that file), or give it a larger disk",
                Bytes(minima)
            );
        }
        match self.forecast.needed.filter(|needed| *needed > self.capacity) {
            Some(needed) => format!(
                "give it a disk of at least {}, or shorten the window of an item or limit it by max_journal (mtctl policy, or \
                 mtd.toml for an item of that file)",
                Bytes(round_up(needed))
            ),
            None => "see mtctl retention status".to_owned(),
        }
    }
}

/// A size that people buy: two leading digits of its unit.
fn round_up(bytes: u64) -> u64 {
    let unit = 1u64 << (bytes.max(1).ilog2() / 10 * 10);
    let step = if bytes < 10 * unit { unit.div_ceil(10) } else { unit };
    bytes.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const HOUR: u64 = 3600 * SECOND;

    fn share(gib: u64, mib_per_second: u64) -> Share {
        Share { bytes: gib * GIB, rate: mib_per_second << 20, window: 24 * HOUR, ..Share::default() }
    }

    fn message(shares: &[Share], used: u64, forecast: &Forecast, shrinking: bool) -> String {
        let names: Vec<String> = (0..shares.len()).map(|n| format!("web{:02}", n + 1)).collect();
        let scene = Scene {
            folder: "/mnt/retention",
            capacity: 1024 * GIB,
            used: used * GIB,
            names: &names,
            shares,
            forecast,
            shrinking,
        };
        scene.message(Level::default().at(scene.percent()))
    }

    #[test]
    fn levels_rise_at_their_threshold_and_fall_a_little_below() {
        let mut level = Level::Roomy;
        let mut seen = Vec::new();
        for percent in [79, 80, 79, 78, 77, 96, 94, 92, 90, 88, 87, 100, 0] {
            level = level.at(percent);
            seen.push(level);
        }
        use Level::{Filling, Full, NearlyFull, Roomy};
        assert_eq!(
            seen,
            [
                Roomy, Filling, Filling, Filling, Roomy, Full, Full, NearlyFull, NearlyFull, NearlyFull,
                Filling, Full, Roomy
            ]
        );
    }

    #[test]
    fn an_alert_says_who_uses_what_where_it_leads_and_what_to_do() {
        let forecast = Forecast {
            windows: vec![Some(20 * HOUR), Some(18 * HOUR)],
            full_in: Some(7800),
            needed: Some(1300 * GIB),
            ..Forecast::default()
        };
        assert_eq!(
            message(&[share(300, 4), share(620, 9)], 930, &forecast, false),
            "the retention volume /mnt/retention is nearly full: 90 % of 1 TiB are used, by web02 620 GiB, web01 300 GiB, \
             other files 10 GiB; at the present 13 MiB/s its room is used up in 2 h 10 min, and recovery points of web02 \
             will reach back 18 h instead of 1 d; give it a disk of at least 1.3 TiB, or shorten the window of an item or \
             limit it by max_journal (mtctl policy, or mtd.toml for an item of that file)"
        );
        let full = message(&[share(300, 4), share(620, 9)], 1020, &forecast, true);
        assert!(
            full.contains("is full: 99 %") && full.contains("windows are shortened from their old end"),
            "{full}"
        );
    }

    #[test]
    fn only_the_largest_items_are_named() {
        let shares: Vec<Share> = (1..=8).map(|n| share(n * 20, 1)).collect();
        let forecast =
            Forecast { windows: vec![Some(24 * HOUR); 8], needed: Some(900 * GIB), ..Forecast::default() };
        let text = message(&shares, 850, &forecast, false);
        assert!(text.contains("web08 160 GiB") && text.contains("web04 80 GiB"), "{text}");
        assert!(text.contains("3 more items 120 GiB, other files 130 GiB"), "{text}");
        assert!(
            text.contains("the retention windows fit and it will not be full; see mtctl retention status"),
            "{text}"
        );
    }

    #[test]
    fn other_files_are_told_when_they_are_the_trouble() {
        let text = message(&[share(100, 0)], 900, &Forecast::default(), false);
        assert!(text.contains("is filling: 87 %") && text.contains("nothing is written to it now"), "{text}");
        assert!(text.ends_with("move the other files (800 GiB) away from it"), "{text}");
    }

    #[test]
    fn minima_that_no_volume_keeps_are_told() {
        let greedy = Share { min: 600 * GIB, ..share(450, 1) };
        let text = message(&[greedy.clone(), greedy], 950, &Forecast::default(), true);
        assert!(text.contains("min_journal of all items comes to 1.2 TiB, more than it has"), "{text}");
    }

    #[test]
    fn sizes_to_buy_are_round() {
        assert_eq!(Bytes(round_up(1300 * GIB)).to_string(), "1.3 TiB");
        assert_eq!(Bytes(round_up((2 << 40) + GIB)).to_string(), "2.1 TiB");
        assert_eq!(round_up(700 * GIB + 5), 701 * GIB);
    }
}
