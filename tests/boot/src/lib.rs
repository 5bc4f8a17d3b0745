//! A guest whose disk QEMU writes through the splitter while it runs, and that boots from what comes out of a failover.
//!
//! The guest is a program of 512 bytes, a boot sector that counts (`guest.s`): it boots in a second, without hardware
//! acceleration, root or a network, and knows better than any operating system whether its disk is at a moment that
//! there has been. Each number is in a record before it is in the head, and on the disk before it is said on the serial
//! line; so whoever listens knows what must be there. It is loaded from the disk by a firmware that knows nothing of us,
//! and goes on counting where it finds itself.

mod guest;

pub use guest::{Guest, install};
