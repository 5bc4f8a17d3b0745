//! What a failback measured.

use std::fmt;
use std::time::Duration;

/// Figures of one trial.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Transactions that were committed meanwhile, without those of pgbench.
    pub transactions: usize,
    /// Results that were looked at.
    pub judged: usize,
    /// How long each failover command took.
    pub commands: Vec<Duration>,
    /// From the order of the unplanned failover until PostgreSQL accepted connections on its result.
    pub rto: Duration,
    /// Age of the newest transaction in it when the source was killed.
    pub rpo: Duration,
    /// The whole trial.
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.commands.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{} transactions, {} results right; RTO {:.2} s, of it failover and commit at most {:.2} s; RPO {:.2} s; took {:.0} s",
            self.transactions,
            self.judged,
            self.rto.as_secs_f64(),
            longest.as_secs_f64(),
            self.rpo.as_secs_f64(),
            self.took.as_secs_f64()
        )
    }
}
