//! A real database on disks that the source agent's splitter serves, failed over while it works.
//!
//! A `Machine` is what is protected: PostgreSQL on ext4, on one disk or with its write-ahead log on a second one. Each
//! disk is an NBD export, seen through nbdfuse and a loop device ([`BlockDevice`]). The same `Machine` is booted on what
//! comes out of a failover: on the exports of a test failover, or on the VMDKs themselves. `Work` is pgbench, and
//! clients that insert one numbered row in each transaction. The `Ledger` knows, outside of the database, when each of
//! these was begun, and when its commit returned.
//!
//! What is demanded of each result (`judge`):
//! - PostgreSQL starts on it, by crash recovery alone, and pg_amcheck finds nothing;
//! - every transaction whose commit had returned before the recovery point is there, and none that was begun after it;
//! - whatever had been committed before something that is there was begun, is there too: the order of writes holds,
//!   within a disk and across disks, whatever the recovery point says of its time;
//! - the balances of pgbench add up.
//!
//! [`Trial`] is the story of one such failback, driven by a seed.

mod block_device;
mod clock;
mod judge;
mod ledger;
mod machine;
mod outcome;
mod postgres;
mod trial;
mod work;

pub use block_device::BlockDevice;
pub use machine::Layout;
pub use outcome::Outcome;
pub use trial::Trial;

use clock::Clock;
use judge::{judge, ledger_of};
use ledger::{Bounds, Ledger};
use machine::Machine;
use postgres::Postgres;
use work::Work;
