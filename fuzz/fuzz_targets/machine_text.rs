//! Whatever the kernel, udev and programs print, it is taken or left out.

#![no_main]

use block_device::fuzzing;
use block_device::inventory::DeviceNumber;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let lines = text.lines().count();
    assert!(block_device::mounts::parse(&text).len() <= lines);
    assert!(fuzzing::swaps(&text).len() <= lines);
    assert!(fuzzing::fstab(&text).len() <= lines);
    assert!(fuzzing::linear_starts(&text).len() <= lines);
    assert!(fuzzing::open_counts(&text).len() <= lines);
    assert!(fuzzing::udev_properties(&text).len() <= lines);
    assert!(fuzzing::unescape(&text).len() <= text.len() * 3);
    let _ = DeviceNumber::parse(&text);
});
