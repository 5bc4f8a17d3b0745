//! What a SCSI disk tells of its identity: vital product data, pages 0x83 and 0x80.
//!
//! The kernel hands both pages out as they came from the disk, in `vpd_pg83` and `vpd_pg80` below the SCSI device
//! (since Linux 3.15; the finished `wwid` attribute is newer than 4.4 and is not used). The id that is made of them
//! is the one of `scsi_id --whitelisted`, by which udev and multipath call the disk: a digit for the kind of the
//! designator, then the designator in hexadecimal or as text, each run of blanks as one underscore, and each other byte
//! that udev does not keep as one too.
//!
//! Page 0x83 (SPC-4, 7.8.6): byte 1 is 0x83, bytes 2 and 3 the length of the designators that follow byte 4. Each has
//! the code set in bits 0–3 of byte 0 (1 binary, 2 ASCII), its type in bits 0–3 of byte 1 (0 vendor specific, 1 T10
//! vendor, 2 EUI-64, 3 NAA), what it names in bits 4–5 of byte 1 (0 the logical unit), and its length in byte 3.
//! Page 0x80 (7.8.16): byte 1 is 0x80, byte 3 (or bytes 2 and 3) the length of the serial number after byte 4.
//!
//! Of several designators the best is taken, in the order of `scsi_id`: NAA 6, NAA 5, another NAA, EUI-64, T10
//! vendor, vendor specific; binary before ASCII; then the first. Like `scsi_id` it does not ask whether the length
//! suits the kind of NAA, since virtual disks exist whose NAA 6 has 8 bytes. Stricter than `scsi_id`, a page with a
//! length that leads out of it is not used at all, and neither is a designator of zeroes, ones or blanks only, nor a
//! text without a letter or digit: two disks would get one name. Letters beyond ASCII, which udev keeps, are none of
//! an id here, so such a text is not used either.

use crate::scsi_id::ScsiId;

/// Bytes before the designators, or before the serial number.
const HEADER: usize = 4;

/// Widths of the fields in which a disk tells its vendor and model; `scsi_id` keeps the padding between them.
const VENDOR: usize = 8;
const MODEL: usize = 16;

/// What a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page<T> {
    /// Nothing: it is missing, or has no entry for this purpose.
    Silent,
    /// This.
    Says(T),
    /// It is there, and cannot be used.
    Garbled,
}

/// The SCSI id in page 0x83.
pub fn id_of_page_83(page: &[u8], vendor: &str, model: &str) -> Page<ScsiId> {
    let Some(mut rest) = body(page, 0x83) else { return Page::Garbled };
    let mut best: Option<(u8, ScsiId)> = None;
    let mut unusable = false;
    while !rest.is_empty() {
        let Some((designator, after)) = split_designator(rest) else { return Page::Garbled };
        rest = after;
        let Some(rank) = designator.rank() else { continue };
        match designator.id(vendor, model) {
            Some(id) if best.as_ref().is_none_or(|(other, _)| rank < *other) => best = Some((rank, id)),
            Some(_) => {}
            None => unusable = true,
        }
    }
    match best {
        Some((_, id)) => Page::Says(id),
        None if unusable => Page::Garbled,
        None => Page::Silent,
    }
}

/// The serial number in page 0x80.
pub fn serial_of_page_80(page: &[u8]) -> Page<String> {
    let Some(serial) = body(page, 0x80) else { return Page::Garbled };
    let serial = until_nul(serial);
    match printable(serial) {
        Some(text) if text.trim().is_empty() => Page::Silent,
        Some(text) => Page::Says(text.trim().to_owned()),
        None => Page::Garbled,
    }
}

/// The id that `scsi_id` makes of a serial number when page 0x83 has none: `S`, vendor, model and the number.
pub fn id_of_serial(serial: &str, vendor: &str, model: &str) -> Option<ScsiId> {
    let meaningless = serial.bytes().all(|byte| byte == b'0' || byte == b' ');
    if meaningless { None } else { named('S', &format!("{}{serial}", padded(vendor, model))) }
}

/// What follows the header of a page, as long as the page says; empty for a missing page; `None` when the header is
/// another page's, or promises more than there is.
fn body(page: &[u8], code: u8) -> Option<&[u8]> {
    let Some((header, rest)) = page.split_at_checked(HEADER) else {
        return page.is_empty().then_some(page);
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    (header[1] == code).then_some(())?;
    rest.get(..length)
}

struct Designator<'a> {
    code_set: u8,
    association: u8,
    kind: u8,
    bytes: &'a [u8],
}

