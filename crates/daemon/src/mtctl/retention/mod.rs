//! `mtctl retention`: the retention volume as this machine has it. None of it needs the daemon.

pub(super) mod prepare;
mod text;
