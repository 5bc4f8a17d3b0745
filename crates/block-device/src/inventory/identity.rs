//! Which disk it is: its SCSI id, where it hangs, and how it reads its own name.

use super::devices::Device;
use super::{Controller, NoScsiId, ScsiAddress, text};
use crate::scsi_id::ScsiId;
use crate::system::System;
use crate::vpd::{self, Page};

/// Who a disk says it is, seen through one path.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) vendor: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) id: Result<ScsiId, NoScsiId>,
    /// What udev's database says, when that is another id than the disk's.
    pub(super) other: Option<ScsiId>,
}

/// The pages are asked first, since the kernel has them from the disk itself; udev's database can be older than the
/// disk that is there now.
pub(super) fn identity(system: &System, device: &Device) -> Identity {
    let attribute = |file: &str| system.attribute(format!("{}/device/{file}", device.folder));
    // virtio tells its PCI vendor here.
    let vendor =
        attribute("vendor").map(|text| text.trim().to_owned()).filter(|text| !text.starts_with("0x"));
    let model = attribute("model").map(|text| text.trim().to_owned());
    let (maker, kind) = (vendor.as_deref().unwrap_or_default(), model.as_deref().unwrap_or_default());
    let page = |file: &str| system.bytes(format!("{}/device/{file}", device.folder)).unwrap_or_default();
    let serial = vpd::serial_of_page_80(&page("vpd_pg80"));
    let told = vpd::id_of_page_83(&page("vpd_pg83"), maker, kind);
    let garbled = told == Page::Garbled || serial == Page::Garbled;
    let serial = match serial {
        Page::Says(serial) => Some(serial),
        _ => attribute("serial").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
    };
    let of_udev = udev_id(system, device);
    let is_scsi = address(system, device).is_some();
    let own = match told {
        Page::Says(id) => Some(id),
        // What it would say cannot be known, so its serial number is no name, unless udev has made that its name.
        Page::Garbled => None,
        Page::Silent => serial.as_ref().and_then(|serial| vpd::id_of_serial(serial, maker, kind)),
    };
    let id = match own.filter(|_| is_scsi) {
        Some(id) => Ok(id),
        None => of_udev.clone().ok_or(if !is_scsi {
            NoScsiId::NotScsi
        } else if garbled {
            NoScsiId::Garbled
        } else if is_vmware(maker, kind) {
            NoScsiId::EnableUuidUnset
        } else {
            NoScsiId::NoneGiven
        }),
    };
    let other = of_udev.filter(|other| id.as_ref().is_ok_and(|id| id != other));
    Identity { vendor, model, serial, id, other }
}

/// Whether the disk is one that VMware makes of a VMDK.
pub(super) fn is_vmware(vendor: &str, model: &str) -> bool {
    vendor.trim() == "VMware" && model.trim().starts_with("Virtual disk")
}

/// `ID_SERIAL`, by which multipath knows the disk; only where `scsi_id` made it, as `ID_BUS` tells: those of ATA and
/// USB disks are made by other programs in another way.
fn udev_id(system: &System, device: &Device) -> Option<ScsiId> {
    let record = system.bytes(format!("/run/udev/data/b{}", device.number)).ok()?;
    let properties = text::udev_properties(&String::from_utf8_lossy(&record));
    properties.get("ID_BUS").filter(|bus| *bus == "scsi")?;
    ScsiId::parse(properties.get("ID_SERIAL")?)
}

/// The name of the SCSI device: host, channel, target, unit.
pub(super) fn address(system: &System, device: &Device) -> Option<ScsiAddress> {
    let link = std::fs::read_link(system.path(format!("{}/device", device.folder))).ok()?;
    let numbers: Vec<&str> = link.file_name()?.to_str()?.split(':').collect();
    let [host, channel, target, lun] = numbers[..] else { return None };
    Some(ScsiAddress {
        host: host.parse().ok()?,
        channel: channel.parse().ok()?,
        target: target.parse().ok()?,
        lun: lun.parse().ok()?,
    })
}

/// The nearest ancestor that is known decides: a folder's name for what has a bus of its own, else the numbers of the
/// PCI function, else its driver.
pub(super) fn controller(system: &System, device: &Device) -> Controller {
    let Ok(folder) = system.path(format!("{}/device", device.folder)).canonicalize() else {
        let has_no_bus = system.path(&device.folder).canonicalize();
        let is_virtual = has_no_bus.is_ok_and(|path| path.to_string_lossy().contains("/devices/virtual/"));
        return if is_virtual { Controller::Virtual } else { Controller::Other };
    };
    let known = folder.ancestors().take_while(|path| !path.ends_with("sys")).find_map(|path| {
        let read = |file: &str| std::fs::read_to_string(path.join(file)).ok();
        let number = |file: &str| u32::from_str_radix(read(file)?.trim().strip_prefix("0x")?, 16).ok();
        let driver = std::fs::read_link(path.join("driver")).ok();
        by_name(path.file_name()?.to_str()?)
            .or_else(|| by_pci(number("vendor")?, number("device")?))
            .or_else(|| by_driver(driver?.file_name()?.to_str()?))
    });
    known.unwrap_or(Controller::Other)
}

fn by_name(folder: &str) -> Option<Controller> {
    let numbered = |prefix: &str| {
        folder.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    match () {
        () if numbered("ata") => Some(Controller::Ata),
        () if numbered("session") => Some(Controller::Iscsi),
        () if numbered("virtio") => Some(Controller::Virtio),
        () if numbered("nvme") => Some(Controller::Nvme),
        () if folder == "virtual" => Some(Controller::Virtual),
        () => None,
    }
}

/// Vendors: 15ad VMware, 1000 LSI, 104b BusLogic, 1af4 virtio.
fn by_pci(vendor: u32, device: u32) -> Option<Controller> {
    match (vendor, device) {
        (0x15ad, 0x07c0) => Some(Controller::ParavirtualScsi),
        (0x15ad, 0x07e0) => Some(Controller::Ata),
        (0x15ad, 0x07f0) => Some(Controller::Nvme),
        (0x1000, 0x0030 | 0x0012) => Some(Controller::LsiParallel),
        (0x1000, 0x0054) => Some(Controller::LsiSas),
        (0x104b, 0x1040) => Some(Controller::BusLogic),
        (0x1af4, _) => Some(Controller::Virtio),
        _ => None,
    }
}

fn by_driver(driver: &str) -> Option<Controller> {
    match driver {
        "vmw_pvscsi" => Some(Controller::ParavirtualScsi),
        "mptspi" | "sym53c8xx" => Some(Controller::LsiParallel),
        "mptsas" => Some(Controller::LsiSas),
        "BusLogic" => Some(Controller::BusLogic),
        "ahci" | "ata_piix" => Some(Controller::Ata),
        "nvme" => Some(Controller::Nvme),
        "virtio-pci" | "virtio_scsi" => Some(Controller::Virtio),
        _ => None,
    }
}
