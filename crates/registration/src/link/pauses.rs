//! How long to wait before trying again.

use rand_core::{OsRng, RngCore};
use std::time::Duration;

/// The first pause is at most this long, each further one at most twice as long…
const FIRST: Duration = Duration::from_secs(2);
/// …up to this.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// The pause after so many failures in a row. `random` moves it between a quarter and the whole of what it may be, so
/// that hosts which lost their configuration server at one moment come back spread over minutes.
pub fn pause(failures: u32, random: u64) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    spread(FIRST.saturating_mul(doubled).min(LONGEST), 0.25, random)
}

/// The pause until the next heartbeat: never longer than the interval, and a little shorter by chance, so that hosts
/// which started together do not stay together.
pub(super) fn until_next(interval: Duration, random: u64) -> Duration {
    spread(interval, 0.9, random)
}

fn spread(longest: Duration, least: f64, random: u64) -> Duration {
    let share = random as f64 / u64::MAX as f64;
    longest.mul_f64(least + (1.0 - least) * share)
}

/// Chance; where the machine has none, none.
pub(super) fn chance() -> u64 {
    let mut bytes = [0; 8];
    let _ = OsRng.try_fill_bytes(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    #[test]
    fn pauses_grow_and_end_at_five_minutes() {
        for (failures, longest) in [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (33, 300), (u32::MAX, 300)] {
            assert_eq!(pause(failures, u64::MAX), Duration::from_secs(longest), "{failures}");
            assert_eq!(pause(failures, 0), Duration::from_secs(longest) / 4, "{failures}");
        }
        assert_eq!(until_next(Duration::from_secs(30), u64::MAX), Duration::from_secs(30));
        assert_eq!(until_next(Duration::from_secs(30), 0), Duration::from_secs(27));
    }

    /// 500 hosts lose the server at one moment, and it is away for three hours.
    #[test]
    fn hosts_come_back_spread_over_minutes() {
        let seed = 0x5eed_0011;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        let (away, mut back) = (Duration::from_secs(3 * 3600), Vec::new());
        let mut attempts = 0;
        for _ in 0..500 {
            let (mut time, mut failures) = (Duration::ZERO, 0);
            while time < away {
                failures += 1;
                attempts += 1;
                time += pause(failures, rng.next_u64());
            }
            back.push((time - away).as_secs());
        }
        assert!(back.iter().all(|seconds| *seconds <= 300), "all are back after five minutes");
        let busiest = (0..300).map(|second| back.iter().filter(|at| **at == second).count()).max().unwrap();
        assert!(busiest <= 12, "{busiest} hosts in one second");
        let in_a_second = f64::from(attempts) / away.as_secs_f64();
        assert!(in_a_second < 3.5, "{in_a_second} attempts in a second while it is away");
    }
}
