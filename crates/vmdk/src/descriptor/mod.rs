//! The text that describes an image: its content id, its parent if it has one, and its extents.

mod compose;
mod parse;

pub(crate) use compose::{NewDescriptor, NewExtent, compose};
pub(crate) use parse::{MAX_DESCRIPTOR, parse};

use crate::{DiskUuid, Problem, Refusal};
use disk::Sectors;
use std::ops::Range;

/// The content id that says "no parent".
pub(crate) const NO_PARENT: u32 = 0xffff_ffff;

/// What a descriptor says.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    text: Vec<u8>,
    cid: u32,
    /// Where in the text the digits of the CID stand.
    cid_digits: Range<usize>,
    parent_cid: u32,
    pub(crate) parent_hint: Option<String>,
    pub(crate) create_type: String,
    pub(crate) change_tracking: Option<String>,
    pub(crate) extents: Vec<ExtentLine>,
    pub(crate) uuid: Option<DiskUuid>,
    pub(crate) adapter: Option<String>,
    thin: bool,
}

/// One extent line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtentLine {
    pub(crate) writable: bool,
    pub(crate) sectors: Sectors,
    pub(crate) backing: Backing,
}

/// Where an extent's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// As they are, in a file from an offset on.
    Flat { file: String, offset: Sectors },
    /// In a file with a sparse header.
    Sparse { file: String },
    /// Nowhere: they are zero.
    Zero,
}

impl Backing {
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Backing::Flat { file, .. } | Backing::Sparse { file } => Some(file),
            Backing::Zero => None,
        }
    }
}

/// What a descriptor says of its parent; it need not be one that could be opened.
pub(crate) struct ParentLink {
    cid: u32,
    hint: Option<String>,
}

impl ParentLink {
    /// The parent that a descriptor's text names, if it has one.
    pub(crate) fn find(text: &[u8]) -> Option<ParentLink> {
        let text = String::from_utf8_lossy(text);
        let value = |wanted: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                key.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let cid = u32::from_str_radix(&value("parentCID")?, 16).ok()?;
        (cid != NO_PARENT).then(|| ParentLink { cid, hint: value("parentFileNameHint") })
    }

    /// True when the parent is the image in file `name` with content id `cid`.
    pub(crate) fn leads_to(&self, name: &str, cid: u32) -> bool {
        match &self.hint {
            Some(hint) => hint.rsplit(['/', '\\']).next() == Some(name),
            None => self.cid == cid,
        }
    }
}

impl Descriptor {
    pub(crate) fn cid(&self) -> u32 {
        self.cid
    }

    /// The text as it was read, without what follows its first NUL.
    /// Whether it is to have the room for all of it at any time.
    pub(crate) fn is_thick(&self) -> bool {
        !self.thin && self.create_type.eq_ignore_ascii_case("vmfs")
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Why this is not a disk of its own, if so.
    pub(crate) fn parent(&self) -> Option<Refusal> {
        (self.parent_cid != NO_PARENT).then(|| Refusal::Parent {
            parent: self.parent_hint.clone().unwrap_or_else(|| "an unnamed parent".to_owned()),
            cid: self.parent_cid,
        })
    }

    /// Gives the content a new id, made from `fresh`, and returns where the text changed.
    ///
    /// The id keeps its number of digits, so no other byte moves, and a write of the change that is torn leaves
    /// a descriptor that reads well.
    pub(crate) fn renew_cid(&mut self, fresh: u32) -> Range<usize> {
        let digits = self.cid_digits.len();
        let mask = if digits >= 8 { u32::MAX } else { (1 << (4 * digits)) - 1 };
        let reserved = |id: u32| id == self.cid || id >= NO_PARENT - 1;
        let mut id = fresh & mask;
        while reserved(id) {
            id = id.wrapping_add(1) & mask;
        }
        self.cid = id;
        let written = format!("{id:0digits$x}");
        self.text[self.cid_digits.clone()].copy_from_slice(written.as_bytes());
        self.cid_digits.clone()
    }

    /// The one extent of a file that holds its own descriptor.
    pub(crate) fn only_extent(&self) -> Result<&ExtentLine, Problem> {
        match self.extents.as_slice() {
            [extent @ ExtentLine { backing: Backing::Sparse { .. }, .. }] => Ok(extent),
            _ => Err(Problem::DescriptorLacks { what: "single SPARSE extent, as one inside an extent has" }),
        }
    }
}
