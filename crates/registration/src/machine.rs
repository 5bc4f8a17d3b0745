//! Who this machine is, and the passphrase that it was given.

use crate::error::{Error, Result};
use block_device::System;
use control_api::registration::{Host, HostKind, Passphrase};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Where the kernel tells the UUID of the BIOS, to root alone.
const DMI_UUID: &str = "/sys/class/dmi/id/product_uuid";
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The machine as it describes itself; `name` takes the place of its host name.
pub fn host(
    system: &System,
    kind: HostKind,
    name: Option<&str>,
    version: &str,
    addresses: Vec<IpAddr>,
) -> Result<Host> {
    let machine_id = MACHINE_ID.iter().find_map(|path| system.attribute(path));
    let machine_id = machine_id.ok_or_else(|| Error::Machine {
        object: MACHINE_ID[0],
        why: "this machine has no id".into(),
        next: "make one with systemd-machine-id-setup",
    })?;
    let own = || system.attribute(HOST_NAME).unwrap_or_default();
    let described = Host {
        kind,
        name: name.map_or_else(own, str::to_owned),
        dmi_uuid: system.attribute(DMI_UUID).map(|uuid| uuid.to_ascii_lowercase()),
        machine_id: machine_id.to_ascii_lowercase(),
        version: version.to_owned(),
        addresses,
    };
    // A BIOS that has not been given a UUID tells all zeros or all ones, which says nothing.
    let without = Host { dmi_uuid: None, ..described.clone() };
    let host =
        if described.check().is_err_and(|wrong| wrong.field == "dmi_uuid") { without } else { described };
    host.check().map_err(|wrong| Error::Machine {
        object: "this machine",
        why: wrong.to_string(),
        next: if wrong.field == "name" {
            "give another name with --name"
        } else {
            "look at what the machine says of itself"
        },
    })?;
    Ok(host)
}

/// The passphrase in a file, and a warning when others can read it.
pub fn passphrase(path: &Path) -> Result<(Passphrase, Option<String>)> {
    let failed = |cause| Error::PassphraseFile { path: path.to_owned(), cause };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let mode = std::fs::metadata(path).map_err(failed)?.mode();
    let passphrase =
        Passphrase::parse(&text).map_err(|cause| Error::NoPassphrase { path: path.to_owned(), cause })?;
    let shown = path.display();
    let warning = (mode & 0o077 != 0).then(|| {
        format!(
            "{shown}: other users can read the passphrase; chmod 600 {shown}, or remove it after registering"
        )
    });
    Ok((passphrase, warning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn machine(uuid: &str) -> (tempfile::TempDir, System) {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [(DMI_UUID, uuid), (MACHINE_ID[0], "0123456789abcdef0123456789abcdef\n"), (HOST_NAME, "mt01\n")];
        for (path, text) in files {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let system = System::at(folder.path());
        (folder, system)
    }

    #[test]
    fn a_machine_tells_who_it_is() {
        let (_folder, system) = machine("564D5CF0-11AA-22BB-33CC-0123456789AB\n");
        let found = host(&system, HostKind::MasterTarget, None, "9.4.0", Vec::new()).unwrap();
        assert_eq!(found.name, "mt01");
        assert_eq!(found.dmi_uuid.as_deref(), Some("564d5cf0-11aa-22bb-33cc-0123456789ab"));
        let named = host(&system, HostKind::MasterTarget, Some("other"), "9.4.0", Vec::new()).unwrap();
        assert_eq!(named.name, "other");
        let wrong = host(&system, HostKind::MasterTarget, Some("a b"), "9.4.0", Vec::new()).unwrap_err();
        assert!(wrong.to_string().contains("--name"), "{wrong}");
    }

    #[test]
    fn a_uuid_that_says_nothing_is_none() {
        for uuid in ["00000000-0000-0000-0000-000000000000", "Not Settable"] {
            let (_folder, system) = machine(uuid);
            let found = host(&system, HostKind::SourceAgent, None, "9.4.0", Vec::new()).unwrap();
            assert_eq!(found.dmi_uuid, None);
        }
    }

    #[test]
    fn a_machine_without_an_id_is_told_how_to_get_one() {
        let (folder, system) = machine("");
        fs::remove_file(folder.path().join("etc/machine-id")).unwrap();
        let error = host(&system, HostKind::SourceAgent, None, "9.4.0", Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "/etc/machine-id: this machine has no id; make one with systemd-machine-id-setup");
    }

    #[test]
    fn the_passphrase_file_is_read_and_its_mode_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase.txt");
        fs::write(&path, "abc123\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let (found, warning) = passphrase(&path).unwrap();
        assert_eq!((found.reveal(), warning), ("abc123", None));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let warning = passphrase(&path).unwrap().1.unwrap();
        assert!(warning.contains("other users can read") && warning.contains("chmod 600"), "{warning}");
        fs::write(&path, "\n").unwrap();
        assert!(passphrase(&path).unwrap_err().to_string().contains("it is empty"));
        fs::remove_file(&path).unwrap();
        assert!(passphrase(&path).unwrap_err().to_string().contains("No such file"));
    }
}
