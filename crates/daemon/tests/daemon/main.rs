//! The daemon as a whole: as processes, and with items that fail.

mod end_to_end;
mod isolation;
mod registration;
mod source;
