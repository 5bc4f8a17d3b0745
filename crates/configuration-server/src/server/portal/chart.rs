//! The RPO of an item over a day as a picture, and as a table for those who do not see it.
//!
//! The picture is stretched to the width that there is, so nothing in it is text: what has to be read stands around it
//! as HTML, and keeps its size on a phone.

use super::ui;
use askama::Template;
use askama::filters::HtmlSafe;
use control_api::time::{SECOND, Time};
use std::fmt::Write;

/// Seconds of a slot.
const SLOT: u64 = 300;
/// Slots of a day; also the width of the picture.
const SLOTS: u64 = 288;
/// Slots of an hour.
const HOUR: u64 = 12;

/// Seconds that the scale may end at.
const ENDS: [u64; 14] =
    [60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800, 604_800];

/// What was told within a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Five minutes since the Unix epoch.
    pub(super) slot: u64,
    /// The worst in the slot.
    pub(super) rpo_seconds: Option<u64>,
    pub(super) bytes_per_second: u64,
}

/// The chart.
#[derive(Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    summary: String,
    description: String,
    scale: [String; 3],
    hours: [String; 5],
    width: u64,
    curve: String,
    area: String,
    over: Vec<Over>,
    threshold_y: Option<f64>,
    threshold: String,
    rows: Vec<Row>,
}

impl HtmlSafe for Chart {}

/// Where the curve is above the threshold.
struct Over {
    x: u64,
    y: f64,
    width: u64,
    height: f64,
}

struct Row {
    hour: String,
    worst: String,
    rate: String,
}

/// Values of the slots of the day that ends at `now`.
struct Day {
    first: u64,
    rpo: Vec<Option<u64>>,
    rates: Vec<Option<u64>>,
}

impl Day {
    fn new(readings: &[Reading], now: Time) -> Day {
        let first = (now / SECOND / SLOT + 1).saturating_sub(SLOTS);
        let (mut rpo, mut rates) = (vec![None; SLOTS as usize], vec![None; SLOTS as usize]);
        for reading in readings {
            let at = reading.slot.checked_sub(first).and_then(|slot| usize::try_from(slot).ok());
            if let Some(at) = at.filter(|at| *at < rpo.len()) {
                rpo[at] = reading.rpo_seconds;
                rates[at] = Some(reading.bytes_per_second);
            }
        }
        Day { first, rpo, rates }
    }

    fn clock(&self, slot: u64) -> String {
        ui::utc((self.first + slot) * SLOT * SECOND)
    }

    /// Runs of slots with a value: where they begin, and the values.
    fn runs(&self) -> Vec<(u64, Vec<u64>)> {
        let mut runs: Vec<(u64, Vec<u64>)> = Vec::new();
        let mut going = false;
        for (slot, value) in (0..).zip(&self.rpo) {
            match (value, runs.last_mut()) {
                (Some(value), Some((_, run))) if going => run.push(*value),
                (Some(value), _) => runs.push((slot, vec![*value])),
                _ => {}
            }
            going = value.is_some();
        }
        runs
    }

    /// The newest hour first; hours of which nothing is known are left out.
    fn rows(&self) -> Vec<Row> {
        let hours = (0..SLOTS / HOUR).rev().map(|hour| hour * HOUR);
        let row = |from: u64| {
            let range = from as usize..(from + HOUR) as usize;
            let rates: Vec<u64> = self.rates[range.clone()].iter().flatten().copied().collect();
            let worst = self.rpo[range].iter().flatten().max();
            let mean = rates.iter().sum::<u64>() / (rates.len() as u64).max(1);
            (!rates.is_empty()).then(|| Row {
                hour: self.clock(from).chars().take(16).collect(),
                worst: worst.map_or("–".into(), |worst| ui::seconds(*worst)),
                rate: ui::rate(mean),
            })
        };
        hours.filter_map(row).collect()
    }
}

