//! Registration by the real programs.

mod errors;
mod guide;
mod in_between;
mod life;
mod people;
mod table;
