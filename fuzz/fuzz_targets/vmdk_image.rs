//! Whatever an image's files hold, it opens or is refused; a sound one takes a write and stays sound.
//!
//! The first byte chooses what the rest is: the file itself, or patches (offset, byte) to a small whole image.

#![no_main]

use disk::{Access, Bytes, Disk, Folder};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use testkit::SimFolder;
use vmdk::{AdapterType, CreateOptions, Format, Image, StreamWriter};

const NAME: &str = "x.vmdk";
const CAPACITY: u64 = (40 << 20) + 512;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let sim = SimFolder::new("sim");
    match choice % 4 {
        0 => put(&sim, NAME, rest),
        1 => put(&sim, NAME, &patched(&SPARSE, rest, false)),
        2 => put(&sim, NAME, &patched(&STREAM, rest, false)),
        _ => put(&sim, NAME, &patched(&STREAM, rest, true)),
    }
    put(&sim, "x-flat.vmdk", &[1; 4096]);
    exercise(&sim);
});

fn exercise(sim: &SimFolder) {
    let folder: Arc<dyn Folder> = Arc::new(sim.clone());
    let sound = vmdk::check(sim, NAME).is_ok_and(|report| report.is_sound());
    if let Ok(image) = Image::open(&folder, NAME, Access::Read, 1) {
        let outcome = read_ends(&image);
        assert!(!sound || outcome.is_ok(), "a sound image cannot be read: {outcome:?}");
    }
    if let Ok(image) = Image::open(&folder, NAME, Access::Write, 2) {
        let at = Bytes((image.size().0 / 2).min(34 << 20));
        let data = [0x5a; 700];
        let length = data.len().min((image.size() - at).as_usize());
        if image.write_at(at, &data[..length]).is_ok() && image.close().is_ok() {
            let mut seen = vec![0; length];
            image.read_at(at, &mut seen).expect("what was written can be read");
            assert_eq!(seen, data[..length]);
            drop(image);
            assert!(!sound || vmdk::check(sim, NAME).is_ok_and(|report| report.is_sound()));
        }
    }
    let _ = vmdk::repair(sim, NAME);
}

fn read_ends(image: &Image) -> disk::Result<()> {
    let length = image.size().0.min(200_000) as usize;
    let mut buffer = vec![0; length];
    image.read_at(Bytes::ZERO, &mut buffer)?;
    image.read_at(image.size() - Bytes(length as u64), &mut buffer)?;
    image.extent_at(Bytes::ZERO)?;
    Ok(())
}

fn put(sim: &SimFolder, name: &str, bytes: &[u8]) {
    let file = sim.create(name).expect("a new file");
    file.write_at(Bytes::ZERO, bytes).expect("memory takes it");
}

/// A whole image with bytes replaced, counted from its start or from its end.
fn patched(whole: &[u8], patches: &[u8], from_end: bool) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for patch in patches.chunks_exact(3) {
        let offset = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
        let at = if from_end { bytes.len().checked_sub(offset + 1) } else { Some(offset) };
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte = patch[2];
        }
    }
    bytes
}

static SPARSE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sim = SimFolder::new("sim");
    let folder: Arc<dyn Folder> = Arc::new(sim.clone());
    let image = Image::create(&folder, NAME, &options(Format::MonolithicSparse)).expect("a new image");
    image.write_at(Bytes(0), &[1; 512]).expect("a write");
    image.write_at(Bytes(33 << 20), &[2; 512]).expect("a write");
    image.close().expect("a close");
    drop(image);
    sim.file(NAME).expect("the image").contents()
});

static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sim = SimFolder::new("sim");
    let folder: Arc<dyn Folder> = Arc::new(sim.clone());
    let mut writer =
        StreamWriter::create(&folder, NAME, &options(Format::StreamOptimized)).expect("a new image");
    writer.write(Bytes(0), &[1; 512]).expect("a write");
    writer.write(Bytes(33 << 20), &[2; 512]).expect("a write");
    writer.finish().expect("an end");
    // Most of the room before the first grain is empty: a patch of 16 bits reaches it all.
    sim.file(NAME).expect("the image").contents()
});

fn options(format: Format) -> CreateOptions {
    CreateOptions { format, capacity: Bytes(CAPACITY), adapter: AdapterType::Ide, uuid: None, cid: 1 }
}
