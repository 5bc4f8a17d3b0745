//! Locks that our own processes and QEMU both understand.
//!
//! QEMU divides the use of an image into permissions. For each permission that it uses it takes a shared lock on the
//! byte 100 + permission, for each that it does not let others use one on the byte 200 + permission. Then it asks,
//! without taking them, whether exclusive locks would be granted on 200 + what it uses and on 100 + what it forbids:
//! somebody else's shared lock there is a conflict. Since all locks taken are shared, two openers that come at the
//! same moment may both be refused, but never both be let in.

use disk::Access;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::ops::Range;

/// Permission bits, as QEMU numbers them.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const WRITE_UNCHANGED: i64 = 2;
const RESIZE: i64 = 3;

const USED_BASE: i64 = 100;
const FORBIDDEN_BASE: i64 = 200;

const ALL: [i64; 4] = [CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE];

/// Why a lock was not had.
pub(crate) enum Refusal {
    /// Someone uses the file in a way that does not go together with ours; the process, where the kernel says it.
    Held(Option<i32>),
    /// The system call failed.
    Failed(Errno),
}

/// What an access uses, and what it forbids to everyone else.
fn permissions(access: Access) -> (&'static [i64], &'static [i64]) {
    match access {
        // A reader lets others rewrite what is there already (write-unchanged), as QEMU's readers do.
        Access::Read => (&[CONSISTENT_READ], &[WRITE, RESIZE]),
        Access::Write => (&ALL, &ALL),
    }
}

/// Locks `file` until it is closed.
pub(crate) fn take(file: &File, access: Access) -> Result<(), Refusal> {
    let (used, forbidden) = permissions(access);
    let bytes = |base, bits: &'static [i64]| bits.iter().map(move |bit| base + bit);
    for byte in bytes(USED_BASE, used).chain(bytes(FORBIDDEN_BASE, forbidden)) {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock(libc::F_RDLCK, byte..byte + 1))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Err(Refusal::Held(None)),
            Err(error) => return Err(Refusal::Failed(error)),
        }
    }
    for byte in bytes(FORBIDDEN_BASE, used).chain(bytes(USED_BASE, forbidden)) {
        let mut probe = lock(libc::F_WRLCK, byte..byte + 1);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)).map_err(Refusal::Failed)?;
        if probe.l_type != libc::F_UNLCK as i16 {
            // Locks of an open file description have no process: the kernel answers -1.
            return Err(Refusal::Held((probe.l_pid > 0).then_some(probe.l_pid)));
        }
    }
    Ok(())
}

/// Gives all locks back at once. Closing does it too, but only when a child that is just being started has closed
/// its copy as well.
pub(crate) fn release(file: &File) {
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK, USED_BASE..FORBIDDEN_BASE + 100)));
}

fn lock(kind: i32, bytes: Range<i64>) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: bytes.start,
        l_len: bytes.end - bytes.start,
        l_pid: 0,
    }
}
