//! Reading descriptors that anyone may have written.

use super::{Backing, Descriptor, ExtentLine, NO_PARENT};
use crate::{Error, Problem, Refusal, Result};
use disk::{Bytes, Sectors, valid_name};
use std::ops::Range;

/// No descriptor is longer: this holds ten thousand extent lines.
pub(crate) const MAX_DESCRIPTOR: Bytes = Bytes(1 << 20);

/// Reads the descriptor of the file called `object`; `base` is where it begins in there.
pub(crate) fn parse(text: &[u8], object: &str, base: Bytes) -> Result<Descriptor> {
    if text.len() as u64 > MAX_DESCRIPTOR.0 {
        let problem = Problem::DescriptorTooLong { limit: MAX_DESCRIPTOR };
        return Err(Error::damaged(object, base, problem));
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let mut reader = Reader { object, base, ..Reader::default() };
    let mut start = 0;
    for (index, line) in text[..end].split(|byte| *byte == b'\n').enumerate() {
        reader.line = index + 1;
        reader.start = start;
        reader.take_line(line)?;
        start += line.len() + 1;
    }
    reader.finish(text[..end].to_vec())
}

/// What was read so far, and where reading stands.
#[derive(Default)]
struct Reader<'a> {
    object: &'a str,
    base: Bytes,
    line: usize,
    start: usize,
    cid: Option<(u32, Range<usize>)>,
    parent_cid: Option<u32>,
    version: Option<u32>,
    create_type: Option<String>,
    parent_hint: Option<String>,
    change_tracking: Option<String>,
    uuid: Option<String>,
    adapter: Option<String>,
    thin: bool,
    extents: Vec<ExtentLine>,
}

