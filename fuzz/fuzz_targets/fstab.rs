//! Whatever stands in /etc/fstab, an edit keeps every byte but those of one line, and a second one changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retention_volume::fstab::{Fstab, Wanted, escape, unescape};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    assert_eq!(unescape(escape(&text).as_bytes()), text);
    let fstab = Fstab::new(input);
    let lines = input.split(|byte| *byte == b'\n').count();
    assert!(fstab.entries().len() <= lines);
    let wanted = Wanted { device: "/dev/mapper/3600".into(), place: "/r".into() };
    let is_ours = |device: &str| device.starts_with("/dev/sd");
    let Ok(edit) = fstab.plan(&wanted, &is_ours) else { return };
    let _ = edit.difference();
    let after = edit.after();
    let entry = after.at(&wanted.place).expect("the entry is there");
    assert!(entry.device == wanted.device && entry.kind == "ext4" && entry.has("nofail"));
    if edit.moved_from().is_none() {
        assert!(after.bytes().starts_with(input));
    } else {
        let changed = input.split(|byte| *byte == b'\n').zip(after.bytes().split(|byte| *byte == b'\n'));
        assert_eq!(changed.filter(|(before, after)| before != after).count(), 1);
    }
    assert!(!after.plan(&wanted, &is_ours).expect("it was planned before").is_needed());
});
