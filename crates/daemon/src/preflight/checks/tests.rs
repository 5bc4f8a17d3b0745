//! One small test for each rule: a good machine with one thing broken, and the one check that says so.

use crate::preflight::server::Failure;
use crate::preflight::server::certificate::Validity;
use crate::preflight::testing::{NOW, RETENTION_ID, SYSTEM_ID, TARGET_ID, TestMachine, free_disk};
use crate::preflight::{Unknown, Verdict, all};
use Verdict::{CannotTell, Failed, Warning};
use block_device::ScsiId;
use block_device::inventory::{Controller, DeviceNumber, MultipathMap, NoScsiId, Signature, Use};
use disk::Bytes;

/// Breaks a good machine; every check but these must pass, and these end so.
fn breaks(expected: &[(&str, Verdict)], change: impl FnOnce(&mut TestMachine)) {
    let mut machine = TestMachine::good();
    change(&mut machine);
    let report = machine.report();
    let changed: Vec<(&str, Verdict)> = report
        .rows
        .iter()
        .filter(|row| row.verdict != Verdict::Passed)
        .map(|row| (row.check.id, row.verdict))
        .collect();
    assert_eq!(changed, expected, "{:#}", report.json());
    for row in report.rows.iter().filter(|row| row.verdict != Verdict::Passed) {
        let mends = row.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty());
        assert!(mends || row.verdict == CannotTell, "{} has no remedy", row.check.id);
        assert!(!row.found.is_empty());
    }
}

#[test]
fn a_good_master_target_passes_everything() {
    breaks(&[], |_| {});
}

/// Makes a test of each line, and a list of the checks that have one.
macro_rules! each_breaks_one {
    ($($test:ident: $id:literal $verdict:expr, |$machine:ident| $change:expr;)*) => {
        $(
            #[test]
            fn $test() {
                breaks(&[($id, $verdict)], |$machine| { $change; });
            }
        )*
        const TESTED: &[&str] = &[$($id),*];
    };
}

