//! Whatever the file holds, only our line changes.

use super::*;
use crate::Error;
use block_device::System;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "36000c29a0123456789abcdef01234567";
const OURS: &str = "/dev/mapper/36000c29a0123456789abcdef01234567 /mnt/retention ext4 \
                    rw,nofail,errors=remount-ro,x-systemd.requires=multipathd.service,x-systemd.device-timeout=60s 0 2";

fn wanted() -> Wanted {
    Wanted { device: format!("/dev/mapper/{ID}"), place: "/mnt/retention".into() }
}

/// `/dev/sdb`, and the map by its alias.
fn is_ours(device: &str) -> bool {
    ["/dev/sdb", "/dev/mapper/data", "UUID=ours"].contains(&device)
}

fn plan(text: &str) -> Result<Edit, Conflict> {
    Fstab::new(text).plan(&wanted(), &is_ours)
}

fn after(text: &str) -> String {
    String::from_utf8(plan(text).unwrap().after).unwrap()
}

#[test]
fn entries_are_read() {
    let text = "# c\n/dev/sda1 / ext4\n\n \t/dev/my\\040disk\t/mnt/retention/ ext4 rw,nofail 0 2\r\nx\n\
                a /b xfs # noted\n";
    let entries = Fstab::new(text).entries();
    let shown: Vec<_> = entries.iter().map(|entry| (entry.line, entry.device.as_str())).collect();
    assert_eq!(shown, [(2, "/dev/sda1"), (4, "/dev/my disk"), (6, "a")]);
    assert_eq!(entries[1].place, Path::new("/mnt/retention"));
    assert_eq!(entries[1].options, ["rw", "nofail"]);
    assert_eq!(entries[2].options, ["defaults"]);
    assert_eq!(Fstab::new(text).at(Path::new("/")).unwrap().kind, "ext4");
    assert_eq!(unescape(b"\\777 \\04 \\+12 \\"), "\\777 \\04 \\+12 \\");
}

#[test]
fn a_line_is_added_at_the_end_whatever_the_end_is() {
    for (before, expected) in [
        ("", format!("{OURS}\n")),
        ("/dev/sda1 / ext4 defaults 0 1", format!("/dev/sda1 / ext4 defaults 0 1\n{OURS}\n")),
        ("\tx\n\n# end\n", format!("\tx\n\n# end\n{OURS}\n")),
        ("/dev/sda1 / ext4 defaults 0 1\r\n", format!("/dev/sda1 / ext4 defaults 0 1\r\n{OURS}\r\n")),
    ] {
        assert_eq!(after(before), expected);
        assert!(!plan(&expected).unwrap().is_needed());
    }
    let odd = Wanted { place: "/mnt/a b#".into(), ..wanted() };
    let edit = Fstab::new("").plan(&odd, &is_ours).unwrap();
    assert_eq!(edit.after().at(Path::new("/mnt/a b#")).unwrap().device, odd.device);
}

#[test]
fn an_entry_by_another_name_is_moved_and_keeps_what_else_it_says() {
    let options =
        "nofail,errors=remount-ro,x-systemd.requires=multipathd.service,x-systemd.device-timeout=60s";
    for (before, expected) in [
        (
            "/dev/sdb\t/mnt/retention\text4\trw\t0 0 # old",
            format!("/dev/mapper/{ID}\t/mnt/retention\text4\trw,{options}\t0 0 # old"),
        ),
        ("UUID=ours /mnt/retention/ auto", format!("/dev/mapper/{ID} /mnt/retention/ ext4 rw,{options} 0 2")),
        (
            "/dev/mapper/data /mnt/retention ext4 defaults,noauto,noatime,errors=continue",
            format!(
                "/dev/mapper/{ID} /mnt/retention ext4 defaults,noatime,errors=continue,nofail,x-systemd.requires=multipathd.service,x-systemd.device-timeout=60s"
            ),
        ),
    ] {
        let file = |line: &str| format!("# one\r\n{line}\r\n\n/dev/sda1 / ext4");
        let edit = plan(&file(before)).unwrap();
        assert_eq!(String::from_utf8(edit.after.clone()).unwrap(), file(&expected));
        assert!(edit.moved_from().is_some());
        assert!(!plan(&file(&expected)).unwrap().is_needed());
    }
}

