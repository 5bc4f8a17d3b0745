//! The daemon as a whole: as processes, and with items that fail.

mod configuration_server;
mod end_to_end;
mod isolation;
mod items;
mod logs;
mod registration;
mod retention;
mod retention_space;
mod server_link;
mod source;
mod support_bundle;
