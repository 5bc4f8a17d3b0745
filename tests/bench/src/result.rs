//! Figures, and what they must reach.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;

/// Which side of the limit is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Good {
    AtLeast,
    AtMost,
}

/// One figure.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) good: Good,
    /// What it has to reach, where anything.
    pub(crate) must: Option<f64>,
    pub(crate) aim: f64,
    /// Our figure and the peer's, in words.
    pub(crate) detail: String,
    /// Peak memory of mtd and mt-source meanwhile, in bytes.
    pub(crate) memory: Option<[u64; 2]>,
}

impl Measured {
    fn reaches(&self, limit: f64) -> bool {
        match self.good {
            Good::AtLeast => self.value >= limit,
            Good::AtMost => self.value <= limit,
        }
    }

    fn holds(&self) -> bool {
        self.must.is_none_or(|must| self.reaches(must))
    }
}

/// All figures of a run.
pub(crate) struct Results {
    machine: String,
    measured: Vec<Measured>,
}

impl Results {
    pub(crate) fn new(machine: String) -> Results {
        Results { machine, measured: Vec::new() }
    }

    pub(crate) fn add(&mut self, measured: Vec<Measured>) {
        self.measured.extend(measured);
    }

    /// The peak memory over all that was measured.
    pub(crate) fn add_memory(&mut self) {
        for (n, name) in ["peak-memory-mtd", "peak-memory-mt-source"].into_iter().enumerate() {
            let peak = self.measured.iter().filter_map(|m| m.memory.map(|memory| (memory[n], m.name))).max();
            if let Some((bytes, during)) = peak {
                self.measured.push(Measured {
                    name,
                    value: bytes as f64 / f64::from(1 << 20),
                    unit: "MiB",
                    good: Good::AtMost,
                    must: Some(256.0),
                    aim: 128.0,
                    detail: format!("during {during}"),
                    memory: None,
                });
            }
        }
    }

    pub(crate) fn all_hold(&self) -> bool {
        self.measured.iter().all(Measured::holds)
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["benchmark", "value", "must", "aim", "verdict", "detail"]);
        for m in &self.measured {
            let sign = if m.good == Good::AtLeast { "≥" } else { "≤" };
            let verdict = match (m.holds(), m.reaches(m.aim)) {
                (true, true) => "holds, aim reached",
                (true, false) => "holds",
                (false, _) => "DOES NOT HOLD",
            };
            table.add_row([
                m.name.to_owned(),
                format!("{:.3} {}", m.value, m.unit),
                m.must.map_or("–".to_owned(), |must| format!("{sign} {must}")),
                format!("{sign} {}", m.aim),
                verdict.to_owned(),
                m.detail.clone(),
            ]);
        }
        println!("{}\n{table}", self.machine);
    }

    pub(crate) fn json(&self) -> Result<String> {
        let results: Vec<_> = self
            .measured
            .iter()
            .map(|m| {
                json!({"name": m.name, "value": m.value, "unit": m.unit, "must": m.must, "aim": m.aim,
                       "holds": m.holds(), "detail": m.detail})
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({"machine": self.machine, "results": results}))?)
    }
}
