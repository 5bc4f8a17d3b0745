//! The rules for what can be taken, each on real files.

use super::check::Scene;
use super::files::{Files, Phase};
use crate::config::{Config, Format, Item};
use crate::item::Place;
use crate::retention::{Report, VolumeState};
use block_device::{Caching, FileDisk};
use control_api::agent::{DiskOrder, ItemOrder, ItemPolicy, TargetOrder};
use control_api::{Failure, RetentionState};
use disk::Access;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        for name in ["state", "retention", "store"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Site { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A master target with one item, `db01`, whose disk is `store/db01.img`.
    fn scene(&self) -> Scene {
        let text = format!(
            "state_folder = {:?}\n[retention]\nfolder = {:?}\ntrial_folder = true\n[[item]]\nname = \"db01\"\n\
             source = \"db01.example\"\ndisks = [{{ id = \"disk0\", target = {:?} }}]\n",
            self.path("state"),
            self.path("retention"),
            self.path("store/db01.img")
        );
        let config = Config::parse("mtd.toml", &text).unwrap();
        Scene {
            items: config.items.clone(),
            left_alone: vec!["torn".into()],
            standard: config.standard.clone(),
            files: Files::new(&config.state_folder),
            state_folder: config.state_folder.clone(),
            place: Arc::new(Place::new(&config)),
            volume: VolumeState {
                folder: self.path("retention"),
                state: RetentionState::Trial,
                detail: None,
                file_system: None,
                alerts: Vec::new(),
            },
            report: Report::default(),
        }
    }

    fn check(&self, targets: &[TargetOrder]) -> Result<Item, Failure> {
        self.scene().check(&order("web01", targets))
    }

    /// A refusal of a target that exists.
    fn refusal(&self, name: &str) -> Failure {
        let target = self.path(name).display().to_string();
        self.check(&[TargetOrder::Existing { target }]).unwrap_err()
    }

    fn raw(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    fn new_disk(&self, folder: &str, format: &str) -> TargetOrder {
        let folder = self.path(folder).display().to_string();
        TargetOrder::New { folder, format: format.into(), adapter: "lsilogic".into(), uuid: None }
    }

    fn qemu_img(&self, words: &str) {
        let output =
            Command::new("qemu-img").args(words.split(' ')).current_dir(self.path("store")).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn order(name: &str, targets: &[TargetOrder]) -> ItemOrder {
    let disk = |(number, target): (usize, &TargetOrder)| DiskOrder {
        id: format!("disk{number}"),
        size: MIB,
        target: target.clone(),
    };
    let policy = ItemPolicy {
        window_seconds: 86_400,
        rpo_threshold_seconds: 900,
        application_consistent_every_seconds: None,
    };
    let disks = targets.iter().enumerate().map(disk).collect();
    ItemOrder { name: name.into(), source: "web01.example".into(), policy, disks }
}

fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|file| file.path().is_file())
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_can_be_taken_is_and_a_check_changes_nothing() {
    let site = Site::new();
    let raw = site.raw("store/a.img", MIB);
    site.qemu_img("create -q -f vmdk b.vmdk 1M");
    let vmdk = site.path("store/b.vmdk");
    let before = listing(&site.path("store"));
    let existing = |path: &Path| TargetOrder::Existing { target: path.display().to_string() };
    let item = site.check(&[existing(&raw), existing(&vmdk), site.new_disk("store", "vmfs")]).unwrap();
    assert_eq!(listing(&site.path("store")), before);
    assert!(item.taken);
    assert_eq!(item.disks[2].target, site.path("store/web01-disk2.vmdk"));
    assert_eq!(item.disks[2].format, Format::Vmdk(Some(vmdk::Format::Vmfs)));
    assert_eq!(item.disks.iter().map(|disk| disk.size).collect::<Vec<_>>(), [None, None, Some(MIB)]);
}

#[test]
fn a_vmdk_with_snapshots_is_refused_and_so_is_a_snapshot() {
    let site = Site::new();
    site.qemu_img("create -q -f vmdk base.vmdk 1M");
    site.qemu_img("create -q -f vmdk -b base.vmdk -F vmdk child.vmdk");
    let failure = site.refusal("store/base.vmdk");
    assert!(failure.why.contains("child.vmdk is a snapshot on top of it"), "{failure}");
    let failure = site.refusal("store/child.vmdk");
    assert!(failure.why.contains("it is a child of base.vmdk"), "{failure}");
    assert_eq!(failure.what, "it cannot be the target of disk0");
    let delta = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfsSparse\"\n\
                 RW 2048 VMFSSPARSE \"x-delta.vmdk\"\n";
    fs::write(site.path("store/x-000001.vmdk"), delta).unwrap();
    let failure = site.refusal("store/x-000001.vmdk");
    assert!(failure.why.contains("snapshot delta"), "{failure}");
    fs::remove_file(site.path("store/child.vmdk")).unwrap();
    let list =
        "snapshot.numSnapshots = \"1\"\nsnapshot0.uid = \"1\"\nsnapshot0.disk0.fileName = \"base.vmdk\"\n";
    fs::write(site.path("store/web01.vmsd"), list).unwrap();
    let failure = site.refusal("store/base.vmdk");
    assert!(failure.why.contains("web01.vmsd has snapshots of it"), "{failure}");
    assert!(failure.next.contains("consolidate"), "{failure}");
    fs::write(site.path("store/web01.vmsd"), list.replace("base", "other")).unwrap();
    let target = site.path("store/base.vmdk").display().to_string();
    site.check(&[TargetOrder::Existing { target }]).unwrap();
}

#[test]
fn a_target_of_another_size_or_kind_or_that_is_not_there_is_refused() {
    let site = Site::new();
    site.raw("store/small.img", MIB / 2);
    site.qemu_img("create -q -f vmdk large.vmdk 2M");
    let failure = site.refusal("store/small.img");
    assert_eq!(failure.why, "it has 524288 bytes, and the source disk has 1048576");
    assert!(site.refusal("store/large.vmdk").why.contains("2097152 bytes"));
    assert_eq!(site.refusal("store/none.img").why, "there is no such file");
    assert_eq!(site.refusal("store").why, "it is no file");
    let failure = site.check(&[TargetOrder::Existing { target: "36000c29deadbeef00".into() }]).unwrap_err();
    assert!(failure.object == "/dev/mapper/36000c29deadbeef00", "{failure}");
    assert!(failure.why.contains("36000c29deadbeef00") && !failure.next.is_empty(), "{failure}");
    fs::write(site.path("store/text.vmdk"), "# Disk DescriptorFile\ngarbage").unwrap();
    assert!(site.refusal("store/text.vmdk").why.contains("text.vmdk"));
}

#[test]
fn a_target_that_is_used_is_refused_with_its_user() {
    let site = Site::new();
    let path = site.raw("store/held.img", MIB);
    let held = FileDisk::open(&path, Access::Write, Caching::PageCache).unwrap();
    let failure = site.refusal("store/held.img");
    assert!(failure.why.contains("held.img") && failure.why.contains("in use"), "{failure}");
    drop(held);
    site.raw("store/db01.img", MIB);
    std::os::unix::fs::symlink(site.path("store/db01.img"), site.path("store/link.img")).unwrap();
    fs::hard_link(site.path("store/db01.img"), site.path("store/hard.img")).unwrap();
    for name in ["store/db01.img", "store/link.img", "store/hard.img"] {
        assert_eq!(site.refusal(name).why, "it is the target of disk0 of db01", "{name}");
    }
    site.raw("retention/x.img", MIB);
    assert_eq!(site.refusal("retention/x.img").why, "it lies in the retention volume");
    site.raw("state/x.img", MIB);
    assert_eq!(site.refusal("state/x.img").why, "it lies in the state folder");
    let twice = TargetOrder::Existing { target: path.display().to_string() };
    let failure = site.check(&[twice.clone(), twice]).unwrap_err();
    assert!(failure.why.contains("have the same target"), "{failure}");
}

#[test]
fn a_new_disk_needs_a_folder_with_room_and_no_file_of_its_name() {
    let site = Site::new();
    let failure = |folder: &str, format: &str| site.check(&[site.new_disk(folder, format)]).unwrap_err();
    assert_eq!(failure("nowhere", "vmfs").why, "there is no such folder");
    site.raw("store/file", 0);
    assert_eq!(failure("store/file", "vmfs").why, "it is a file");
    for name in ["web01-disk0.vmdk", "web01-disk0-flat.vmdk", "web01-disk0-s001.vmdk"] {
        let path = site.raw(&format!("store/{name}"), 0);
        let failure = failure("store", "vmfs");
        assert_eq!(failure.object, path.display().to_string());
        assert_eq!(failure.why, "there is a file of this name already");
        fs::remove_file(path).unwrap();
    }
    site.raw("store/web01-disk0-more.vmdk", 0);
    site.check(&[site.new_disk("store", "vmfs")]).unwrap();
    assert!(failure("store", "raw").why.contains("raw is none"));
    assert!(failure("store", "qcow2").why.contains("cannot hold a replica"));
    assert!(failure("store", "streamOptimized").why.contains("cannot hold a replica"));
}

/// All of a thick disk has to fit, and a tenth of a thin one; those of one file system together.
#[test]
fn a_datastore_without_room_is_refused() {
    let site = Site::new();
    let free = nix::sys::statvfs::statvfs(&site.path("store")).unwrap();
    let free = free.blocks_available() as u64 * free.fragment_size() as u64 / MIB * MIB;
    let check = |format: &str, sizes: &[u64]| {
        let targets = vec![site.new_disk("store", format); sizes.len()];
        let mut order = order("web01", &targets);
        order.disks.iter_mut().zip(sizes).for_each(|(disk, size)| disk.size = *size);
        site.scene().check(&order)
    };
    let half = (free / 2).min(60 << 40) / MIB * MIB;
    check("vmfs", &[half / 2]).unwrap();
    let failure = check("vmfs", &[half, half, half]).unwrap_err();
    assert!(
        failure.why.contains("are needed on its file system") && failure.why.contains("are free"),
        "{failure}"
    );
    check("vmfs-thin", &[half, half, half]).unwrap();
    assert!(check("monolithicSparse", &[half * 10, half * 10, half * 10]).is_err());
}

#[test]
fn names_are_given_once_and_what_an_item_left_is_not_written_over() {
    let site = Site::new();
    let raw = site.raw("store/a.img", MIB);
    let existing = [TargetOrder::Existing { target: raw.display().to_string() }];
    let refusal = |name: &str| site.scene().check(&order(name, &existing)).unwrap_err();
    assert_eq!(refusal("db01").why, "there is an item of this name already");
    assert!(refusal("db01").next.contains("mtctl release db01"));
    assert!(refusal("torn").why.contains("torn.toml is damaged"));
    assert!(refusal("../x").why.contains("must be 1 to 64 letters"));
    let journal = site.path("retention/items/web01");
    fs::create_dir_all(&journal).unwrap();
    site.check(&existing).unwrap();
    fs::write(journal.join("00000001.journal"), "x").unwrap();
    let failure = site.check(&existing).unwrap_err();
    assert!(failure.why.contains("recovery points of an item of this name are left in"), "{failure}");
}

#[test]
fn a_retention_volume_that_is_away_is_the_reason() {
    let site = Site::new();
    let raw = site.raw("store/a.img", MIB);
    let mut scene = site.scene();
    scene.volume.state = RetentionState::NotMounted;
    scene.volume.detail = Some("nothing is mounted there".into());
    let existing = [TargetOrder::Existing { target: raw.display().to_string() }];
    let failure = scene.check(&order("web01", &existing)).unwrap_err();
    assert!(failure.why.contains("nothing is mounted there"), "{failure}");
    assert!(failure.next.contains("mtctl retention"), "{failure}");
}

#[test]
fn the_name_of_its_file_tells_how_far_an_item_has_come() {
    let site = Site::new();
    let scene = site.scene();
    let item = Item { name: "web01".into(), ..scene.items[0].clone() };
    let files = &scene.files;
    files.write(&item, &scene.standard, Phase::Taking).unwrap();
    assert_eq!((files.all(Phase::Taking), files.all(Phase::There)), (vec!["web01".to_owned()], vec![]));
    files.write(&item, &scene.standard, Phase::There).unwrap();
    files.remove("web01", Phase::Taking).unwrap();
    files.rename("web01", Phase::There, Phase::Leaving).unwrap();
    assert!(files.has("web01", Phase::Leaving) && !files.has("web01", Phase::There));
    assert_eq!(files.read("web01", Phase::Leaving, &scene.standard).unwrap().disks, item.disks);
    assert!(files.rename("web01", Phase::There, Phase::Leaving).is_err());
}