#[test]
fn an_entry_that_serves_stays_as_it_is() {
    for text in [
        format!("/dev/mapper/{ID} /mnt/retention ext4 rw,nofail 0 2\n"),
        format!("/dev/mapper/{ID}\t/mnt/retention/\text4\tnofail,data=journal"),
    ] {
        assert_eq!(after(&text), text);
    }
    assert!(after(&format!("/dev/mapper/{ID} /mnt/retention ext4 rw 0 2\n")).contains("rw,nofail,"));
    assert!(after(&format!("/dev/mapper/{ID} /mnt/retention ext4 ro,nofail 0 2\n")).contains(" nofail,rw,"));
}

/// libmount reads escapes in options, too: the first is `ro`, and the second has a comma.
#[test]
fn harm_that_is_written_in_escapes_is_seen() {
    let changed =
        after(&format!("/dev/mapper/{ID} /mnt/retention ext4 nofail,r\\157,a\\054noauto,b\\040c 0 2\n"));
    assert!(changed.contains(" ext4 nofail,a,b\\040c,rw,"), "{changed}");
}

#[test]
fn what_cannot_be_joined_is_a_conflict_with_its_line() {
    let conflict = |text: &str| plan(text).unwrap_err();
    let several = conflict("/dev/sdb /mnt/retention ext4\n\n/dev/sdb /mnt/retention/ ext4\n");
    assert!(matches!(&several, Conflict::Several { lines, .. } if lines == &[1, 3]), "{several}");
    let other = conflict("#\n/dev/sdc /mnt/retention ext4\n");
    assert!(matches!(other, Conflict::OtherDevice { line: 2, .. }), "{other}");
    for text in ["/dev/sdb /mnt/retention xfs\n", "/dev/sdb /mnt/retention\n"] {
        assert!(matches!(conflict(text), Conflict::OtherKind { line: 1, .. }));
    }
    for text in ["/dev/sdb /data ext4\n", "/dev/mapper/data none swap sw\n", &OURS.replace("/mnt/ret", "/x/")]
    {
        assert!(matches!(conflict(text), Conflict::UsedElsewhere { line: 1, .. }));
    }
    let below = conflict("server:/x /mnt/retention/x nfs\n");
    assert!(
        below.to_string().contains("line 1") && below.to_string().contains("/mnt/retention/x"),
        "{below}"
    );
}

#[test]
fn the_difference_is_what_diff_shows() {
    let edit = plan("a\nb\nc\n").unwrap();
    assert_eq!(
        edit.difference(),
        format!("--- /etc/fstab\n+++ /etc/fstab\n@@ -2,2 +2,3 @@\n b\n c\n+{OURS}\n")
    );
    let edit = plan("a\nb\nc\n/dev/sdb /mnt/retention ext4 nofail\nd\ne\nf\n").unwrap();
    let shown = edit.difference();
    let begins = "--- /etc/fstab\n+++ /etc/fstab\n@@ -2,5 +2,5 @@\n b\n c\n-/dev/sdb /mnt/retention ext4 nofail\n+/dev/mapper/";
    assert!(shown.starts_with(begins) && shown.ends_with("\n d\n e\n"), "{shown}");
    assert!(plan("").unwrap().difference().contains("@@ -0,0 +1,1 @@\n+/dev"));
    assert_eq!(plan(&format!("{OURS}\n")).unwrap().difference(), "");
}

