//! Whatever a client says first to a process server is read or refused, and read the same however it arrives.

#![no_main]

use control_api::registration::valid_host_name;
use libfuzzer_sys::fuzz_target;
use process_server::hello::{MAX_HELLO, server_name};

fuzz_target!(|input: &[u8]| {
    let received = &input[..input.len().min(MAX_HELLO)];
    let found = server_name(received);
    if let Ok(Some(name)) = &found {
        assert!(valid_host_name(name) && !name.contains(|c: char| c.is_ascii_uppercase()));
    }
    // A name or an error that was there early stays.
    let half = server_name(&received[..received.len() / 2]);
    if half != Ok(None) {
        assert_eq!(half, found);
    }
});
