//! A machine that is a folder, on which a retention volume can be prepared: sysfs and mountinfo are files, programs are
//! scripts, and mkfs.ext4, mount and debugfs work on the file that stands for a disk, so that root is needed.
//!
//! It can lose its power at each run of a program, before or after the program did its work: the process that prepares
//! is killed by the script.

use block_device::{ScsiId, System};
use retention_volume::prepare::{self, Plan, Progress, Request};
use retention_volume::{Error, Result, RetentionVolume};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const ID: &str = "36000c29a0123456789abcdef01234567";
pub(crate) const PLACE: &str = "/mnt/retention";
pub(crate) const SIZE: u64 = 64 << 20;
const FSTAB: &str = "# the system\n/dev/sda1\t/\text4\tdefaults\t0 1\n";

/// Those of block-device's own machine, and those that are only needed here.
const PROGRAMS: [(&str, &str); 7] = [
    ("multipath", include_str!("../../../../block-device/src/fake_machine/multipath")),
    ("multipathd", include_str!("../../../../block-device/src/fake_machine/multipathd")),
    ("mkfs.ext4", include_str!("mkfs.ext4")),
    ("debugfs", include_str!("debugfs")),
    ("mount", include_str!("mount")),
    ("umount", include_str!("umount")),
    ("systemctl", include_str!("systemctl")),
];

const POWER: &str = include_str!("power");

pub(crate) struct Machine {
    root: PathBuf,
    /// Removed with the machine; a process that prepares on the machine of another has none.
    _folder: Option<tempfile::TempDir>,
}