impl Reader<'_> {
    fn bad<T>(&self, what: &'static str) -> Result<T> {
        let offset = self.base + Bytes(self.start as u64);
        Err(Error::damaged(self.object, offset, Problem::DescriptorLine { line: self.line, what }))
    }

    fn take_line(&mut self, line: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(line);
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(());
        }
        let first = trimmed.split_ascii_whitespace().next().unwrap_or_default();
        match first.to_ascii_uppercase().as_str() {
            "RW" => self.take_extent(trimmed, true),
            "RDONLY" => self.take_extent(trimmed, false),
            "NOACCESS" => Err(Error::refused(self.object, Refusal::NoAccess { line: self.line })),
            _ => match trimmed.split_once('=') {
                Some((key, value)) => self.take_key(line, key.trim(), value.trim()),
                None => self.bad("neither a comment, nor an extent, nor a key with a value"),
            },
        }
    }

    fn take_key(&mut self, line: &[u8], key: &str, value: &str) -> Result<()> {
        let plain = unquote(value);
        match key.to_ascii_lowercase().as_str() {
            "version" => match plain.parse() {
                Ok(version @ 1..=3) => self.version = Some(version),
                _ => return self.bad("only versions 1 to 3 are known"),
            },
            "cid" => {
                let id = self.content_id(plain)?;
                let digits = self.find_digits(line, plain)?;
                return set_once(&mut self.cid, (id, digits)).or_else(|()| self.bad("a second CID"));
            }
            "parentcid" => {
                let id = self.content_id(plain)?;
                return set_once(&mut self.parent_cid, id).or_else(|()| self.bad("a second parentCID"));
            }
            "createtype" => {
                let kind = plain.to_owned();
                return set_once(&mut self.create_type, kind).or_else(|()| self.bad("a second createType"));
            }
            "parentfilenamehint" => self.parent_hint = Some(plain.to_owned()),
            "changetrackpath" => self.change_tracking = Some(plain.to_owned()),
            "ddb.uuid" => self.uuid = Some(plain.to_owned()),
            "ddb.thinprovisioned" => self.thin = plain == "1",
            "ddb.adaptertype" => self.adapter = Some(plain.to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn content_id(&self, digits: &str) -> Result<u32> {
        let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(digits, 16) {
            Ok(id) if hexadecimal => Ok(id),
            _ => self.bad("a content id is one to eight hexadecimal digits"),
        }
    }

    /// Where in the whole text a value of this line stands.
    fn find_digits(&self, line: &[u8], value: &str) -> Result<Range<usize>> {
        let equals = line.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let found = line[equals..].windows(value.len()).position(|window| window == value.as_bytes());
        match found {
            Some(at) if value.len() <= 8 => {
                let start = self.start + equals + at;
                Ok(start..start + value.len())
            }
            _ => self.bad("a content id is one to eight hexadecimal digits"),
        }
    }

    fn take_extent(&mut self, line: &str, writable: bool) -> Result<()> {
        let Some((head, rest)) = split_extent(line) else {
            return self.bad("an extent's file name is not between quotes");
        };
        let mut words = head.split_ascii_whitespace().skip(1);
        let sectors = words.next().and_then(|word| word.parse().ok()).map(Sectors);
        let Some(sectors) = sectors.filter(|sectors| sectors.0 > 0 && sectors.to_bytes().is_some()) else {
            return self.bad("an extent's size is not a number of sectors");
        };
        let kind = words.next().unwrap_or_default().to_ascii_uppercase();
        if words.next().is_some() {
            return self.bad("an extent's file name is not between quotes");
        }
        let backing = self.backing(&kind, rest, sectors)?;
        self.extents.push(ExtentLine { writable, sectors, backing });
        Ok(())
    }

    fn backing(&self, kind: &str, rest: Option<(&str, &str)>, sectors: Sectors) -> Result<Backing> {
        let refused = |found| Err(Error::refused(self.object, found));
        match kind {
            "ZERO" => return Ok(Backing::Zero),
            "FLAT" | "VMFS" | "SPARSE" => {}
            "VMFSSPARSE" | "SESPARSE" => {
                return refused(Refusal::SnapshotDelta { found: format!("extent type {kind}") });
            }
            "VMFSRDM" | "VMFSRAW" | "VMFSRDMP" => {
                return refused(Refusal::RawDevice { found: format!("extent type {kind}") });
            }
            _ => return refused(Refusal::UnknownType { found: kind.chars().take(40).collect() }),
        }
        let Some((name, after)) = rest else {
            return self.bad("an extent lacks its file name");
        };
        let file = name.to_owned();
        if !valid_name(name) || name.contains('\\') || name.chars().any(char::is_control) {
            return refused(Refusal::ExtentName { extent: file });
        }
        match (kind, after.trim()) {
            ("SPARSE", "") => Ok(Backing::Sparse { file }),
            ("SPARSE", _) => self.bad("a SPARSE extent has no offset"),
            ("VMFS", "" | "0") => Ok(Backing::Flat { file, offset: Sectors(0) }),
            ("VMFS", _) => self.bad("a VMFS extent has no offset"),
            (_, offset) => {
                let offset = offset.parse().ok().map(Sectors);
                let fits = |offset: &Sectors| {
                    offset.0.checked_add(sectors.0).is_some_and(|end| Sectors(end).to_bytes().is_some())
                };
                match offset.filter(fits) {
                    Some(offset) => Ok(Backing::Flat { file, offset }),
                    None => self.bad("a FLAT extent needs its offset, in sectors"),
                }
            }
        }
    }

    fn finish(self, text: Vec<u8>) -> Result<Descriptor> {
        let lacks = |what| Error::damaged(self.object, self.base, Problem::DescriptorLacks { what });
        self.version.ok_or_else(|| lacks("version"))?;
        let create_type = self.create_type.ok_or_else(|| lacks("createType"))?;
        refuse_type(self.object, &create_type)?;
        let (cid, cid_digits) = self.cid.ok_or_else(|| lacks("CID"))?;
        if self.extents.is_empty() {
            return Err(lacks("extent"));
        }
        let total = self.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.sectors.0));
        if total.and_then(|sectors| Sectors(sectors).to_bytes()).is_none() {
            return Err(lacks("total size that fits into 64 bits"));
        }
        Ok(Descriptor {
            text,
            cid,
            cid_digits,
            parent_cid: self.parent_cid.unwrap_or(NO_PARENT),
            parent_hint: self.parent_hint,
            create_type,
            change_tracking: self.change_tracking.filter(|path| !path.is_empty()),
            extents: self.extents,
            uuid: self.uuid.and_then(|uuid| uuid.parse().ok()),
            adapter: self.adapter,
            thin: self.thin,
        })
    }
}

fn set_once<T>(place: &mut Option<T>, value: T) -> std::result::Result<(), ()> {
    if place.is_some() {
        return Err(());
    }
    *place = Some(value);
    Ok(())
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or(value)
}

/// An extent line, cut into what stands before the quotes, between them, and behind them.
fn split_extent(line: &str) -> Option<(&str, Option<(&str, &str)>)> {
    let Some((head, quoted)) = line.split_once('"') else {
        return Some((line, None));
    };
    quoted.split_once('"').map(|rest| (head, Some(rest)))
}

