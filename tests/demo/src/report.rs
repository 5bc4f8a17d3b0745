//! What the demo says as it goes, and the table at its end.

use comfy_table::{CellAlignment, Table, presets};
use std::time::{Duration, Instant};

/// Numbered steps, what each one proved, and the figures for the table.
pub(crate) struct Report {
    step: u32,
    started: Instant,
    rows: Vec<(String, String)>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new() -> Report {
        Report { step: 0, started: Instant::now(), rows: Vec::new() }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, what: &str) {
        self.step += 1;
        println!("\n{:>2}. {what}", self.step);
    }

    /// Something the reader should see.
    pub(crate) fn note(&self, what: &str) {
        println!("      {what}");
    }

    /// Something that has just been proved.
    pub(crate) fn proved(&self, what: &str) {
        println!("    \u{2713} {what}");
    }

    /// A figure for the table.
    pub(crate) fn figure(&mut self, name: &str, value: String) {
        self.rows.push((name.to_owned(), value));
    }

    /// Prints the table.
    pub(crate) fn finish(&self) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        for (name, value) in &self.rows {
            table.add_row([name, value]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("\n{table}\n\nAll of it held, in {:.0} s.", self.started.elapsed().as_secs_f64());
    }
}

/// A time in the unit that suits it.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

/// Bytes a second.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    format!("{}/s", disk::Bytes((bytes as f64 / time.as_secs_f64().max(1e-9)) as u64))
}
