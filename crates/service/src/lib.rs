//! What the daemons have in common as services of systemd: where their log goes and how it is looked into, what systemd is told
//! of them, and a certificate that stays valid.
//!
//! [`start_log`] is called once by each daemon. Under systemd every event goes to the journal as an entry with fields
//! ([`journal`]): what was said, how urgent it is, and the fields of the event and of all spans around it, so that
//! `journalctl ITEM=web01` finds what concerns one item. Elsewhere, and when the journal does not take an entry, it is a
//! line on the standard error. [`LogsArguments`] is the command `logs` of each program: it becomes `journalctl` with the
//! arguments that find the same.

mod entry;
mod identity;
pub mod journal;
mod log;
mod logs;
mod systemd;

pub use identity::keep_valid;
pub use log::{is_filter, start_log};
pub use logs::{LogsArguments, LogsError, Priority};
pub use sd_notify::NotifyState;
pub use systemd::{STATUS_EVERY, keep_informed, notify, pet_watchdog};
