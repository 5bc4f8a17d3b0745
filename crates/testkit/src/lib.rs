//! What tests share: storage that loses power, randomness that a seed repeats, and programs that stand in for others.
//!
//! [`SimFolder`] is a folder in memory that keeps apart what was written and what is durable. Its
//! [`SimFolder::crash`] cuts the power: of every file, each 512-byte sector written since the last sync survives
//! or not as the seed decides, so a write may be lost, torn, or overtaken by a later one; names that were created,
//! renamed or removed since the folder's last sync may go back to what they were. [`SimFolder::power`] counts
//! every write and sync, and can be told to cut the power at the n-th of them: after that each call fails, until
//! `crash` gives the medium as the next start finds it. A test can so enumerate every crash of a scripted run.
//!
//! [`Rng`] is a small generator with a printable seed, [`program`] makes a script that can be run at once. Nothing in the product depends on this crate.

mod program;
mod rng;
mod storage;

pub use program::program;
pub use rng::Rng;
pub use storage::{Power, SimFile, SimFolder};
