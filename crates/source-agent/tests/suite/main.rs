//! The source agent against a target that is an oracle: in a simulation, and as a process.

mod nbd_client;
mod process;
mod registration;
mod simulation;
mod splitter;
mod support;
