//! Who a host says it is.

use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Addresses that a host may have.
pub const MAX_ADDRESSES: usize = 64;

/// Names below it are given to no host.
pub const RESERVED_DOMAIN: &str = "master-target.internal";

/// The name in the certificate of each configuration server that registered hosts look for. Only a configuration
/// server gets it from its authority, so they find theirs under any address.
pub const SERVER_NAME: &str = "configuration-server.master-target.internal";

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HostKind {
    /// It receives and keeps replicas.
    MasterTarget,
    /// It is a protected machine.
    SourceAgent,
    /// It relays change streams.
    ProcessServer,
}

impl HostKind {
    /// All there are.
    pub const ALL: [HostKind; 3] = [HostKind::MasterTarget, HostKind::SourceAgent, HostKind::ProcessServer];

    /// As it stands in JSON.
    pub fn id(self) -> &'static str {
        match self {
            HostKind::MasterTarget => "master-target",
            HostKind::SourceAgent => "source-agent",
            HostKind::ProcessServer => "process-server",
        }
    }

    /// The kind that [`HostKind::id`] calls so.
    pub fn parse(text: &str) -> Option<HostKind> {
        HostKind::ALL.into_iter().find(|kind| kind.id() == text)
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HostKind::MasterTarget => "master target",
            HostKind::SourceAgent => "source agent",
            HostKind::ProcessServer => "process server",
        })
    }
}

/// A host, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What it is.
    pub kind: HostKind,
    /// Its name: a DNS name, at most 253 characters. It stands in its certificate.
    pub name: String,
    /// UUID of its BIOS, as DMI tells it; `None` where there is none that means anything.
    pub dmi_uuid: Option<String>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Version of the product on it.
    pub version: String,
    /// Addresses that others reach it by; those of a master target stand in its certificate.
    pub addresses: Vec<IpAddr>,
}

/// A field that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct FieldError {
    /// Its name in JSON.
    pub field: &'static str,
    /// What would be right.
    pub expected: String,
}

impl Host {
    /// Refuses what is too long or has another form.
    pub fn check(&self) -> Result<(), FieldError> {
        let must = |good: bool, field, expected: &str| match good {
            true => Ok(()),
            false => Err(FieldError { field, expected: expected.to_owned() }),
        };
        let name = self.name.to_ascii_lowercase();
        let reserved = name == RESERVED_DOMAIN || name.ends_with(&format!(".{RESERVED_DOMAIN}"));
        must(
            valid_host_name(&self.name) && !reserved,
            "name",
            "a DNS name (letters, digits, dashes, dots), none below master-target.internal",
        )?;
        let dmi = self.dmi_uuid.as_deref();
        must(dmi.is_none_or(valid_uuid), "dmi_uuid", "a UUID in lower case, neither all zeros nor all ones")?;
        let id = &self.machine_id;
        must(id.len() == 32 && hexadecimal(id), "machine_id", "32 hexadecimal digits in lower case")?;
        let version = crate::Release::parse(&self.version).filter(|_| self.version.len() <= 64);
        must(version.is_some(), "version", "a version such as 9.4.0")?;
        must(self.addresses.len() <= MAX_ADDRESSES, "addresses", "at most 64 addresses")
    }
}

/// Whether a text can be the name of a host: a DNS name, and no address.
pub fn valid_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

fn hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn valid_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    let says_something = digits.chars().any(|digit| digit != '0') && digits.chars().any(|digit| digit != 'f');
    lengths == [8, 4, 4, 4, 12] && hexadecimal(&digits) && says_something
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            kind: HostKind::MasterTarget,
            name: "mt01.example".into(),
            dmi_uuid: Some("564d5cf0-11aa-22bb-33cc-0123456789ab".into()),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            version: "9.4.0".into(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
        }
    }

    #[test]
    fn each_field_has_its_form() {
        host().check().unwrap();
        Host { dmi_uuid: None, addresses: Vec::new(), ..host() }.check().unwrap();
        let wrong = |change: fn(&mut Host)| {
            let mut host = host();
            change(&mut host);
            host.check().unwrap_err().field
        };
        let long = |host: &mut Host| host.name = format!("a{}", ".a".repeat(127));
        for change in [
            |host: &mut Host| host.name = String::new(),
            |host: &mut Host| host.name = "10.0.0.5".into(),
            |host: &mut Host| host.name = "a..b".into(),
            |host: &mut Host| host.name = "-a".into(),
            |host: &mut Host| host.name = "*.example".into(),
            |host: &mut Host| host.name = "Configuration-Server.master-target.internal".into(),
            long,
        ] {
            assert_eq!(wrong(change), "name");
        }
        for change in [
            |host: &mut Host| host.dmi_uuid = Some("00000000-0000-0000-0000-000000000000".into()),
            |host: &mut Host| host.dmi_uuid = Some("ffffffff-ffff-ffff-ffff-ffffffffffff".into()),
            |host: &mut Host| host.dmi_uuid = Some("564D5CF0-11aa-22bb-33cc-0123456789ab".into()),
            |host: &mut Host| host.dmi_uuid = Some("564d5cf011aa22bb33cc0123456789ab".into()),
        ] {
            assert_eq!(wrong(change), "dmi_uuid");
        }
        assert_eq!(wrong(|host| host.machine_id.push('0')), "machine_id");
        assert_eq!(wrong(|host| host.version = "nine".into()), "version");
        assert_eq!(wrong(|host| host.addresses = vec![[10, 0, 0, 1].into(); 65]), "addresses");
    }

    #[test]
    fn kinds_have_names() {
        for kind in HostKind::ALL {
            assert_eq!(HostKind::parse(kind.id()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.id()));
        }
    }
}
