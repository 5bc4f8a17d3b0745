//! The source agent against a target that is an oracle: in a simulation, and as a process.

mod bookmarks;
#[path = "../../../daemon/tests/daemon/configuration_server.rs"]
mod configuration_server;
mod process;
mod registration;
mod server_link;
mod simulation;
mod splitter;
mod support;
mod systemd;
mod waiting;
