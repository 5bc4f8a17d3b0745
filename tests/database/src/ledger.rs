//! What is known, outside of the database, of the transactions in it.

use crate::Clock;
use anyhow::{Result, ensure};
use control_api::time::{self, Time};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A client, and the number of one of its transactions.
pub(crate) type Key = (usize, usize);

/// Which transactions a recovery point must have, and which it must not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// All whose commit returned before this.
    pub(crate) all_before: Time,
    /// None that was begun after this.
    pub(crate) none_after: Time,
}

impl Bounds {
    /// Of a point that is exactly this moment.
    pub(crate) fn at(moment: Time) -> Bounds {
        Bounds { all_before: moment, none_after: moment }
    }
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    /// Before it was sent.
    begun: Time,
    /// After its commit had returned; never, when the database went away first.
    committed: Option<Time>,
}

/// When each transaction was begun and committed.
pub(crate) struct Ledger {
    clock: Clock,
    clients: Mutex<Vec<Vec<Transaction>>>,
}

impl Ledger {
    /// No transactions yet.
    pub(crate) fn new(clock: Clock, clients: usize) -> Ledger {
        Ledger { clock, clients: Mutex::new(vec![Vec::new(); clients]) }
    }

    /// The clock that it goes by.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A client is about to send its next transaction; gives its number. None is given twice.
    pub(crate) fn begin(&self, client: usize) -> usize {
        let mut clients = self.clients();
        let transactions = &mut clients[client];
        transactions.push(Transaction { begun: self.clock.now(), committed: None });
        transactions.len() - 1
    }

    /// The commit has returned.
    pub(crate) fn committed(&self, (client, number): Key) {
        let now = self.clock.now();
        self.clients()[client][number].committed = Some(now);
    }

    /// How many have been committed.
    pub(crate) fn count(&self) -> usize {
        self.clients().iter().flatten().filter(|transaction| transaction.committed.is_some()).count()
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Vec<Transaction>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds those that a database has against what is demanded. Gives when the newest of them was committed.
    pub(crate) fn check(&self, present: &BTreeSet<Key>, bounds: Bounds) -> Result<Time> {
        let clients = self.clients();
        let (mut newest_begun, mut newest_committed) = (0, 0);
        for &(client, number) in present {
            let known = clients.get(client).and_then(|transactions| transactions.get(number));
            let Some(transaction) = known else { anyhow::bail!("{client}/{number} was never begun") };
            ensure!(
                transaction.begun <= bounds.none_after,
                "{client}/{number} is there, begun {} after the recovery point",
                later(bounds.none_after, transaction.begun)
            );
            newest_begun = newest_begun.max(transaction.begun);
            newest_committed = newest_committed.max(transaction.committed.unwrap_or(0));
        }
        let mut missing = Vec::new();
        for (client, transactions) in clients.iter().enumerate() {
            for (number, transaction) in transactions.iter().enumerate() {
                let Some(committed) = transaction.committed else { continue };
                if present.contains(&(client, number)) {
                    continue;
                }
                if committed < bounds.all_before {
                    let before = later(committed, bounds.all_before);
                    missing.push(format!("{client}/{number}, committed {before} before the recovery point"));
                } else if committed < newest_begun {
                    let before = later(committed, newest_begun);
                    missing.push(format!("{client}/{number}, committed {before} before one that is there"));
                }
            }
        }
        let first: Vec<&String> = missing.iter().take(5).collect();
        ensure!(
            missing.is_empty(),
            "of {} transactions, {} are there and {} are missing: {first:?}",
            clients.iter().map(Vec::len).sum::<usize>(),
            present.len(),
            missing.len()
        );
        Ok(newest_committed)
    }
}

fn later(from: Time, to: Time) -> String {
    time::format_duration(to.saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three transactions of one client, at 10 to 20, 30 to 40 and 50 to never.
    fn ledger() -> Ledger {
        let ledger = Ledger::new(Clock::start().unwrap(), 1);
        let transaction = |begun, committed| Transaction { begun, committed };
        ledger.clients()[0] =
            vec![transaction(10, Some(20)), transaction(30, Some(40)), transaction(50, None)];
        ledger
    }

    #[test]
    fn what_was_committed_must_be_there_and_what_was_begun_later_must_not() {
        let ledger = ledger();
        let check = |numbers: &[usize], moment| {
            ledger.check(&numbers.iter().map(|number| (0, *number)).collect(), Bounds::at(moment))
        };
        assert_eq!(check(&[0], 35).unwrap(), 20);
        assert_eq!(check(&[0, 1], 35).unwrap(), 40, "it may have been committed already");
        assert_eq!(check(&[0, 1, 2], 60).unwrap(), 40);
        let said = |numbers: &[usize], moment| check(numbers, moment).unwrap_err().to_string();
        assert!(said(&[], 35).contains("0/0, committed"));
        assert!(said(&[0, 1], 25).contains("0/1 is there, begun"));
        assert!(said(&[0, 3], 60).contains("0/3 was never begun"));
    }

    #[test]
    fn what_is_there_must_not_lack_what_came_before_it() {
        let loose = Bounds { all_before: 0, none_after: 100 };
        let said = ledger().check(&BTreeSet::from([(0, 1)]), loose).unwrap_err().to_string();
        assert!(said.contains("before one that is there"), "{said}");
    }
}
