//! A scratch folder in which images are exchanged with qemu-img and qemu-io, and a record of what they must hold.
//!
//! A missing tool fails the tests: an exchange that did not take place proves nothing.

use block_device::{Caching, HostFolder};
use disk::{Access, Bytes, Disk, Folder};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use vmdk::{AdapterType, CreateOptions, Format, Image};

/// The image's name in every test.
pub const NAME: &str = "exchange.vmdk";

/// A folder that goes away with the test.
pub struct Scratch {
    directory: tempfile::TempDir,
    /// The folder as images see it.
    pub folder: Arc<dyn Folder>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Scratch {
    /// A new, empty folder.
    pub fn new() -> Scratch {
        let directory = tempfile::tempdir().expect("a temporary folder can be made");
        let folder = HostFolder::open(directory.path(), Caching::Direct).expect("the folder opens");
        Scratch { directory, folder: Arc::new(folder) }
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program in the folder; its output whatever it says.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .unwrap_or_else(|error| panic!("{program} is needed by this test and does not run: {error}"))
    }

    /// Runs a program that must succeed; what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (printed(&output.stdout), printed(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?} failed:\n{stdout}{stderr}");
        stdout
    }

    /// Has qemu-img create the image.
    pub fn qemu_create(&self, subformat: &str, size: u64) {
        let options = format!("subformat={subformat},adapter_type=lsilogic");
        self.run("qemu-img", &["create", "-q", "-f", "vmdk", "-o", &options, NAME, &size.to_string()]);
    }

    /// Has qemu-io carry out commands on the image.
    pub fn qemu_io(&self, commands: &[String]) {
        let mut arguments = vec!["-f", "vmdk"];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(NAME);
        let printed = self.run("qemu-io", &arguments);
        assert!(!printed.contains("failed"), "qemu-io {commands:?}:\n{printed}");
    }

    /// Opens the image ourselves.
    pub fn open(&self, access: Access) -> vmdk::Result<Image> {
        Image::open(&self.folder, NAME, access, 0x5eed_0001)
    }

    /// Creates the image ourselves.
    pub fn create(&self, format: Format, size: u64) -> Image {
        Image::create(&self.folder, NAME, &options(format, size)).expect("the image can be created")
    }

    /// Both our check and qemu-img's find nothing.
    pub fn assert_sound(&self) {
        let report = vmdk::check(&*self.folder, NAME).expect("the image can be checked");
        assert!(report.findings.is_empty(), "{report:?}");
        let output = self.output("qemu-img", &["check", "-f", "vmdk", NAME]);
        // 63: the extents are of a kind that has nothing to check.
        assert!(matches!(output.status.code(), Some(0 | 63)), "{output:?}");
    }
}

/// Options of a new image with an identity.
pub fn options(format: Format, size: u64) -> CreateOptions {
    CreateOptions {
        format,
        capacity: Bytes(size),
        adapter: AdapterType::LsiLogic,
        uuid: "6000c29f00112233445566778899aabb".parse().ok(),
        cid: 0x0bad_cafe,
    }
}

/// What a disk must hold: zeroes, and pieces of one byte each.
#[derive(Clone, Default)]
pub struct Contents {
    /// Start, and length with byte; later ones replace earlier ones.
    pieces: Vec<(u64, u64, u8)>,
}

impl Contents {
    /// Pieces around everything that has a border in a disk of `size` bytes.
    pub fn around_borders(size: u64, first_byte: u8) -> Contents {
        let middle = size / 2 / 65536 * 65536;
        let shift = u64::from(first_byte) * 512;
        let mut pieces = vec![
            (shift, 512, 0),
            (65536 - 512, 1024, 0),
            (3 * 65536, 65536 * 2, 0),
            (middle + shift + 1536, 4096, 0),
            (size - 512, 512, 0),
        ];
        for border in [2047 << 20, 2048 << 20, 2 << 40u64] {
            if size > border + 65536 {
                pieces.push((border - 1024 - shift, 2048 + shift, 0));
            }
        }
        pieces.retain(|(start, length, _)| start + length <= size);
        for (number, piece) in (first_byte..).zip(&mut pieces) {
            piece.2 = number;
        }
        Contents { pieces }
    }

    /// The same, and then others on top.
    pub fn then(mut self, others: &Contents) -> Contents {
        self.pieces.extend(&others.pieces);
        self
    }

    /// As commands of qemu-io.
    pub fn qemu_writes(&self) -> Vec<String> {
        let write = |(start, length, byte): &(u64, u64, u8)| format!("write -P {byte} {start} {length}");
        self.pieces.iter().map(write).collect()
    }

    /// As reads of qemu-io that compare; a piece that is partly replaced is left out.
    pub fn qemu_reads(&self) -> Vec<String> {
        let newest = |index: usize, start: u64, end: u64| {
            self.pieces[index + 1..].iter().all(|(other, length, _)| end <= *other || other + length <= start)
        };
        let pieces = self.pieces.iter().enumerate();
        let read = |(index, (start, length, byte)): (usize, &(u64, u64, u8))| {
            newest(index, *start, start + length).then(|| format!("read -P {byte} {start} {length}"))
        };
        pieces.filter_map(read).collect()
    }

    /// Writes them to a disk.
    pub fn write(&self, disk: &dyn Disk) {
        for (start, length, byte) in &self.pieces {
            disk.write_at(Bytes(*start), &vec![*byte; *length as usize]).expect("the disk can be written");
        }
    }

    /// Compares a disk around every piece.
    pub fn assert_on(&self, disk: &dyn Disk) {
        let mut windows = BTreeMap::new();
        for (start, length, _) in &self.pieces {
            let from = start.saturating_sub(65536);
            windows.insert(from, (start + length + 65536).min(disk.size().0) - from);
        }
        for (from, length) in windows {
            let mut expected = vec![0; length as usize];
            for (start, piece, byte) in &self.pieces {
                let begin = (*start).max(from);
                let end = (start + piece).min(from + length);
                if begin < end {
                    expected[(begin - from) as usize..(end - from) as usize].fill(*byte);
                }
            }
            let mut seen = vec![0xee; length as usize];
            disk.read_at(Bytes(from), &mut seen).expect("the disk can be read");
            let wrong = seen.iter().zip(&expected).position(|(one, other)| one != other);
            assert_eq!(wrong.map(|at| from + at as u64), None, "first wrong byte");
        }
    }

    /// Writes them to a raw file, for qemu-img to compare with.
    pub fn write_raw(&self, scratch: &Scratch, name: &str, size: u64) {
        let file = scratch.folder.create(name).expect("a raw file can be made");
        file.set_size(Bytes(size)).expect("a raw file can be sized");
        self.write(&*file);
        file.sync().expect("a raw file can be synced");
    }
}
