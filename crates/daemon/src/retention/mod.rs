//! The retention volume as a whole: what no item can see alone.
//!
//! Each item prunes its own journal by time and within a limit. Whether all of them together fit onto the volume is the
//! business of the `steward`: once a second it looks how much room there is, decides who gives up how much (`shares`),
//! measures how fast each journal grows (`rate`), reckons where that leads (`forecast`), and tells people (`words`).
//! The arithmetic is in plain functions; only the steward itself knows files, tasks and the clock.

mod forecast;
mod rate;
mod shares;
#[cfg(test)]
mod simulation;
mod steward;
mod words;

pub(crate) use shares::Allowance;
pub(crate) use steward::{ItemReport, Report, journal_on_disk, run};
