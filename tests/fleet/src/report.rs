//! Figures for people to read.

use crate::measure::Times;
use crate::trial::{Figures, MEMORY_LIMIT, Trial};
use comfy_table::{Table, presets};
use std::time::Duration;

/// All that was measured, as a table of times and a few lines.
pub fn text(trial: &Trial, figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["what", "times", "p50", "p99", "longest"]);
    let (registered, all) = &trial.registered;
    row(&mut table, "registration of a host", registered);
    row(&mut table, "all pages of the portal", &figures.portal);
    row(&mut table, "all of the API", &figures.api);
    figures.times.iter().for_each(|(kind, times)| row(&mut table, kind, times));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (before, after) = figures.store;
    format!(
        "{table}\n{} hosts registered in {:.1} s, {:.0} a second\n\
         memory of mt-configserver: at most {:.0} MiB (limit {} MiB)\n\
         processors: mt-configserver {:.2}, simulation {:.2}, others {:.0} % of the machine\n\
         heartbeats: {}; updates to open pages: {}\n\
         store: {:.1} MiB, then {:.1} MiB\n",
        registered.count(),
        all.as_secs_f64(),
        registered.count() as f64 / all.as_secs_f64(),
        mib(figures.memory),
        MEMORY_LIMIT >> 20,
        figures.server_load,
        figures.our_load,
        figures.others * 100.0,
        figures.heartbeats,
        figures.told,
        mib(before),
        mib(after),
    )
}

fn row(table: &mut Table, kind: &str, times: &Times) {
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    table.add_row([
        kind.to_owned(),
        times.count().to_string(),
        shown(times.percentile(50.0)),
        shown(times.percentile(99.0)),
        shown(times.longest()),
    ]);
}
