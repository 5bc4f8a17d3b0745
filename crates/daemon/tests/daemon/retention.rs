//! A daemon whose retention volume is late, stopped, read-only, unmounted, or another one. Needs root.

use crate::isolation::Daemon;
use crate::source::{Machine, SOON, Source};
use change_stream::{Frame, Need};
use control_api::{AlertKind, Answer, Call, ItemState, RetentionState, RetentionStatus, Status};
use nix::sched::{CloneFlags, unshare};
use retention_volume::{FileSystemUuid, Place, RetentionVolume};
use rig::tools::run;
use rig::wait_for;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: usize = 1 << 20;
const UUIDS: [&str; 2] = ["a1234567-89ab-cdef-0123-456789abcdef", "b1234567-89ab-cdef-0123-456789abcdef"];

/// Two ext4 on loop devices, and the folder at which one of them is mounted.
struct Volumes {
    folder: tempfile::TempDir,
    devices: Vec<String>,
}

impl Volumes {
    /// `None`, loudly, where mounting is not allowed; an error where runs must be complete.
    fn new() -> Option<Volumes> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "mounting needs root");
            let _ =
                std::io::stderr().write_all(b"SKIPPED: a test of the retention volume, which needs root\n");
            return None;
        }
        let mut volumes = Volumes { folder: tempfile::tempdir().unwrap(), devices: Vec::new() };
        std::fs::create_dir(volumes.place()).unwrap();
        for uuid in UUIDS {
            let image = volumes.path().join(uuid).display().to_string();
            std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
            run("mkfs.ext4", &["-q", "-F", "-e", "remount-ro", "-U", uuid, &image]).unwrap();
            let device = run("losetup", &["--find", "--show", &image]).unwrap();
            volumes.devices.push(device.trim().to_owned());
        }
        Some(volumes)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn place(&self) -> PathBuf {
        self.path().join("retention")
    }

    fn mount(&self, number: usize, options: &str) {
        let place = self.place().display().to_string();
        run("mount", &["-o", options, &self.devices[number], &place]).unwrap();
    }

    fn remount(&self, options: &str) {
        let place = self.place().display().to_string();
        run("mount", &["-o", &format!("remount,{options}"), &place]).unwrap();
    }

    /// It is free soon after nothing uses it: a child that is being started has a copy of every descriptor for a moment.
    fn unmount(&self) {
        let place = self.place().display().to_string();
        wait_for("the volume to be free", SOON, || Ok(run("umount", &[&place]).ok())).unwrap();
    }

    /// Mounts a volume and makes it a retention volume.
    fn prepare(&self, number: usize) {
        self.mount(number, "rw");
        let place = Place { folder: self.place(), trial: false };
        RetentionVolume::mark(&place, FileSystemUuid::parse(UUIDS[number]).unwrap()).unwrap();
    }

    /// Lets the kernel find an error in the first file system, and stop it.
    fn stop(&self) {
        let name = self.devices[0].trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }

    /// Tells the first file system as it is mounted now from what it was when it was mounted before.
    fn instance(&self) -> u64 {
        let folder = self.devices[0].replace("/dev/", "/sys/fs/ext4/");
        std::fs::metadata(folder).unwrap().ino()
    }

    fn assert_bare(&self) {
        assert_eq!(std::fs::read_dir(self.place()).unwrap().count(), 0, "something is in the bare folder");
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // After a failure in between; fails silently when nothing is mounted.
        let _ = run("umount", &["--lazy", &self.place().display().to_string()]);
        for device in &self.devices {
            let _ = run("losetup", &["--detach", device]);
        }
    }
}

fn start(volumes: &Volumes) -> Daemon {
    Daemon::start_with(volumes.path(), "trial_folder = false", "")
}

