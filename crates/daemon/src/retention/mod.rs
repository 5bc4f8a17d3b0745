//! The retention volume as a whole: what no item can see alone.
//!
//! Two tasks look after it. The *keeper* says whether it can be used. About once a second, and whenever an item asks, it
//! looks at the machine ([`retention_volume::Sight`]), decides what that means (`decision`, plain code) and publishes
//! a [`VolumeState`]. Items follow it: they are open only while the volume can be used. One that runs is closed when
//! that ends, idle or not, so that the volume can be unmounted; it is opened again, through crash recovery, when the
//! volume is back.
//!
//! ```text
//!            what is seen                        state           what is done
//! prepared, mounted, writable                    ready           items are open
//! nothing mounted                                not mounted     mounted, if fstab says so and its disk came late
//! never prepared, other id, other file system    not ours        a person has to say
//! mounted so that it can only be read            read-only       whoever did it undoes it
//! no path to its disk                            lost            waited for
//! the disk is back                               lost            unmounted, checked, mounted
//! stopped by the kernel, its disk never away     lost            a person has to look: it is damaged
//! ```
//!
//! What a person did is left alone. A volume that is unmounted while its disk is there stays unmounted, one that was made
//! read-only stays so, and what fstab does not name is never mounted here.
//!
//! While a volume is brought back its state is "lost", so no item opens; one that is still closing keeps it busy, and
//! the kernel refuses to unmount it until the item is done. So nothing is ever open across a remount.
//!
//! Each item prunes its own journal by time and within a limit. Whether all of them together fit onto the volume is the
//! business of the *steward*: once a second it looks how much room there is, decides who gives up how much (`shares`),
//! measures how fast each journal grows (`rate`), reckons where that leads (`forecast`), and tells people (`words`).
//! The arithmetic is in plain functions; only the steward itself knows files, tasks and the clock.

mod decision;
mod forecast;
mod keeper;
mod rate;
mod shares;
#[cfg(test)]
mod simulation;
mod steward;
mod volume;
mod words;

pub(crate) use keeper::start as keep;
pub(crate) use shares::Allowance;
pub(crate) use steward::{ItemReport, Report, journal_on_disk, run as share_out};
pub(crate) use volume::{Volume, VolumeState};