/// Refuses what is not a virtual disk of its own, by createType.
fn refuse_type(object: &str, create_type: &str) -> Result<()> {
    let found = create_type.chars().take(80).collect();
    let refusal = match create_type.to_ascii_lowercase().as_str() {
        "monolithicflat"
        | "monolithicsparse"
        | "twogbmaxextentflat"
        | "twogbmaxextentsparse"
        | "vmfs"
        | "streamoptimized" => return Ok(()),
        "vmfssparse" | "sesparse" | "vmfssesparse" => Refusal::SnapshotDelta { found },
        "vmfsrdm"
        | "vmfsrdmp"
        | "vmfsraw"
        | "vmfsrawdevicemap"
        | "vmfspassthroughrawdevicemap"
        | "fulldevice"
        | "partitioneddevice" => Refusal::RawDevice { found },
        _ => Refusal::UnknownType { found },
    };
    Err(Error::refused(object, refusal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::ParentLink;

    const FLAT: &str = "# Disk DescriptorFile\r\nVersion=1\r\nCid=1a2\r\nPARENTCID=ffffffff\r\n\
        createType=\"monolithicFlat\"\r\n\r\nRW 2048 FLAT \"a b-flat.vmdk\" 0\r\nRDONLY 63 ZERO\r\n\
        RW 5 FLAT \"x\" 2048\r\nddb.uuid = \"60 00 C2 9f 00 11 22 33-44 55 66 77 88 99 aa bb\"\r\n\0\0garbage";

    fn read(text: &str) -> Result<Descriptor> {
        parse(text.as_bytes(), "d.vmdk", Bytes(0))
    }

    #[test]
    fn a_descriptor_with_all_the_oddities_is_read() {
        let descriptor = read(FLAT).unwrap();
        assert_eq!(descriptor.cid(), 0x1a2);
        assert!(descriptor.parent().is_none());
        assert_eq!(descriptor.uuid.unwrap().wwid(), "36000c29f00112233445566778899aabb");
        let flat = |file: &str, offset| Backing::Flat { file: file.to_owned(), offset: Sectors(offset) };
        let extents: Vec<_> =
            descriptor.extents.iter().map(|e| (e.writable, e.sectors.0, e.backing.clone())).collect();
        let expected =
            [(true, 2048, flat("a b-flat.vmdk", 0)), (false, 63, Backing::Zero), (true, 5, flat("x", 2048))];
        assert_eq!(extents, expected);
    }

    #[test]
    fn a_new_cid_moves_no_byte() {
        let mut descriptor = read(FLAT).unwrap();
        let before = descriptor.text().to_vec();
        let changed = descriptor.renew_cid(0xdead_01a2);
        assert_eq!(descriptor.cid(), 0x1a3, "the old value is not used again");
        assert_eq!(&descriptor.text()[changed.clone()], b"1a3");
        assert_eq!(descriptor.text().len(), before.len());
        assert_eq!(descriptor.text()[changed.end..], before[changed.end..]);
        let mut full = read(&FLAT.replace("1a2", "00000001")).unwrap();
        full.renew_cid(0xffff_fffe);
        assert_eq!(full.cid(), 0);
    }

    #[test]
    fn what_must_not_be_used_is_named() {
        let refusal = |from: &str, to: &str| read(&FLAT.replace(from, to)).unwrap_err().to_string();
        for (kind, word) in [
            ("vmfsSparse", "snapshot delta"),
            ("seSparse", "snapshot delta"),
            ("vmfsRawDeviceMap", "raw device"),
            ("vmfsPassthroughRawDeviceMap", "raw device"),
            ("hologram", "not supported"),
        ] {
            let message = refusal("monolithicFlat", kind);
            assert!(message.contains(word) && message.contains(kind), "{message}");
        }
        assert!(refusal("a b-flat.vmdk", "../etc/shadow").contains("plain file name"));
        assert!(refusal("RDONLY 63", "NOACCESS 63").contains("NOACCESS"));
        assert!(refusal("FLAT \"x\" 2048", "FLAT \"x\"").contains("offset"));
        assert!(refusal("FLAT \"x\" 2048", "VMFS \"x\" 3").contains("VMFS"));
        assert!(refusal("RW 5 ", "RW 99999999999999999999 ").contains("number of sectors"));
        assert!(refusal("RDONLY 63 ", "RDONLY 36028797018963967 ").contains("64 bits"));
        assert!(refusal("Cid=1a2", "CID=+1").contains("hexadecimal"));
        assert!(refusal("Cid=1a2", "CID=1\r\nCID=2").contains("second"));
        assert!(refusal("Version=1", "Version=9").contains("line 2"));
    }

    #[test]
    fn a_parent_is_found_by_its_cid() {
        let child = FLAT.replace("=ffffffff", "=77\r\nparentFileNameHint=\"/x/base.vmdk\"");
        assert!(read(&child).unwrap().parent().unwrap().to_string().contains("base.vmdk"));
        let link = ParentLink::find(child.as_bytes()).unwrap();
        assert!(link.leads_to("base.vmdk", 1) && !link.leads_to("other.vmdk", 0x77));
        let nameless = ParentLink::find(b"parentCID=77").unwrap();
        assert!(nameless.leads_to("base.vmdk", 0x77) && !nameless.leads_to("base.vmdk", 1));
        assert!(ParentLink::find(FLAT.as_bytes()).is_none());
    }
}
