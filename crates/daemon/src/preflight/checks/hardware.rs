//! The virtual machine: hypervisor, tools, processors, memory.

use crate::preflight::facts::texts::{cpus_in_list, total_memory};
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::PROGRAM_TIMEOUT;
use disk::Bytes;

pub(super) static CHECKS: [Check; 4] = [
    Check {
        id: "vmware-vm",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "VMware virtual machine",
        needed: "a VMware virtual machine, not a physical one and not of another hypervisor",
        why: "The disks of the machines that come home are VMDKs that VMware attaches to this one, so it must be a \
              VMware virtual machine, on a host that sees their datastores. The old product asked for the platform at \
              installation (-v VmWare) and did not install when it was missing or wrong; here it is looked at.",
        look: vmware_vm,
        mend: None,
    },
    Check {
        id: "vmware-tools",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "VMware tools",
        needed: "open-vm-tools, or VMware's own tools, run and start at boot",
        why: "vCenter asks the tools about the machine. Without them the old product's list of datastores stayed \
              empty and reprotect could not begin. (It also stays empty when the vCenter account is read-only, which \
              cannot be seen from here.)",
        look: vmware_tools,
        mend: None,
    },
    Check {
        id: "cores",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "Processor cores",
        needed: "4 or more",
        why: "Each machine that is replicated is compressed, checked and written by several threads. The published \
              minimum is 4 cores; with fewer, replication falls behind when a few machines come home at once.",
        look: cores,
        mend: None,
    },
    Check {
        id: "memory",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "Memory",
        needed: "6 GB or more",
        why: "The published minimum is 6 GB. What the kernel and the firmware keep for themselves is allowed for: \
              5.5 GiB that the kernel hands out are enough. With less the old product failed with \"host memory \
              short\" once several machines replicated.",
        look: memory,
        mend: None,
    },
];

const ANOTHER_MACHINE: &str = "install the master target in a VMware virtual machine";

fn vmware_vm(machine: &Machine) -> Look {
    let dmi = |name: &str| machine.system().attribute(format!("/sys/class/dmi/id/{name}"));
    let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
    if let Some(vendor) = vendor.as_deref().filter(|vendor| vendor.starts_with("VMware")) {
        return Finding::good(format!("{vendor} {}", product.unwrap_or_default()).trim().to_owned());
    }
    let detected = machine.system().run("systemd-detect-virt", &["--vm"], PROGRAM_TIMEOUT);
    let detected = detected.map(|output| output.stdout.trim().to_owned());
    let described = [vendor, product].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let seen = if described.is_empty() { String::new() } else { format!(" ({described})") };
    match detected.as_deref() {
        Ok("vmware") => Finding::good("VMware, by its processor"),
        Ok("none") => Finding::broken(format!("a physical machine{seen}"), ANOTHER_MACHINE),
        Ok(other) if !other.is_empty() => {
            Finding::broken(format!("a virtual machine of {other}{seen}"), ANOTHER_MACHINE)
        }
        _ if !described.is_empty() => Finding::broken(format!("{described}, not VMware"), ANOTHER_MACHINE),
        Ok(_) => Err(Unknown::because("the machine has no DMI, and systemd-detect-virt says nothing")),
        Err(error) => Err(Unknown::because(format!("the machine has no DMI, and {error}"))),
    }
}

fn vmware_tools(machine: &Machine) -> Look {
    let remedy = "apt-get install open-vm-tools; systemctl enable open-vm-tools; then restart this machine";
    if !machine.runs("vmtoolsd") {
        return Finding::broken("no process vmtoolsd runs", remedy);
    }
    match machine.active(&["open-vm-tools", "vmtoolsd", "vmware-tools"])? {
        true => Finding::good("vmtoolsd runs"),
        false => Finding::weak(
            "vmtoolsd runs, but no unit of systemd started it: it may be missing after a restart",
            "systemctl enable --now open-vm-tools",
        ),
    }
}

fn cores(machine: &Machine) -> Look {
    const NEEDED: u32 = 4;
    let listed = machine.system().attribute("/sys/devices/system/cpu/online");
    let cores = match listed.as_deref().and_then(cpus_in_list) {
        Some(cores) => cores,
        None => {
            let text = machine.system().text("/proc/cpuinfo")?;
            let count = text.lines().filter(|line| line.starts_with("processor")).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        }
    };
    match cores {
        0 => Err(Unknown::because("the kernel lists no processor")),
        NEEDED.. => Finding::good(cores.to_string()),
        _ => Finding::broken(
            format!("{cores}"),
            "shut this machine down, give it 4 cores in its settings, and start it",
        ),
    }
}

fn memory(machine: &Machine) -> Look {
    /// 5.5 GiB: 6 GB less what firmware and kernel keep.
    const ENOUGH: u64 = 11 << 29;
    let text = machine.system().text("/proc/meminfo")?;
    let total = total_memory(&text).ok_or_else(|| Unknown::because("/proc/meminfo has no MemTotal"))?;
    let found = Bytes(total).to_string();
    match total >= ENOUGH {
        true => Finding::good(found),
        false => {
            Finding::broken(found, "shut this machine down, give it 6 GB of memory or more, and start it")
        }
    }
}
