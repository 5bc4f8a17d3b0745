//! What the tests of images share.
#![allow(dead_code, missing_docs, unreachable_pub)]

use disk::{Access, Bytes, Disk, Folder};
use std::sync::Arc;
use testkit::SimFolder;
use vmdk::{AdapterType, CreateOptions, Format, Image, StreamWriter};

pub const NAME: &str = "web01.vmdk";

/// The formats that are written in place.
pub const IN_PLACE: [Format; 6] = [
    Format::MonolithicFlat,
    Format::MonolithicSparse,
    Format::TwoGbMaxExtentFlat,
    Format::TwoGbMaxExtentSparse,
    Format::Vmfs,
    Format::VmfsThin,
];

pub fn options(format: Format, capacity: u64) -> CreateOptions {
    CreateOptions {
        format,
        capacity: Bytes(capacity),
        adapter: AdapterType::LsiLogic,
        uuid: Some("6000c29f00112233445566778899aabb".parse().unwrap()),
        cid: 0x1234_5678,
    }
}

pub fn folder(sim: &SimFolder) -> Arc<dyn Folder> {
    Arc::new(sim.clone())
}

pub fn create(sim: &SimFolder, format: Format, capacity: u64) -> Image {
    Image::create(&folder(sim), NAME, &options(format, capacity)).unwrap()
}

pub fn open(sim: &SimFolder, access: Access) -> vmdk::Result<Image> {
    Image::open(&folder(sim), NAME, access, 0x9abc_def0)
}

pub fn read_all(disk: &dyn Disk) -> disk::Result<Vec<u8>> {
    let mut bytes = vec![0xee; disk.size().as_usize()];
    disk.read_at(Bytes::ZERO, &mut bytes)?;
    Ok(bytes)
}

/// Writes a whole stream-optimised image with these contents.
pub fn write_stream(sim: &SimFolder, contents: &[u8]) {
    let options = options(Format::StreamOptimized, contents.len() as u64);
    let mut writer = StreamWriter::create(&folder(sim), NAME, &options).unwrap();
    writer.write(Bytes::ZERO, contents).unwrap();
    writer.finish().unwrap();
}

/// Puts a file into the folder, durably.
pub fn put(sim: &SimFolder, name: &str, contents: &[u8]) {
    let file = sim.create(name).unwrap();
    file.write_at(Bytes::ZERO, contents).unwrap();
    file.sync().unwrap();
    sim.sync().unwrap();
}

pub fn contents(sim: &SimFolder, name: &str) -> Vec<u8> {
    sim.file(name).unwrap().contents()
}
