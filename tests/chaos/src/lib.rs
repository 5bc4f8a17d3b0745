//! What the tests of this package stand on: the real `mtd` and `mt-source`, a load on the protected disk that does not
//! stop while things break, and the means to break them.
//!
//! A [`Plan`] says how the two are run and can be changed before they are; a [`Site`] is them running. [`Load`] is fio,
//! writing to the disk through the splitter. [`Proxy`] is a bad network, [`Mount`] and [`FaultyDisk`] are bad storage.
//! Each test ends alike: the load stops, what was written arrives, and the replica equals the source byte for byte
//! with [`Site::finish`].

mod faulty_disk;
mod fuse_file;
mod load;
mod mount;
mod programs;
mod proxy;
mod random;
mod site;

pub use faulty_disk::FaultyDisk;
pub use fuse_file::FuseFile;
pub use load::Load;
pub use mount::Mount;
pub use programs::programs;
pub use proxy::Proxy;
pub use random::Random;
pub use site::{DISK, LONGEST, Plan, Site};

use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// False, loudly, where we are not root; a failure where runs must be complete.
pub fn is_root(what: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "{what} needs root");
        // Written past the test harness, which keeps back what passing tests print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {what}, which needs root");
    }
    root
}

/// A port of the loopback interface that nothing listens on.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
