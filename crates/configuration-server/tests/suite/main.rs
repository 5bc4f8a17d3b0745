//! A configuration server and the hosts that register with it, over real sockets.

mod agents;
mod backup;
mod beating;
mod errors;
mod in_between;
mod killed;
mod life;
mod meddling;
mod notify;
mod people;
mod program;
mod rest;
mod secrets;
mod support;
