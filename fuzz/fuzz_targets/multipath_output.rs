//! What multipath, multipathd and an administrator's multipath.conf may say: paths, maps and settings, or nothing.
//!
//! Whatever is read as a name is a safe one: it is shown, and used as a part of paths in sysfs.

#![no_main]

use block_device::multipath::{count_settings, parse_paths, parse_topology};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let lines = text.lines().count();
    assert!(count_settings(&text) <= lines);
    let paths = parse_paths(&text);
    let maps = parse_topology(&text);
    assert!(paths.len() <= lines && maps.iter().map(|map| 1 + map.paths.len()).sum::<usize>() <= lines);
    for path in paths.iter().chain(maps.iter().flat_map(|map| &map.paths)) {
        assert!(!path.device.contains(['/', '.', '\0', ' ']) && path.device.len() <= 64);
    }
});
