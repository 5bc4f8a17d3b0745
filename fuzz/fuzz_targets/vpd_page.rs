//! Whatever a disk tells of itself, an id that comes of it is safe as a file name.

#![no_main]

use block_device::ScsiId;
use block_device::fuzzing::{Page, id_of_page_83, id_of_serial, serial_of_page_80};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str, &str)| {
    let (page, vendor, model) = input;
    let safe = |id: &ScsiId| {
        assert_eq!(ScsiId::parse(id.as_str()).as_ref(), Some(id));
        assert!(!id.as_str().contains('/'));
        let _ = id.vmdk_uuid();
    };
    if let Page::Says(id) = id_of_page_83(page, vendor, model) {
        safe(&id);
    }
    if let Page::Says(serial) = serial_of_page_80(page) {
        assert!(serial.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        if let Some(id) = id_of_serial(&serial, vendor, model) {
            safe(&id);
        }
    }
});
