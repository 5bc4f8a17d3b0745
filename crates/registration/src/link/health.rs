//! How the machine is.

use control_api::agent::Health;
use control_api::time::Time;
use std::sync::{Mutex, PoisonError};
use sysinfo::{MemoryRefreshKind, System};

/// Looks at processors and memory; what was busy is measured from one look to the next.
pub struct HealthMeter {
    started: Time,
    system: Mutex<Option<System>>,
}

impl HealthMeter {
    /// Of a daemon that started then.
    pub fn new(started: Time) -> HealthMeter {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        HealthMeter { started, system: Mutex::new(system) }
    }

    /// How the machine is now. What it does not tell is 0.
    pub fn read(&self) -> Health {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let mut health = Health {
            started: self.started,
            uptime_seconds: System::uptime().unwrap_or_default(),
            processors: 0,
            busy_percent: 0.0,
            load: System::load_average()
                .map_or([0.0; 3], |load| [load.one, load.five, load.fifteen].map(tidy)),
            memory_bytes: 0,
            memory_used_bytes: 0,
        };
        if let Some(system) = system.as_mut() {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            health.processors = u32::try_from(system.cpus().len()).unwrap_or(u32::MAX);
            health.busy_percent = tidy(f64::from(system.global_cpu_usage())).min(100.0);
            health.memory_bytes = system.total_memory();
            health.memory_used_bytes = system.used_memory();
        }
        health
    }
}

/// JSON has no infinity, and two decimals are enough.
fn tidy(value: f64) -> f64 {
    if value.is_finite() { (value.max(0.0) * 100.0).round() / 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_machine_that_works_is_seen_to_be_busy() {
        let meter = HealthMeter::new(7);
        let begun = Instant::now();
        let mut sum = 0u64;
        while begun.elapsed() < Duration::from_millis(500) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let health = meter.read();
        assert!(
            health.started == 7 && health.uptime_seconds > 0 && health.processors > 0,
            "{health:?} {sum}"
        );
        assert!(health.busy_percent > 0.0 && health.busy_percent <= 100.0, "{health:?}");
        assert!(0 < health.memory_used_bytes && health.memory_used_bytes < health.memory_bytes, "{health:?}");
        assert_eq!((tidy(f64::NAN), tidy(-1.0), tidy(1.239)), (0.0, 0.0, 1.24));
    }
}