impl Machine {
    /// With a system disk and the empty disk `sdb`. `None`, loudly, where mounting is not allowed.
    pub(crate) fn new() -> Option<Machine> {
        let folder = tempfile::tempdir().unwrap();
        if fs::metadata(folder.path()).unwrap().uid() != 0 {
            assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "mounting needs root");
            let _ = std::io::stderr().write_all(b"SKIPPED: a test of a preparation, which needs root\n");
            return None;
        }
        let machine = Machine { root: folder.path().to_owned(), _folder: Some(folder) };
        for path in ["sbin", "programs", "dev/mapper", "etc/multipath/conf.d", "mnt", "var/lib"] {
            fs::create_dir_all(machine.path(path)).unwrap();
        }
        for (name, script) in PROGRAMS {
            machine.program(&format!("programs/{name}"), script);
            machine.program(&format!("sbin/{name}"), POWER);
        }
        // It only looks: a power cut at its run is one at the run after it.
        machine.program("sbin/blkid", include_str!("blkid"));
        machine.write("fuel", "1000000");
        machine.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        machine.write("proc/swaps", "Filename Type Size Used Priority\n");
        machine.write("etc/fstab", FSTAB);
        machine.disk("sda", 0, "36000c29aaaaaaaaaaaaaaaaaaaaaaaa1");
        machine.partition("sda", 1);
        machine.disk("sdb", 16, ID);
        Some(machine)
    }

    /// The machine of another process.
    pub(crate) fn of(root: &Path) -> Machine {
        Machine { root: root.to_owned(), _folder: None }
    }

    pub(crate) fn system(&self) -> System {
        System::at(&self.root)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn append(&self, path: &str, line: &str) {
        let before = self.read(path);
        self.write(path, format!("{before}{line}\n"));
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub(crate) fn program(&self, path: &str, script: &str) {
        let program = self.path(path);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        testkit::program(&program, &script.replace("@ROOT@", self.root.to_str().unwrap()));
    }

    pub(crate) fn disk(&self, name: &str, minor: u32, id: &str) {
        self.attributes(&format!("sys/block/{name}"), minor);
        fs::create_dir_all(self.path(&format!("sys/block/{name}/holders"))).unwrap();
        fs::File::create(self.path(&format!("dev/{name}"))).unwrap().set_len(SIZE).unwrap();
        self.write(&format!("wwid/{name}"), id);
        self.write(&format!("run/udev/data/b8:{minor}"), format!("E:ID_BUS=scsi\nE:ID_SERIAL={id}\n"));
    }

    pub(crate) fn partition(&self, disk: &str, index: u32) {
        let minor: u32 = self.read(&format!("sys/block/{disk}/dev"))[2..].trim().parse().unwrap();
        let folder = format!("sys/block/{disk}/{disk}{index}");
        self.attributes(&folder, minor + index);
        self.write(&format!("{folder}/partition"), index.to_string());
        self.write(&format!("{folder}/start"), "2048");
        fs::File::create(self.path(&format!("dev/{disk}{index}"))).unwrap().set_len(SIZE / 2).unwrap();
    }

    fn attributes(&self, folder: &str, minor: u32) {
        for (name, value) in [("dev", format!("8:{minor}")), ("size", (SIZE / 512).to_string())] {
            self.write(&format!("{folder}/{name}"), value);
        }
        self.write(&format!("{folder}/ro"), "0");
        self.write(&format!("{folder}/removable"), "0");
    }

    pub(crate) fn put(&self, device: &str, offset: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(self.path("dev").join(device)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// An ext4 made by hand.
    pub(crate) fn make_ext4(&self, device: &str, uuid: &str, label: &str) {
        let device = self.path("dev").join(device);
        let arguments = ["-q", "-F", "-U", uuid, "-L", label];
        let status = Command::new("mkfs.ext4").args(arguments).arg(device).status();
        assert!(status.unwrap().success());
    }

    /// Mounts by the entry in fstab, as an administrator does.
    pub(crate) fn mount(&self) {
        fs::create_dir_all(self.path(&PLACE[1..])).unwrap();
        let output = Command::new(self.path("programs/mount")).arg(PLACE).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn unmount(&self) {
        let output = Command::new(self.path("programs/umount")).arg(PLACE).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Programs that were run, with their arguments; those that only look are left out.
    pub(crate) fn log(&self) -> Vec<String> {
        self.read("runs").lines().map(str::to_owned).collect()
    }

    pub(crate) fn made_file_systems(&self) -> usize {
        self.log().iter().filter(|line| line.starts_with("mkfs.ext4")).count()
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            disk: "sdb".into(),
            mount_point: PLACE.into(),
            reformat: None,
            state_folder: "/var/lib/master-target".into(),
            targets: Vec::new(),
        }
    }

    pub(crate) fn plan(&self, request: &Request) -> Result<Plan> {
        prepare::plan(&self.system(), request)
    }

    pub(crate) fn refusal(&self, request: &Request) -> Error {
        match self.plan(request) {
            Err(error) => error,
            Ok(plan) => panic!("{:?}", plan.steps),
        }
    }

    pub(crate) fn prepare(&self, request: &Request) -> Result<RetentionVolume> {
        self.prepare_and(request, &mut |_| {})
    }

    pub(crate) fn prepare_and(
        &self,
        request: &Request,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<RetentionVolume> {
        let plan = self.plan(request)?;
        prepare::carry_out(&self.system(), request, &plan, progress)
    }

    /// Everything is as it should be, and a further run has nothing to do.
    pub(crate) fn assert_prepared(&self, request: &Request) {
        let plan = self.plan(request).unwrap();
        assert_eq!(plan.steps, [], "{:?}", self.log());
        let entries = retention_volume::fstab::Fstab::read(&self.system()).unwrap().entries();
        let entry = entries.iter().find(|entry| entry.place == Path::new(PLACE)).unwrap();
        assert_eq!(entry.device, format!("/dev/mapper/{ID}"));
        assert!(entry.has("nofail"));
        let mountinfo = self.read("proc/self/mountinfo");
        assert!(mountinfo.contains(&format!(" {PLACE} ")) && mountinfo.contains("253:"), "{mountinfo}");
        let wanted = block_device::multipath::wanted(&self.system()).unwrap();
        assert_eq!(wanted, [ScsiId::parse(ID).unwrap()]);
        let place = retention_volume::Place { folder: self.path(&PLACE[1..]), trial: false };
        let volume = RetentionVolume::open(&place, None).unwrap();
        assert_eq!(volume.file_system(), Some(plan.file_system));
        assert_eq!(self.system().names("/var/lib/master-target"), [""; 0]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self._folder.is_some() {
            let place = self.path(&PLACE[1..]);
            while Command::new("umount").arg(&place).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
            {
            }
        }
    }
}