/// The power failed between the backup and the edit, and in the middle of writing.
#[test]
fn what_a_run_that_was_cut_off_left_is_used_or_written_over() {
    let root = tempfile::tempdir().unwrap();
    let system = System::at(root.path());
    let etc = root.path().join("etc");
    fs::create_dir(&etc).unwrap();
    let before = "/dev/sda1 / ext4 defaults 0 1\n";
    fs::write(etc.join("fstab"), before).unwrap();
    fs::write(etc.join("fstab.before-master-target"), before).unwrap();
    fs::write(etc.join(".fstab.new"), "/dev/mapper/36000c29a0123 /mnt/ret").unwrap();
    fs::write(etc.join(".fstab.before-master-target.new"), "/dev/s").unwrap();
    let edit = Fstab::read(&system).unwrap().plan(&wanted(), &is_ours).unwrap();
    let backup = edit.write(&system).unwrap();
    assert_eq!(backup.as_deref(), Some(Path::new("/etc/fstab.before-master-target")));
    assert_eq!(fs::read_to_string(etc.join("fstab")).unwrap(), format!("{before}{OURS}\n"));
    assert_eq!(fs::read_to_string(etc.join("fstab.before-master-target")).unwrap(), before);
    assert!(!etc.join(".fstab.new").exists() && !etc.join("fstab.before-master-target.2").exists());
}

/// What a person may have put there that keeps the volume away, or what is written from the disk.
#[test]
fn options_that_harm_are_taken_out() {
    let harm = "noauto,ro,_netdev,x-systemd.automount,nobarrier,barrier=0";
    for option in harm.split(',') {
        let line = format!("/dev/mapper/{ID} /mnt/retention ext4 rw,nofail,{option},noatime 0 2\n");
        let edited = after(&line);
        let entry = Fstab::new(edited.as_str()).at(Path::new("/mnt/retention")).unwrap();
        assert!(!entry.has(option) && entry.has("noatime") && entry.has("nofail"), "{edited}");
        assert!(!plan(&edited).unwrap().is_needed());
    }
}

#[test]
fn writing_keeps_a_backup_and_refuses_a_file_that_changed() {
    let root = tempfile::tempdir().unwrap();
    let system = System::at(root.path());
    let path = |name: &str| root.path().join("etc").join(name);
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(path("fstab"), "# one\n").unwrap();
    fs::set_permissions(path("fstab"), fs::Permissions::from_mode(0o640)).unwrap();
    let edit = Fstab::read(&system).unwrap().plan(&wanted(), &is_ours).unwrap();
    fs::write(path("fstab"), "# two\n").unwrap();
    assert!(matches!(edit.write(&system).unwrap_err(), Error::FstabChanged));
    assert_eq!(read("fstab"), "# two\n");
    for (n, name) in ["fstab.before-master-target", "fstab.before-master-target.2"].iter().enumerate() {
        let old = format!("# {n}\n");
        fs::write(path("fstab"), &old).unwrap();
        let edit = Fstab::read(&system).unwrap().plan(&wanted(), &is_ours).unwrap();
        assert_eq!(edit.write(&system).unwrap().unwrap(), Path::new("/etc").join(name));
        assert_eq!((read("fstab"), read(name)), (format!("{old}{OURS}\n"), old));
        assert_eq!(fs::metadata(path("fstab")).unwrap().permissions().mode() & 0o777, 0o640);
    }
    let again = Fstab::read(&system).unwrap().plan(&wanted(), &is_ours).unwrap();
    assert_eq!(again.write(&system).unwrap(), None);
    fs::remove_file(path("fstab")).unwrap();
    let edit = Fstab::read(&system).unwrap().plan(&wanted(), &is_ours).unwrap();
    assert_eq!(edit.write(&system).unwrap(), None);
    assert_eq!(read("fstab"), format!("{OURS}\n"));
}

