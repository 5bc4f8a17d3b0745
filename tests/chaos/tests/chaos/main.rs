//! Everything that can go wrong below and between the two programs, for real.
//!
//! A peer whose certificate is another's or another authority's is tried in the tests of `daemon`.

mod clock;
mod cut_connection;
mod failing_disk;
mod kill;
mod retention_full;
mod retention_lost;
mod two_sources;