fn split_designator(bytes: &[u8]) -> Option<(Designator<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (bytes, rest) = rest.split_at_checked(usize::from(header[3]))?;
    let designator = Designator {
        code_set: header[0] & 0x0f,
        association: (header[1] >> 4) & 0x03,
        kind: header[1] & 0x0f,
        bytes,
    };
    Some((designator, rest))
}

impl Designator<'_> {
    const BINARY: u8 = 1;
    const ASCII: u8 = 2;

    /// Its place in the order of preference; `None` for what names no logical unit, or is of no use as a name.
    fn rank(&self) -> Option<u8> {
        let naa = self.bytes.first().map(|first| first >> 4);
        let kind = match (self.kind, naa) {
            (3, Some(6)) => 0,
            (3, Some(5)) => 1,
            (3, _) => 2,
            (2, _) => 3,
            (1, _) => 4,
            (0, _) => 5,
            _ => return None,
        };
        let named = self.association == 0 && (Self::BINARY..=Self::ASCII).contains(&self.code_set);
        named.then(|| kind * 2 + (self.code_set - Self::BINARY))
    }

    fn id(&self, vendor: &str, model: &str) -> Option<ScsiId> {
        let kind = char::from(b'0' + self.kind);
        // A vendor's own designator is unique among its disks of one model only.
        let before = if self.kind == 0 { padded(vendor, model) } else { String::new() };
        if self.code_set == Self::ASCII {
            let text = replaced(until_nul(self.bytes))?;
            return named(kind, &format!("{before}{text}"));
        }
        let says_something = |empty: u8| self.bytes.iter().any(|byte| *byte != empty);
        let digits: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (says_something(0) && says_something(0xff)).then(|| named(kind, &format!("{before}{digits}")))?
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()).then_some(text)
}

/// The text with an underscore for each byte that udev replaces; `None` when it names nothing.
fn replaced(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let byte = u8::try_from(letter).ok().filter(u8::is_ascii)?;
            let stays = ScsiId::has(byte) || byte.is_ascii_whitespace();
            text.push(if stays { letter } else { '_' });
        }
        text.extend(chunk.invalid().iter().map(|_| '_'));
    }
    text.contains(|c: char| c.is_ascii_alphanumeric()).then_some(text)
}

fn padded(vendor: &str, model: &str) -> String {
    format!("{:<VENDOR$}{:<MODEL$}", vendor.trim(), model.trim())
}