/// A field, a whole entry that may be ours, a comment, or anything.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let device =
        prop_oneof!["/dev/sd[a-c]", "/dev/mapper/data", "UUID=[a-z]{1,4}", Just(format!("/dev/mapper/{ID}"))];
    let place = prop_oneof!["/[a-z]{0,3}", Just("/mnt/retention".to_owned()), "/mnt/retention/{1,2}"];
    let kind = prop_oneof!["ext4", "auto", "xfs"];
    let rest = prop_oneof![
        "",
        "[ \t](ro|r\\\\157|rw|defaults|nofail|noauto|,|\\\\054|#x){1,4}",
        "[ \t]rw,nofail[ \t]0 2( # .{0,9})?"
    ];
    let gap = || "[ \t]{1,2}";
    let entry = ("[ \t]?", device, gap(), place, gap(), kind, rest)
        .prop_map(|(a, b, c, d, e, f, g)| format!("{a}{b}{c}{d}{e}{f}{g}").into_bytes());
    prop_oneof![
        2 => entry,
        1 => "#.{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>().prop_filter("a line has no newline", |b| *b != b'\n'), 0..30),
    ]
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n")];
    (prop::collection::vec((line(), end), 0..8), any::<bool>()).prop_map(|(lines, ends)| {
        let mut bytes: Vec<u8> =
            lines.into_iter().flat_map(|(line, end)| [line, end.as_bytes().to_vec()].concat()).collect();
        if !ends {
            bytes.pop();
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_of_other_lines_stays_and_a_second_edit_changes_nothing(bytes in file()) {
        let fstab = Fstab::new(bytes.clone());
        let Ok(edit) = fstab.plan(&wanted(), &is_ours) else { return Ok(()) };
        check(&bytes, &edit)?;
        let again = edit.after().plan(&wanted(), &is_ours).unwrap();
        prop_assert!(!again.is_needed());
    }

    #[test]
    fn what_is_escaped_is_read_again(text in any::<String>()) {
        prop_assert_eq!(unescape(escape(&text).as_bytes()), text.clone());
        let whole = format!("{}\t/x ext4", escape(&text));
        if !text.is_empty() {
            prop_assert_eq!(&Fstab::new(whole).entries()[0].device, &text);
        }
    }
}

/// Compares line by line, knowing nothing of how the edit was made.
fn check(before: &[u8], edit: &Edit) -> Result<(), TestCaseError> {
    let split = |bytes: &[u8]| -> Vec<Vec<u8>> { bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect() };
    let (old, new) = (split(before), split(&edit.after));
    let entries = edit.after().entries();
    let ours: Vec<_> = entries.iter().filter(|entry| entry.place == wanted().place).collect();
    prop_assert_eq!(ours.len(), 1);
    prop_assert_eq!(&ours[0].device, &wanted().device);
    prop_assert!(ours[0].has("nofail") && !ours[0].has("noauto") && ours[0].kind == "ext4");
    let at = ours[0].line - 1;
    let shown = edit.difference();
    prop_assert_eq!(shown.is_empty(), !edit.is_needed());
    if new.len() == old.len() && edit.moved_from().is_some() {
        for (n, (old, new)) in old.iter().zip(&new).enumerate().filter(|(n, _)| *n != at) {
            prop_assert_eq!(old, new, "line {}", n + 1);
        }
    } else if edit.is_needed() {
        prop_assert!(edit.after.starts_with(before));
    } else {
        prop_assert_eq!(before, &edit.after[..]);
    }
    Ok(())
}

#[test]
fn an_entry_tells_its_node() {
    let fstab = Fstab::new(
        "/dev/mapper/3600 /mnt/a ext4 rw 0 2\nUUID=\"5f9d\" /mnt/b ext4\nhost:/x /mnt/c nfs\nLABEL=l /mnt/d ext4\n",
    );
    let node = |place: &str| fstab.at(Path::new(place)).unwrap().node();
    assert_eq!(node("/mnt/a"), Some(PathBuf::from("/dev/mapper/3600")));
    assert_eq!(node("/mnt/b"), Some(PathBuf::from("/dev/disk/by-uuid/5f9d")));
    assert_eq!(node("/mnt/c"), None);
    assert_eq!(node("/mnt/d"), Some(PathBuf::from("/dev/disk/by-label/l")));
}
