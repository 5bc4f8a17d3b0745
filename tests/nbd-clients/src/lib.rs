//! A server to try NBD clients on, and the clients.
//!
//! The clients are the ones that everybody uses: libnbd's `nbdinfo`, `nbdcopy` and `nbdsh`, QEMU's `qemu-img` and
//! `qemu-io`, and fio's nbd engine. [`Server`] runs ours in the test's own process, over real sockets; [`run`] calls
//! a client and fails the test with all that it said. A tool that is missing fails the test too, and names its
//! package.

mod server;
mod tools;

pub use server::{Server, Transport, pattern, sparse_file, write_identity};
pub use tools::{Finished, nbdsh, run, try_run};