/// Blanks at the end are left out, runs of others are one underscore, as udev does with `ID_SERIAL`.
fn named(kind: char, text: &str) -> Option<ScsiId> {
    let whole = replaced(format!("{kind}{text}").as_bytes())?;
    ScsiId::parse(&whole.split_ascii_whitespace().collect::<Vec<_>>().join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A VMware disk with disk.EnableUUID: one NAA designator with the 16 bytes of its VMDK's `ddb.uuid`.
    const VMWARE: &[u8] = &[
        0x00, 0x83, 0x00, 0x14, 0x01, 0x03, 0x00, 0x10, 0x60, 0x00, 0xc2, 0x9a, 0x01, 0x23, 0x45, 0x67, 0x89,
        0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67,
    ];

    /// A QEMU disk with serial=RET01 and wwn=0x6000c29000000001, as a guest's sysfs shows it: vendor specific text,
    /// then NAA 6 in 8 bytes.
    const QEMU: &[u8] = &[
        0x00, 0x83, 0x00, 0x15, 0x02, 0x00, 0x00, 0x05, b'R', b'E', b'T', b'0', b'1', 0x01, 0x03, 0x00, 0x08,
        0x60, 0x00, 0xc2, 0x90, 0x00, 0x00, 0x00, 0x01,
    ];

    /// The same without a wwn.
    const QEMU_WITHOUT_WWN: &[u8] =
        &[0x00, 0x83, 0x00, 0x09, 0x02, 0x00, 0x00, 0x05, b'R', b'E', b'T', b'0', b'1'];

    fn id(page: &[u8]) -> Page<String> {
        match id_of_page_83(page, "QEMU", "QEMU HARDDISK") {
            Page::Says(id) => Page::Says(id.to_string()),
            Page::Silent => Page::Silent,
            Page::Garbled => Page::Garbled,
        }
    }

    fn says(id: &str) -> Page<String> {
        Page::Says(id.to_owned())
    }

    fn page(designators: &[u8]) -> Vec<u8> {
        let length = u16::try_from(designators.len()).unwrap().to_be_bytes();
        [&[0, 0x83, length[0], length[1]], designators].concat()
    }

    #[test]
    fn golden_pages_give_the_ids_that_scsi_id_prints() {
        assert_eq!(id(VMWARE), says("36000c29a0123456789abcdef01234567"));
        assert_eq!(id(QEMU), says("36000c29000000001"));
        assert_eq!(id(QEMU_WITHOUT_WWN), says("0QEMU_QEMU_HARDDISK_RET01"));
    }

    #[test]
    fn the_best_designator_is_taken_wherever_it_stands() {
        let t10 = [&[2, 1, 0, 20], b"ATA     Disk  SN0001".as_slice()].concat();
        let eui = [1, 2, 0, 8, 0, 0x25, 0x38, 0, 0, 0, 0, 7];
        let naa5 = [1, 3, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 9];
        let naa2 = [1, 3, 0, 8, 0x20, 0, 0, 0, 0, 0, 0, 9];
        let port = [0x61, 0x93, 0, 8, 0x60, 0, 0, 0, 0, 0, 0, 1];
        let of = |parts: &[&[u8]]| id(&page(&parts.concat()));
        assert_eq!(of(&[&t10]), says("1ATA_Disk_SN0001"));
        assert_eq!(of(&[&t10, &eui]), says("20025380000000007"));
        assert_eq!(of(&[&eui, &naa2, &naa5]), says("35000000000000009"));
        assert_eq!(of(&[&port, &t10]), says("1ATA_Disk_SN0001"));
        assert_eq!(of(&[&port]), Page::Silent);
    }

    #[test]
    fn pages_that_lie_are_not_used() {
        for cut in 1..VMWARE.len() {
            assert_eq!(id(&VMWARE[..cut]), Page::Garbled, "{cut} bytes");
        }
        let mut longer = VMWARE.to_vec();
        longer[7] = 0x11;
        assert_eq!(id(&longer), Page::Garbled);
        let mut other = VMWARE.to_vec();
        other[1] = 0x80;
        assert_eq!(id(&other), Page::Garbled);
        assert_eq!(id(&[]), Page::Silent);
        assert_eq!(id(&[0, 0x83, 0, 0]), Page::Silent);
    }

    #[test]
    fn designators_that_name_nothing_are_not_used() {
        for (header, text) in [
            ([1, 3, 0, 8], [0; 8].as_slice()),
            ([1, 3, 0, 8], &[0xff; 8]),
            ([2, 1, 0, 8], b"        "),
            ([2, 1, 0, 4], b"/;()"),
            ([2, 1, 0, 4], b"a\xc3\xa9b"),
            ([1, 3, 0, 0], b""),
        ] {
            assert_eq!(id(&page(&[&header, text].concat())), Page::Garbled, "{header:?} {text:x?}");
        }
    }

    #[test]
    fn bytes_that_udev_does_not_keep_are_underscores() {
        assert_eq!(id(&page(b"\x02\x01\0\x0fACME  (a/b) ;#1")), says("1ACME__a_b___#1"));
        assert_eq!(id(&page(b"\x02\x01\0\x04a\x1b\xffm")), says("1a__m"));
        assert_eq!(id_of_serial("A/1", "ACME+", "R&D").unwrap().as_str(), "SACME+_R_D_A_1");
    }

    #[test]
    fn a_serial_number_names_a_disk_that_has_nothing_better() {
        let serial = serial_of_page_80(&[0, 0x80, 0, 6, b' ', b'R', b'E', b'T', b'1', 0]);
        assert_eq!(serial, Page::Says("RET1".into()));
        let id = id_of_serial("RET1", "QEMU", "QEMU HARDDISK").unwrap();
        assert_eq!(id.as_str(), "SQEMU_QEMU_HARDDISK_RET1");
        assert_eq!(serial_of_page_80(&[0, 0x80, 0, 2, b' ', b' ']), Page::Silent);
        assert_eq!(serial_of_page_80(&[0, 0x80, 0, 9, b'1']), Page::Garbled);
        assert_eq!(id_of_serial("0000", "VMware", "Virtual disk"), None);
    }

    proptest! {
        #[test]
        fn hostile_pages_never_panic_and_ids_are_safe_names(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            patches in prop::collection::vec((0usize..25, any::<u8>()), 0..4),
        ) {
            let mut patched = QEMU.to_vec();
            for (at, byte) in patches {
                patched[at % QEMU.len()] = byte;
            }
            for page in [&bytes, &patched] {
                if let Page::Says(id) = id_of_page_83(page, "a/b\u{7}", "../..") {
                    prop_assert!(ScsiId::parse(id.as_str()).is_some());
                }
                if let Page::Says(serial) = serial_of_page_80(page) {
                    prop_assert!(serial.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
                    let _ = id_of_serial(&serial, "VMware", "Virtual disk");
                }
            }
        }
    }
}
