//! Noticing that disks came, went or changed.
//!
//! The kernel and udev announce such events on a netlink socket, each to a group of its own. Both are listened to:
//! udev's announcement comes when its links are made, the kernel's comes also where udev does not run. A message is
//! not believed, it only wakes: what is there is then read from sysfs. Where the socket cannot be had, and for
//! messages that got lost, the names and sizes of the devices in sysfs are compared every second.

use crate::system::System;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Groups of the netlink family: the kernel's messages, and udev's.
const GROUPS: u32 = 1 | 2;

/// How often sysfs is compared.
const COMPARED: Duration = Duration::from_secs(1);

/// A disk brings several events; so long without any they are taken for all.
const QUIET: Duration = Duration::from_millis(250);

/// Events that do not end are reported after so long.
const MOST_EVENTS: Duration = Duration::from_secs(2);

/// Longer than any message of the kernel or udev; what does not fit is cut off.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Waits for changes of the machine's block devices.
#[derive(Debug)]
pub struct Changes {
    system: System,
    socket: Option<OwnedFd>,
    seen: BTreeMap<String, Option<String>>,
}

impl Changes {
    /// From now on. Take it before the first look at the disks, and no change is missed.
    pub fn listen(system: &System) -> Changes {
        let socket = system.is_host().then(|| open_socket().ok()).flatten();
        Changes { system: system.clone(), socket, seen: names_and_sizes(system) }
    }

    /// Whether events come at once, and not only after a comparison.
    pub fn hears_events(&self) -> bool {
        self.socket.is_some()
    }

    /// True as soon as something changed, false after `longest`.
    pub fn wait(&mut self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let woken = self.event_within(left.min(COMPARED));
            if woken {
                self.settle();
            }
            let now = names_and_sizes(&self.system);
            let changed = std::mem::replace(&mut self.seen, now) != self.seen;
            if woken || changed {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    fn settle(&self) {
        let end = Instant::now() + MOST_EVENTS;
        while Instant::now() < end && self.event_within(QUIET) {}
    }

    /// Whether there was an event of a block device within this time. A socket that fails is a source of none.
    fn event_within(&self, longest: Duration) -> bool {
        let Some(socket) = &self.socket else {
            thread::sleep(longest);
            return false;
        };
        let end = Instant::now() + longest;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if Instant::now() >= end || timeout.is_none() => return false,
                // Less than a millisecond was left.
                Ok(0) => thread::sleep(left.min(Duration::from_millis(1))),
                Ok(_) => match receive(socket) {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(_) => thread::sleep(left.min(QUIET)),
                },
                Err(Errno::EINTR) => {}
                Err(_) => thread::sleep(left.min(QUIET)),
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }
}

fn open_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = SockProtocol::NetlinkKObjectUEvent;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, family)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

/// Takes one message; true when it is of a block device, or when messages were lost.
fn receive(socket: &OwnedFd) -> nix::Result<bool> {
    let mut buffer = [0; LONGEST_MESSAGE];
    match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(length) => Ok(is_of_block_device(&buffer[..length.min(LONGEST_MESSAGE)])),
        Err(Errno::ENOBUFS) => Ok(true),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Properties are strings that end with NUL, in both kinds of messages.
fn is_of_block_device(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).any(|property| property == b"SUBSYSTEM=block")
}

fn names_and_sizes(system: &System) -> BTreeMap<String, Option<String>> {
    let names = system.names("/sys/block").into_iter();
    names.map(|name| (name.clone(), system.attribute(format!("/sys/block/{name}/size")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_disk_that_comes_or_grows_wakes_without_events() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("sys/block/sda");
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        let mut changes = Changes::listen(&System::at(root.path()));
        assert!(!changes.hears_events());
        assert!(!changes.wait(Duration::from_millis(10)));
        fs::create_dir_all(&disk).unwrap();
        assert!(changes.wait(Duration::from_millis(10)));
        fs::write(disk.join("size"), "8").unwrap();
        assert!(changes.wait(Duration::from_millis(10)));
        assert!(!changes.wait(Duration::from_millis(10)));
        fs::remove_dir_all(&disk).unwrap();
        assert!(changes.wait(Duration::from_secs(10)));
    }

    #[test]
    fn only_block_devices_wake() {
        assert!(is_of_block_device(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=block\0"));
        assert!(is_of_block_device(b"libudev\0\xfe\xed\xca\xfe\0\0\0SUBSYSTEM=block\0"));
        assert!(!is_of_block_device(b"add@/devices/x\0SUBSYSTEM=net\0X=SUBSYSTEM=block\0"));
        assert!(!is_of_block_device(b""));
    }

    #[test]
    fn time_passes_while_nothing_happens() {
        let mut changes = Changes::listen(&System::host());
        let begun = Instant::now();
        // Others may attach loop devices at this moment: both answers are right.
        let _ = changes.wait(Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