each_breaks_one! {
    another_distribution: "operating-system" Warning, |m| m.edit("/etc/os-release", "ID=ubuntu", "ID=debian");
    another_release: "operating-system" Warning, |m| m.edit("/etc/os-release", "\"16.04\"", "\"18.04\"");
    a_32_bit_system: "operating-system" Warning, |m| m.edit("/dpkg", "amd64 dpkg", "i386 dpkg");
    no_os_release: "operating-system" CannotTell, |m| m.remove("/etc/os-release");
    a_kernel_one_too_new: "kernel" Failed, |m| m.write("/proc/sys/kernel/osrelease", "4.4.0-82-generic\n");
    a_kernel_of_hwe_too_new: "kernel" Failed, |m| m.write("/proc/sys/kernel/osrelease", "4.15.0-20-generic\n");
    a_kernel_of_another_flavour: "kernel" Failed, |m| m.write("/proc/sys/kernel/osrelease", "4.4.0-81-aws\n");
    a_kernel_that_is_rubbish: "kernel" Failed, |m| m.write("/proc/sys/kernel/osrelease", "\u{1b}[2J\n");
    a_meta_package_not_held: "kernel-pinned" Failed, |m| m.edit("/dpkg", "hold ok installed amd64 linux-generic", "install ok installed amd64 linux-generic");
    the_running_image_not_held: "kernel-pinned" Failed, |m| m.edit("/dpkg", "hold ok installed amd64 linux-image-4", "install ok installed amd64 linux-image-4");
    upgrades_by_themselves: "automatic-updates" Warning, |m| m.program("apt-config", "echo 'APT::Periodic::Unattended-Upgrade \"1\";'");
    no_apt: "automatic-updates" CannotTell, |m| m.remove("/sbin/apt-config");
    a_package_missing: "packages" Failed, |m| m.uninstall("kpartx");
    a_physical_machine: "vmware-vm" Failed, |m| { m.write("/sys/class/dmi/id/sys_vendor", "Dell Inc.\n"); m.program("systemd-detect-virt", "echo none; exit 1") };
    another_hypervisor: "vmware-vm" Failed, |m| { m.write("/sys/class/dmi/id/sys_vendor", "QEMU\n"); m.program("systemd-detect-virt", "echo kvm") };
    no_dmi_and_no_word: "vmware-vm" CannotTell, |m| { m.remove("/sys/class/dmi"); m.remove("/sbin/systemd-detect-virt") };
    no_tools: "vmware-tools" Failed, |m| m.remove("/proc/501");
    tools_started_by_hand: "vmware-tools" Warning, |m| m.program("systemctl", "case \"$*\" in *vm*) echo inactive; exit 3;; is-active*) echo active;; *) echo enabled;; esac");
    three_cores: "cores" Failed, |m| m.write("/sys/devices/system/cpu/online", "0-2\n");
    no_list_of_cores: "cores" CannotTell, |m| m.remove("/sys/devices/system/cpu/online");
    four_gigabytes: "memory" Failed, |m| m.write("/proc/meminfo", "MemTotal: 4194304 kB\n");
    memory_that_is_rubbish: "memory" CannotTell, |m| m.write("/proc/meminfo", "\0\0");
    a_small_system_disk: "system-disk" Failed, |m| m.disk("sda").size = Bytes(99_999_999_999);
    root_on_lvm: "root-not-on-lvm" Failed, |m| m.write("/sys/dev/block/8:1/dm/uuid", "LVM-abc\n");
    root_above_lvm: "root-not-on-lvm" Failed, |m| { m.write("/sys/dev/block/8:1/slaves/dm-7/x", ""); m.write("/sys/class/block/dm-7/dm/uuid", "LVM-abc\n") };
    var_on_lvm_by_name: "root-not-on-lvm" Failed, |m| { m.edit("/proc/self/mountinfo", "30 22", "29 22 0:40 / /var rw - btrfs /dev/mapper/vg-var rw\n30 22"); m.write("/sys/block/dm-7/dm/name", "vg-var\n"); m.write("/sys/block/dm-7/dm/uuid", "LVM-abc\n") };
    enable_uuid_unset: "scsi-ids" Failed, |m| { let disk = m.disk("sda"); disk.scsi_id = None; disk.no_scsi_id = Some(NoScsiId::EnableUuidUnset) };
    a_garbled_id: "scsi-ids" Failed, |m| { let disk = m.disk("sda"); disk.scsi_id = None; disk.no_scsi_id = Some(NoScsiId::Garbled) };
    an_id_of_another_maker: "scsi-ids" Warning, |m| m.disk("sda").scsi_id = ScsiId::parse("360014051234567890123456789012345");
    an_id_that_udev_does_not_know: "scsi-ids" Failed, |m| m.disk("sda").other_scsi_id = ScsiId::parse(TARGET_ID);
    a_cloned_disk: "duplicate-scsi-ids" Failed, |m| m.add_disk(free_disk("sdd", 48, SYSTEM_ID, 1 << 30));
    a_paravirtual_controller: "controllers" Warning, |m| m.disk("sdc").paths[0].controller = Controller::ParavirtualScsi;
    too_many_disks: "disk-count" Warning, |m| for n in 0..58_u64 { m.add_disk(free_disk(&format!("sdx{n}"), 64 + n, &format!("36000c29{n:025}"), 1 << 30)) };
    no_multipathd: "multipath-running" Failed, |m| { m.remove("/proc/502"); m.program("systemctl", "case \"$*\" in *multipath*) echo inactive;; is-active*) echo active;; *) echo enabled;; esac") };
    the_root_disk_claimed: "multipath-root-disk" Failed, |m| m.disk("sda").map = Some(map(SYSTEM_ID));
    a_target_not_mapped: "multipath-disks" Failed, |m| m.disk("sdc").map = None;
    a_kept_disk_not_attached: "multipath-disks" Failed, |m| m.want("36000c29ddddddddddddddddddddddddd");
    a_fragment_changed_by_hand: "multipath-disks" CannotTell, |m| m.write("/etc/multipath/conf.d/master-target.conf", "blacklist_exceptions {\n}\n");
    a_failed_path: "multipath-paths" Warning, |m| m.disk("sdc").paths[0].path_state = Some("failed".into());
    an_offline_path: "multipath-paths" Warning, |m| m.disk("sdc").paths[0].device_state = Some("offline".into());
    no_lvm_filter: "lvm-filter" Failed, |m| m.program("lvmconfig", "echo '  Configuration node devices/global_filter not found' >&2; exit 5");
    a_filter_that_takes_a_replica: "lvm-filter" Failed, |m| m.program("lvmconfig", "echo 'global_filter=[\"a|^/dev/sdc|\",\"r|.*|\"]'");
    a_filter_that_takes_a_link_to_a_replica: "lvm-filter" Failed, |m| { m.folder("/dev/disk/by-id", 0o755); std::os::unix::fs::symlink("../../dm-1", m.path("/dev/disk/by-id/dm-uuid-x")).unwrap(); m.program("lvmconfig", "echo 'global_filter=[\"a|dm-uuid|\",\"r|.*|\"]'") };
    a_filter_that_takes_what_comes_later: "lvm-filter" Failed, |m| m.program("lvmconfig", "echo 'global_filter=[\"r|sd[abc]|\",\"r|36000c29[abc]|\",\"r|dm-|\"]'");
    a_filter_that_is_rubbish: "lvm-filter" CannotTell, |m| m.program("lvmconfig", "echo 'global_filter=[\"q\"]'");
    a_devices_file: "lvm-filter" CannotTell, |m| m.write("/etc/lvm/devices/system.devices", "");
    mdadm_assembles_everything: "raid-assembly" Failed, |m| m.recorded("mdadm");
    mdadm_assembles_some: "raid-assembly" Failed, |m| { m.recorded("mdadm"); m.write("/etc/mdadm/mdadm.conf", "AUTO +1.x -all\n") };
    mdadm_cannot_be_read: "raid-assembly" CannotTell, |m| { m.recorded("mdadm"); m.folder("/etc/mdadm/mdadm.conf", 0o755) };
    a_small_retention_disk: "retention-disk" Warning, |m| m.disk("sdb").size = Bytes(500_000_000_000);
    retention_not_mounted: "retention-mounted" Failed, |m| m.write("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
    retention_of_another_kind: "retention-eligible" Failed, |m| m.edit("/proc/self/mountinfo", "- ext4 /dev/mapper", "- vfat /dev/mapper");
    retention_read_only: "retention-eligible" Failed, |m| m.edit("/proc/self/mountinfo", "/mnt/retention rw", "/mnt/retention ro");
    retention_used_otherwise: "retention-eligible" Failed, |m| m.disk("sdb").uses.push(Use::Swap { device: "/dev/sdb2".into() });
    retention_on_the_system_disk: "retention-eligible" Failed, |m| m.disk("sdb").uses.push(Use::System { place: "/boot".into() });
    retention_on_a_target: "retention-eligible" Failed, |m| m.edit("/etc/master-target/mtd.toml", TARGET_ID, RETENTION_ID);
    no_fstab_entry: "retention-fstab" Failed, |m| m.write("/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    an_fstab_entry_by_device: "retention-fstab" Warning, |m| m.edit("/etc/fstab", "/dev/mapper/36000c29bbbbbbbbbbbbbbbbbbbbbbbb2", "/dev/sdb");
    an_fstab_entry_by_alias: "retention-fstab" Warning, |m| m.edit("/etc/fstab", "/dev/mapper/36000c29bbbbbbbbbbbbbbbbbbbbbbbb2", "/dev/mapper/mpatha");
    an_fstab_entry_without_nofail: "retention-fstab" Warning, |m| m.edit("/etc/fstab", "rw,nofail", "rw");
    an_fstab_entry_with_noauto: "retention-fstab" Failed, |m| m.edit("/etc/fstab", "rw,nofail", "noauto,nofail");
    an_address_not_in_hosts: "hosts-file" Failed, |m| m.edit("/etc/hosts", "10.0.0.5", "10.0.0.6");
    no_address: "ipv4-address" Failed, |m| m.program("ip", "echo '2: ens160    inet6 fe80::1/64 scope link'");
    an_adapter_brought_up_by_hand: "adapters-at-boot" Failed, |m| m.write("/etc/network/interfaces", "iface ens160 inet dhcp\n");
    a_second_adapter_forgotten: "adapters-at-boot" Failed, |m| m.write("/sys/class/net/ens192/device/vendor", "");
    a_proxy_in_the_environment: "proxy" Failed, |m| m.environment.push(("https_proxy".into(), "http://eve:secret@proxy:3128".into()));
    a_proxy_for_everybody: "proxy" Failed, |m| m.write("/etc/environment", "PATH=/bin\nhttp_proxy=\"http://proxy:3128\"\n");
    a_proxy_in_a_profile: "proxy" Failed, |m| m.write("/root/.profile", "export HTTPS_PROXY=http://proxy:3128\n");
    a_process_server_away: "process-server" Failed, |m| m.process_server = Err(Failure::Filtered { address: "ps.example:9443".into() });
    an_expired_certificate: "cs-certificate" Failed, |m| m.configuration_server.certificate = Some(Validity { from: 0, until: NOW - 1 });
    a_certificate_of_tomorrow: "cs-certificate" Failed, |m| m.configuration_server.certificate = Some(Validity { from: NOW + 1, until: NOW + 2 });
    a_newer_master_target: "version" Failed, |m| m.version = "9.5.0".into();
    a_version_that_is_none: "version" CannotTell, |m| m.version = "new".into();
    a_clock_nobody_keeps: "clock-synchronised" Warning, |m| m.program("timedatectl", "echo 'NTP synchronized: no'");
    a_clock_of_which_nobody_tells: "clock-synchronised" CannotTell, |m| m.remove("/sbin/timedatectl");
    a_clock_behind: "clock-skew" Failed, |m| m.configuration_server.clock = Some((NOW + 301, NOW));
    a_server_without_a_clock: "clock-skew" CannotTell, |m| m.configuration_server.clock = None;
    run_from_where_it_was_unpacked: "installation" Failed, |m| m.program = "/usr/local/src/mt/mtctl".into();
    run_from_a_home_folder: "installation" Failed, |m| m.program = "/home/eve/mtctl".into();
    state_open_to_everybody: "state-folders" Failed, |m| m.folder("/var/lib/master-target", 0o755);
    the_service_stopped: "service" Warning, |m| m.program("systemctl", "case \"$*\" in 'is-active master-target'*) echo inactive; exit 3;; is-active*) echo active;; *) echo enabled;; esac");
    the_service_not_enabled: "service" Warning, |m| m.program("systemctl", "case \"$*\" in 'is-enabled master-target'*) echo disabled; exit 1;; is-active*) echo active;; *) echo enabled;; esac");
    nobody_looked_for_snapshots: "snapshots" CannotTell, |m| m.edit("/var/lib/master-target/attestations.json", "\"snapshots\"", "\"x\"");
    an_answer_too_old: "storage-vmotion" CannotTell, |m| {
        let check = crate::preflight::find("storage-vmotion").unwrap();
        crate::preflight::attest(&m.path("/var/lib/master-target"), check, "eve", NOW - 31 * 86_400).unwrap()
    };
}

fn map(id: &str) -> MultipathMap {
    let number = DeviceNumber { major: 252, minor: 9 };
    MultipathMap { name: id.into(), kernel_name: "dm-9".into(), number, wwid: id.into() }
}

/// Checks that cannot break alone, each with the test that breaks it.
const BREAK_WITH_OTHERS: [&str; 2] = ["configuration-server", "configuration"];

#[test]
fn every_check_has_a_test_that_breaks_it() {
    for check in all() {
        let tested = TESTED.contains(&check.id) || BREAK_WITH_OTHERS.contains(&check.id);
        assert!(tested, "{} has no test that breaks it", check.id);
    }
    let mut ids: Vec<&str> = all().map(|check| check.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id occurs twice");
}

/// What the server does not tell cannot be told either.
#[test]
fn a_configuration_server_that_cannot_be_reached() {
    let address = || "cs.example:443".to_owned();
    let failures = [
        Failure::Refused { address: address() },
        Failure::Filtered { address: address() },
        Failure::PlainHttp { address: address() },
        Failure::Unresolved { name: "cs.example".into(), why: "unknown".into() },
        Failure::AnotherServer { address: address(), status: 404 },
    ];
    for failure in failures {
        let silent = [
            ("configuration-server", Failed),
            ("cs-certificate", CannotTell),
            ("version", CannotTell),
            ("clock-skew", CannotTell),
        ];
        breaks(&silent, |m| {
            m.configuration_server.version = Err(failure);
            m.configuration_server.certificate = None;
            m.configuration_server.clock = None;
        });
    }
}

#[test]
fn a_machine_that_is_not_registered_does_not_fail() {
    let unknown = ["configuration-server", "cs-certificate", "version", "clock-skew"];
    breaks(&unknown.map(|id| (id, CannotTell)), |m| {
        m.edit("/etc/master-target/mtd.toml", "address = \"cs.example\"", "");
    });
}

#[test]
fn a_configuration_with_an_error() {
    let also = ["configuration-server", "cs-certificate", "version", "process-server", "clock-skew"];
    let mut expected = also.map(|id| (id, CannotTell)).to_vec();
    expected.push(("configuration", Failed));
    breaks(&expected, |m| m.edit("/etc/master-target/mtd.toml", "[[item]]", "[[itme]]"));
}

#[test]
fn no_configuration_yet() {
    let mut expected = ["configuration-server", "cs-certificate", "version", "clock-skew"]
        .map(|id| (id, CannotTell))
        .to_vec();
    expected.push(("configuration", Failed));
    breaks(&expected, |m| m.remove("/etc/master-target/mtd.toml"));
}

#[test]
fn a_proxy_that_is_not_for_the_configuration_server_does_no_harm() {
    breaks(&[], |m| {
        m.write("/etc/environment", "http_proxy=http://proxy:3128\nno_proxy=localhost,.example\n")
    });
}

#[test]
fn other_ways_to_be_right() {
    breaks(&[], |m| {
        m.program("timedatectl", "echo 'NTP synchronized: no'");
        m.program("vmware-toolbox-cmd", "echo Enabled");
        m.write("/etc/network/interfaces", "auto lo\n");
        m.write("/run/systemd/network/10-ens160.network", "[Match]\nName=ens160\n");
        m.remove("/sys/devices/system/cpu/online");
        m.write("/proc/cpuinfo", "processor\t: 0\nprocessor\t: 1\nprocessor\t: 2\nprocessor\t: 3\n");
        m.remove("/sys/class/dmi");
        m.write("/proc/sys/kernel/osrelease", "4.10.0-24-generic\n");
        m.program("lvmconfig", "echo 'global_filter=[\"a|^/dev/sda[0-9]*$|\",\"r|.*|\"]'");
    });
}

#[test]
fn a_fresh_machine_says_what_to_do_about_the_retention_volume() {
    let expected =
        [("retention-mounted", Failed), ("retention-eligible", CannotTell), ("retention-fstab", Failed)];
    breaks(&expected, |m| {
        m.write("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        m.write("/etc/fstab", "");
        let disk = m.disk("sdb");
        disk.uses.clear();
        disk.signature = None;
        disk.role = block_device::inventory::Role::Free;
    });
}

#[test]
fn a_system_that_needs_lvm_lets_its_own_disk_through() {
    let mut machine = TestMachine::good();
    machine.disk("sda").partitions[0].signature = Some(Signature::LvmMember { group: None });
    machine.program("lvmconfig", "echo 'node not found' >&2; exit 5");
    let row = super::super::find("lvm-filter").unwrap().look(&machine.machine());
    let remedy = row.remedy.unwrap();
    assert!(remedy.contains(&format!("a|^/dev/disk/by-id/scsi-{SYSTEM_ID}(-part[0-9]+)?$|")), "{remedy}");
}

/// Nothing of the machine is there at all.
#[test]
fn an_empty_machine_panics_nowhere() {
    let machine = TestMachine::good();
    for path in ["/proc", "/sys", "/etc", "/sbin", "/var"] {
        machine.remove(path);
    }
    let mut machine = machine;
    machine.inventory = Err(Unknown::because("no sysfs"));
    assert!(machine.report().rows.iter().all(|row| !row.found.is_empty()));
}

/// Whatever a file or a program says.
#[test]
fn rubbish_everywhere_panics_nowhere() {
    let machine = TestMachine::good();
    let rubbish = |seed: u32| -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        std::iter::repeat_with(next).take(600).collect()
    };
    let files = [
        "/etc/os-release",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/hostname",
        "/proc/meminfo",
        "/proc/self/mountinfo",
        "/sys/devices/system/cpu/online",
        "/sys/class/dmi/id/sys_vendor",
        "/etc/hosts",
        "/etc/network/interfaces",
        "/etc/fstab",
        "/etc/master-target/mtd.toml",
        "/etc/environment",
        "/etc/multipath/conf.d/master-target.conf",
        "/var/lib/master-target/attestations.json",
        "/noise",
    ];
    for (seed, path) in (0..).zip(files) {
        machine.write(path, "");
        std::fs::write(machine.path(path), rubbish(seed)).unwrap();
    }
    for program in
        ["ip", "lvmconfig", "apt-config", "timedatectl", "systemctl", "dpkg-query", "systemd-detect-virt"]
    {
        machine.program(program, &format!("cat {}", machine.path("/noise").display()));
    }
    let report = machine.report();
    assert!(report.rows.iter().all(|row| !row.found.chars().any(char::is_control)));
}