impl Chart {
    /// Draws what was told in the day before `now`.
    pub(super) fn rpo(readings: &[Reading], threshold_seconds: u64, now: Time) -> Chart {
        let day = Day::new(readings, now);
        let worst =
            (0..).zip(&day.rpo).filter_map(|(slot, value)| Some((value.as_ref().copied()?, slot))).max();
        let highest = worst.map_or(0, |(worst, _)| worst).max(threshold_seconds + threshold_seconds / 5);
        let end = ENDS.into_iter().find(|end| *end >= highest).unwrap_or(highest);
        let y = |seconds: u64| (1000.0 - seconds as f64 / end as f64 * 1000.0).round() / 10.0;
        let (mut curve, mut area, mut over) = (String::new(), String::new(), Vec::new());
        for (start, run) in day.runs() {
            let mut line = String::new();
            for (x, value) in (start..).zip(&run) {
                let _ = write!(line, "{}{}H{}", if x == start { "" } else { "V" }, y(*value), x + 1);
                if *value > threshold_seconds {
                    over.push(Over { x, y: y(*value), width: 1, height: y(threshold_seconds) - y(*value) });
                }
            }
            let _ = write!(curve, "M{start} {line}");
            let _ = write!(area, "M{start} {line}V100H{start}Z");
        }
        let threshold = ui::seconds(threshold_seconds);
        let summary = match worst {
            None => "nothing was reported in this time".to_owned(),
            Some((worst, slot)) => format!("worst {} at {}", ui::seconds(worst), day.clock(slot)),
        };
        Chart {
            description: format!(
                "RPO over the last 24 hours: {summary}; threshold {threshold}. The table below tells all."
            ),
            summary,
            scale: [end, end / 2, 0].map(ui::seconds),
            hours: [0, 72, 144, 216, 288].map(|slot| day.clock(slot).chars().skip(11).take(5).collect()),
            width: SLOTS,
            curve,
            area,
            over,
            threshold_y: (threshold_seconds > 0).then(|| y(threshold_seconds)),
            threshold,
            rows: day.rows(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = 1_790_000_000 * SECOND;

    fn readings(values: &[Option<u64>]) -> Vec<Reading> {
        let newest = NOW / SECOND / SLOT;
        let first = newest + 1 - values.len() as u64;
        let reading = |(slot, value): (u64, &Option<u64>)| Reading {
            slot,
            rpo_seconds: *value,
            bytes_per_second: 2048,
        };
        (first..).zip(values).map(reading).collect()
    }

    #[test]
    fn a_day_is_drawn_with_its_gaps_and_what_is_above_the_threshold() {
        let chart = Chart::rpo(&readings(&[Some(60), None, Some(1200), Some(30)]), 900, NOW);
        assert_eq!(chart.scale, ["20 min", "10 min", "0 s"]);
        assert_eq!(chart.curve, "M284 95H285M286 0H287V97.5H288");
        assert!(chart.area.ends_with("V100H286Z"), "{}", chart.area);
        let over: Vec<(u64, f64, f64)> =
            chart.over.iter().map(|over| (over.x, over.y, over.height)).collect();
        assert_eq!(over, [(286, 0.0, 25.0)]);
        assert!(chart.summary.starts_with("worst 20 min at 2026-"), "{}", chart.summary);
        assert_eq!((chart.rows.len(), chart.rows[0].worst.as_str()), (1, "20 min"));
        assert_eq!(chart.rows[0].rate, "2.0 KiB/s");
    }

    #[test]
    fn what_is_not_of_the_day_is_left_out() {
        let mut old = readings(&[Some(1); 400]);
        old.push(Reading { slot: u64::MAX, rpo_seconds: Some(9), bytes_per_second: u64::MAX / 2 });
        let chart = Chart::rpo(&old, 900, NOW);
        assert!(chart.curve.starts_with("M0 99.9H1V99.9H2") && chart.curve.ends_with("H288"));
        assert_eq!(chart.rows.len(), 24);
        let empty = Chart::rpo(&[], 0, 0);
        assert_eq!((empty.curve.as_str(), empty.summary.as_str()), ("", "nothing was reported in this time"));
    }
}
