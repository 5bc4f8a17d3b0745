//! The daemon's end of the local API.

mod calls;
mod server;

pub(crate) use calls::stopped;
pub(crate) use server::{bind, serve};