fn status(daemon: &Daemon) -> Status {
    match daemon.call(Call::Status).unwrap() {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// Waits for the volume to be so, and checks that what is said names what is to be done.
fn wait_for_volume(daemon: &Daemon, state: RetentionState, says: &str) -> RetentionStatus {
    let retention = wait_for(&format!("the volume to be {state}"), SOON, || {
        Ok(Some(status(daemon).retention).filter(|retention| retention.state == state))
    });
    let retention = retention.unwrap();
    let detail = retention.detail.clone().unwrap_or_default();
    assert!(detail.contains(says), "{detail:?} says nothing of {says:?}");
    let alerts: Vec<AlertKind> = retention.alerts.iter().map(|alert| alert.kind).collect();
    match state {
        RetentionState::Ready => assert_eq!((detail.as_str(), alerts.as_slice()), ("", &[][..])),
        _ => assert_eq!(alerts, [AlertKind::RetentionLost]),
    }
    retention
}

/// The item waits for the volume, which is in this state.
fn assert_waits(daemon: &Daemon, state: &str) {
    let item = wait_for("the item to wait", SOON, || {
        let item = daemon.item("good");
        let waits = item.detail.as_ref().is_some_and(|detail| detail.contains(state));
        Ok(Some(item).filter(|item| item.state == ItemState::Fenced && waits))
    });
    let detail = item.unwrap().detail.unwrap();
    assert!(detail.contains("it goes on by itself as soon as the volume can be used"), "{detail}");
}

/// What a source holds until it is acknowledged.
struct Backlog {
    /// The sequence number before the first change.
    before: u64,
    changes: Vec<Frame>,
}

impl Backlog {
    /// Sends changes; in the middle of them something happens.
    async fn send(source: &mut Source, machine: &mut Machine, happens: impl FnOnce()) -> Backlog {
        let mut backlog = Backlog { before: machine.sequence, changes: Vec::new() };
        let mut happens = Some(happens);
        for number in 0..200 {
            if let Some(happens) = happens.take_if(|_| number == 100) {
                happens();
            }
            let change = machine.change();
            source.send(&change).await;
            backlog.changes.push(change);
        }
        backlog
    }

    /// Connects again and sends what is not durable yet. What was acknowledged on the connection before is.
    async fn resend(&self, daemon: &Daemon, before: &Source, machine: &mut Machine) {
        let mut source = connect(daemon).await;
        let (need, durable) = source.open(&machine.hello("good")).await;
        assert_eq!(need, Need::Nothing);
        assert!(durable >= before.durable_sequence, "{durable} < {}", before.durable_sequence);
        for change in &self.changes[(durable - self.before) as usize..] {
            source.send(change).await;
        }
        source.replicate(machine, 50).await;
    }
}

async fn connect(daemon: &Daemon) -> Source {
    Source::connect(&daemon.certificates, "source.example", daemon.port).await.unwrap()
}

/// Invariants 1 and 6: nothing is written into the bare folder, nothing acknowledged is lost, and the item goes on by
/// itself on the same volume only.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_an_item_waits_for_its_volume_and_goes_on_by_itself() {
    let Some(volumes) = Volumes::new() else { return };
    volumes.prepare(0);
    volumes.unmount();
    let daemon = start(&volumes);
    wait_for_volume(&daemon, RetentionState::NotMounted, "mount it");
    assert_waits(&daemon, "is not mounted");
    volumes.assert_bare();
    volumes.mount(0, "rw");
    let ready = wait_for_volume(&daemon, RetentionState::Ready, "");
    assert_eq!(ready.file_system.as_deref(), Some(UUIDS[0]));
    daemon.wait_for("good", ItemState::InitialSyncRequired);

    let mut machine = Machine::new(&[("d", 4 * MIB)], 3);
    let mut source = connect(&daemon).await;
    source.open(&machine.hello("good")).await;
    source.initial_sync(&mut machine).await;
    source.replicate(&mut machine, 50).await;
    let backlog = Backlog::send(&mut source, &mut machine, || volumes.stop()).await;
    wait_for_volume(&daemon, RetentionState::Lost, "e2fsck -f");
    assert_waits(&daemon, "is lost");
    // Nobody holds the volume.
    volumes.unmount();
    wait_for_volume(&daemon, RetentionState::NotMounted, "mount it");
    volumes.assert_bare();
    // Its exit status says that there was something to correct.
    let checked = Command::new("e2fsck").args(["-p", &volumes.devices[0]]).output().unwrap();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    volumes.mount(0, "ro");
    wait_for_volume(&daemon, RetentionState::ReadOnly, "mount -o remount,rw");
    assert_waits(&daemon, "is read-only");
    volumes.remount("rw");
    wait_for_volume(&daemon, RetentionState::Ready, "");
    daemon.wait_for("good", ItemState::Protected);

    backlog.resend(&daemon, &source, &mut machine).await;
    daemon.stop().await;
    volumes.unmount();
    assert_eq!(std::fs::read(volumes.path().join("good.img")).unwrap(), machine.disks[0].1);
}

/// Invariant 6: only the volume that was prepared and used is taken; another one only by order.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_another_volume_is_taken_only_by_order() {
    let Some(volumes) = Volumes::new() else { return };
    volumes.prepare(0);
    let daemon = start(&volumes);
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    // Nothing can be made read-only below an item that is open: it would not know.
    let place = volumes.place().display().to_string();
    assert!(run("mount", &["-o", "remount,ro", &place]).unwrap_err().to_string().contains("busy"));
    volumes.stop();
    assert_waits(&daemon, "is lost");
    volumes.unmount();
    volumes.mount(1, "rw");
    wait_for_volume(&daemon, RetentionState::NotOurs, "no marker file");
    assert_waits(&daemon, "is not ours");
    assert_eq!(std::fs::read_dir(volumes.place()).unwrap().count(), 1, "only lost+found");
    volumes.unmount();
    volumes.prepare(1);
    wait_for_volume(&daemon, RetentionState::NotOurs, "but the one used so far");
    assert_waits(&daemon, "is not ours");
    daemon.call(Call::Resync { item: "good".into() }).unwrap();
    let ready = wait_for_volume(&daemon, RetentionState::Ready, "");
    assert_eq!(ready.file_system.as_deref(), Some(UUIDS[1]));
    daemon.wait_for("good", ItemState::ResyncRequired);
    daemon.stop().await;
    volumes.unmount();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_was_never_prepared_is_not_used() {
    let Some(volumes) = Volumes::new() else { return };
    volumes.mount(0, "rw");
    let daemon = start(&volumes);
    wait_for_volume(&daemon, RetentionState::NotOurs, "mtctl retention prepare");
    assert_waits(&daemon, "is not ours");
    assert_eq!(std::fs::read_dir(volumes.place()).unwrap().count(), 1, "only lost+found");
    let place = Place { folder: volumes.place(), trial: false };
    RetentionVolume::mark(&place, FileSystemUuid::parse(UUIDS[0]).unwrap()).unwrap();
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    daemon.stop().await;
    volumes.unmount();
}

/// The machine's fstab and list of devices, changed for this thread and what it starts.
struct Namespace {
    devices: PathBuf,
    fstab: PathBuf,
}

impl Namespace {
    fn enter(volumes: &Volumes) -> Namespace {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        run("mount", &["--make-rprivate", "/"]).unwrap();
        let [devices, fstab] = ["devices", "fstab"].map(|name| volumes.path().join(name));
        std::fs::create_dir(&devices).unwrap();
        std::fs::write(&fstab, "").unwrap();
        let bind = |from: &Path, to: &str| {
            run("mount", &["--bind", &from.display().to_string(), to]).unwrap();
        };
        run("cp", &["-a", "/sys/dev/block/.", &devices.display().to_string()]).unwrap();
        bind(&devices, "/sys/dev/block");
        bind(&fstab, "/etc/fstab");
        // What a process finds as its own is that of its first thread.
        let task = std::fs::read_link("/proc/thread-self").unwrap();
        let own = format!("/proc/{}/mountinfo", std::process::id());
        bind(&Path::new("/proc").join(task).join("mountinfo"), &own);
        Namespace { devices, fstab }
    }

    /// Says which volume belongs at the folder.
    fn wants(&self, volumes: &Volumes, number: usize) {
        let (device, place) = (&volumes.devices[number], volumes.place());
        let line = format!("{device} {} ext4 rw,nofail 0 2\n", place.display());
        std::fs::write(&self.fstab, line).unwrap();
    }

    /// The first volume's device in the list of devices.
    fn listed(&self, volumes: &Volumes) -> PathBuf {
        let number = std::fs::metadata(&volumes.devices[0]).unwrap().rdev();
        self.devices.join(format!("{}:{}", number >> 8, number & 0xff))
    }
}

/// Invariants 1 and 6: a disk that was away is unmounted, checked and mounted again, and the item goes on.
#[test]
fn invariant_6_a_disk_that_was_away_is_mounted_again_by_itself() {
    let Some(volumes) = Volumes::new() else { return };
    let test = move || {
        let namespace = Namespace::enter(&volumes);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(a_disk_goes_away_and_comes_back(&volumes, &namespace));
        runtime.block_on(a_disk_comes_late(&volumes, &namespace));
    };
    // A thread of its own, because a namespace cannot be left.
    std::thread::spawn(test).join().unwrap();
}

async fn a_disk_goes_away_and_comes_back(volumes: &Volumes, namespace: &Namespace) {
    volumes.prepare(0);
    namespace.wants(volumes, 0);
    let daemon = start(volumes);
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    let mut machine = Machine::new(&[("d", 4 * MIB)], 3);
    let mut source = connect(&daemon).await;
    source.open(&machine.hello("good")).await;
    source.initial_sync(&mut machine).await;

    let listed = namespace.listed(volumes);
    let device = std::fs::read_link(&listed).unwrap();
    let backlog = Backlog::send(&mut source, &mut machine, || {
        std::fs::remove_file(&listed).unwrap();
        volumes.stop();
    });
    let backlog = backlog.await;
    wait_for_volume(&daemon, RetentionState::Lost, "it is then checked and mounted again by itself");
    assert_waits(&daemon, "is lost");
    std::os::unix::fs::symlink(device, &listed).unwrap();
    wait_for_volume(&daemon, RetentionState::Ready, "");
    daemon.wait_for("good", ItemState::Protected);
    backlog.resend(&daemon, &source, &mut machine).await;

    // It is missed although nothing was written meanwhile, and the item that did nothing lets it go.
    let device = std::fs::read_link(&listed).unwrap();
    std::fs::remove_file(&listed).unwrap();
    wait_for_volume(&daemon, RetentionState::Lost, "it is then checked and mounted again by itself");
    // A daemon that is started anew knows of it.
    let first = volumes.instance();
    daemon.stop().await;
    std::os::unix::fs::symlink(device, &listed).unwrap();
    let daemon = start(volumes);
    wait_for_volume(&daemon, RetentionState::Ready, "");
    daemon.wait_for("good", ItemState::Protected);
    assert_ne!(volumes.instance(), first, "it was not mounted anew");
    daemon.stop().await;
    assert_eq!(std::fs::read(volumes.path().join("good.img")).unwrap(), machine.disks[0].1);
}

async fn a_disk_comes_late(volumes: &Volumes, namespace: &Namespace) {
    volumes.unmount();
    let listed = namespace.listed(volumes);
    let device = std::fs::read_link(&listed).unwrap();
    std::fs::remove_file(&listed).unwrap();
    let daemon = start(volumes);
    wait_for_volume(&daemon, RetentionState::NotMounted, "waiting for its disk");
    volumes.assert_bare();
    std::os::unix::fs::symlink(device, &listed).unwrap();
    wait_for_volume(&daemon, RetentionState::Ready, "");
    daemon.wait_for("good", ItemState::Protected);
    daemon.stop().await;

    // Another disk in its place is not even checked.
    volumes.unmount();
    namespace.wants(volumes, 1);
    let daemon = start(volumes);
    wait_for("the other disk to be refused", SOON, || {
        let detail = status(&daemon).retention.detail.unwrap_or_default();
        Ok(UUIDS.iter().all(|uuid| detail.contains(uuid)).then_some(()))
    })
    .unwrap();
    volumes.assert_bare();
    daemon.stop().await;
}
