//! Everything that can go wrong below and between the two programs, for real.
//!
//! A peer whose certificate is another's or another authority's is tried in the tests of `daemon`.

mod assigned;
mod clock;
mod cut_connection;
mod failing_disk;
mod kill;
mod quiesced;
mod retention_full;
mod retention_lost;
mod taken_item;
mod two_sources;
