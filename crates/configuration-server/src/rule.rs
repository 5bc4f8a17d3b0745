//! Which host a registration is: a new one, one that is known, or one that must be refused.
//!
//! A machine is known by its DMI UUID. Whoever has it may come back under its old identity when he proves that he is
//! that machine (he holds the key of its certificate, or has its machine id), or when that identity counts no more. A
//! machine with the same DMI UUID and neither is a copy, or a machine that was installed anew: only an administrator can
//! tell, so it is refused until he revokes the old one. A machine that holds another machine's key is a copy of its disk.

use crate::store::hosts::Known;
use control_api::registration::Host;
use control_api::time::Time;
use control_api::{ApiError, ErrorCode, Release};

/// What is known about a host that asks.
pub(crate) struct Facts<'a> {
    /// How it describes itself.
    pub(crate) host: &'a Host,
    /// The host whose earlier key it holds.
    pub(crate) holder: Option<&'a Known>,
    /// The host that has its kind and DMI UUID.
    pub(crate) same: Option<&'a Known>,
    /// The hosts that have its name.
    pub(crate) named: &'a [Known],
}

impl Facts<'_> {
    /// The host that it is, or `None` for a new one.
    pub(crate) fn decide(&self, now: Time) -> Result<Option<&Known>, ApiError> {
        if let Some(holder) = self.holder.filter(|holder| !is_machine(holder, self.host)) {
            return Err(copied_disk(self.host, holder));
        }
        if let Some(same) = self.same {
            let proved = self.holder.is_some_and(|holder| holder.row == same.row);
            if same.is_live(now) && !proved && same.machine_id != self.host.machine_id {
                return Err(same_hardware(self.host, same, now));
            }
        }
        let other = |named: &&Known| named.is_live(now) && !is_machine(named, self.host);
        match self.named.iter().find(other) {
            Some(named) => Err(name_taken(self.host, named)),
            None => Ok(self.same),
        }
    }
}

/// Whether a host runs on the machine that a known one was registered on.
pub(crate) fn is_machine(known: &Known, host: &Host) -> bool {
    match (&known.dmi_uuid, &host.dmi_uuid) {
        (None, None) => known.machine_id == host.machine_id,
        (known, host) => known == host,
    }
}

/// The refusal of a machine that holds another one's certificate.
pub(crate) fn copied_disk(host: &Host, holder: &Known) -> ApiError {
    ApiError::new(
        ErrorCode::Clone,
        host.name.as_str(),
        "this machine is a copy of another one",
        format!(
            "it holds the certificate of {} {}, which has the DMI UUID {}, but its own is {}",
            holder.kind,
            holder.name,
            shown(holder.dmi_uuid.as_deref()),
            shown(host.dmi_uuid.as_deref())
        ),
        "on this machine, which is the copy, give up what it copied: `mtctl unregister` (the original keeps its \
         registration); give it a host name and a machine id of its own: `hostnamectl set-hostname NAME`, `rm \
         /etc/machine-id`, `systemd-machine-id-setup`; then register it",
    )
}

fn same_hardware(host: &Host, same: &Known, now: Time) -> ApiError {
    ApiError::new(
        ErrorCode::Clone,
        host.name.as_str(),
        "another machine with the same DMI UUID is registered",
        format!(
            "{} {} ({}, DMI UUID {}) has a certificate that is valid for {} more, and this machine cannot show its key",
            same.kind,
            same.name,
            same.address,
            shown(same.dmi_uuid.as_deref()),
            control_api::time::format_duration(same.valid_until.saturating_sub(now))
        ),
        format!(
            "if this is a copy, give it a BIOS UUID of its own (uuid.bios) and register again; if it is the same machine, \
             installed anew: `mt-configserver revoke {}` on the configuration server, then register again",
            same.name
        ),
    )
}

fn name_taken(host: &Host, named: &Known) -> ApiError {
    ApiError::new(
        ErrorCode::NameTaken,
        host.name.as_str(),
        "another host has this name",
        format!("it is the name of {} {}, registered from {}", named.kind, named.id, named.address),
        format!(
            "register under another name with `--name`; or, if that host is gone: `mt-configserver revoke {}` on the \
             configuration server",
            named.name
        ),
    )
}

fn shown(uuid: Option<&str>) -> &str {
    uuid.unwrap_or("none")
}

/// Refuses a host whose clock is too far from ours.
pub(crate) fn check_clock(host: &Host, theirs: Time, ours: Time) -> Result<(), ApiError> {
    use control_api::time::{format, format_duration};
    let apart = theirs.abs_diff(ours);
    if apart <= control_api::registration::MAX_CLOCK_SKEW {
        return Ok(());
    }
    let direction = if theirs < ours { "behind" } else { "ahead" };
    Err(ApiError::new(
        ErrorCode::ClockSkew,
        host.name.as_str(),
        "the clocks are too far apart",
        format!(
            "its clock says {}, the configuration server's {}: it is {} {direction}, and at most 5 min are allowed, \
             since certificates are valid from one time to another",
            format(theirs),
            format(ours),
            format_duration(apart)
        ),
        "look which of the two is wrong: `date -u` on both; set it right, and keep it so by NTP: `timedatectl set-ntp \
         true`; then do it again",
    ))
}

/// Refuses a host that is newer than this configuration server.
pub(crate) fn check_version(host: &Host, ours: &str) -> Result<(), ApiError> {
    let (Some(their_release), Some(our_release)) = (Release::parse(&host.version), Release::parse(ours))
    else {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            host.name.as_str(),
            "the versions cannot be compared",
            format!("{} and {ours} are not both versions", host.version),
            "install a released version",
        ));
    };
    if their_release <= our_release {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::VersionTooNew,
        host.name.as_str(),
        format!("this {} is newer than the configuration server", host.kind),
        format!("it has version {}, the configuration server {ours}", host.version),
        format!(
            "upgrade the configuration server to {their_release}, or install {} {our_release}",
            host.kind
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::registration::HostKind;
    use control_api::time::SECOND;

    const NOW: Time = 1_000_000 * SECOND;
    const UUID: &str = "564d5cf0-11aa-22bb-33cc-0123456789ab";
    const OTHER_UUID: &str = "564d5cf0-11aa-22bb-33cc-0123456789ac";

    fn host() -> Host {
        Host {
            kind: HostKind::MasterTarget,
            name: "mt01".into(),
            dmi_uuid: Some(UUID.into()),
            machine_id: "1".repeat(32),
            version: "9.4.0".into(),
            addresses: Vec::new(),
        }
    }

    fn known() -> Known {
        Known {
            row: 1,
            id: "id".into(),
            kind: HostKind::MasterTarget,
            name: "mt01".into(),
            dmi_uuid: Some(UUID.into()),
            machine_id: "1".repeat(32),
            version: "9.4.0".into(),
            address: "10.0.0.5".into(),
            registered: 0,
            revoked: None,
            serial: "01".into(),
            valid_until: NOW + SECOND,
        }
    }

    fn decide(host: &Host, holder: Option<&Known>, same: Option<&Known>) -> Result<bool, ErrorCode> {
        let facts = Facts { host, holder, same, named: &[] };
        facts.decide(NOW).map(|known| known.is_some()).map_err(|refused| refused.code)
    }

    #[test]
    fn a_machine_comes_back_when_it_proves_itself_or_its_identity_has_ended() {
        let reinstalled = Host { machine_id: "2".repeat(32), ..host() };
        assert_eq!(decide(&host(), None, None), Ok(false));
        assert_eq!(decide(&host(), None, Some(&known())), Ok(true));
        assert_eq!(decide(&reinstalled, None, Some(&known())), Err(ErrorCode::Clone));
        assert_eq!(decide(&reinstalled, Some(&known()), Some(&known())), Ok(true));
        let revoked = Known { revoked: Some(1), ..known() };
        assert_eq!(decide(&reinstalled, None, Some(&revoked)), Ok(true));
        let expired = Known { valid_until: NOW, ..known() };
        assert_eq!(decide(&reinstalled, None, Some(&expired)), Ok(true));
    }

    #[test]
    fn a_copy_of_a_disk_is_found_by_the_key_on_it() {
        let copy = Host { dmi_uuid: Some(OTHER_UUID.into()), ..host() };
        assert_eq!(decide(&copy, Some(&known()), None), Err(ErrorCode::Clone));
        let without = Host { dmi_uuid: None, ..host() };
        assert_eq!(decide(&without, Some(&known()), None), Err(ErrorCode::Clone));
    }

    #[test]
    fn without_a_dmi_uuid_the_machine_id_counts() {
        let container = Host { dmi_uuid: None, ..host() };
        let registered = Known { dmi_uuid: None, ..known() };
        assert_eq!(decide(&container, Some(&registered), Some(&registered)), Ok(true));
        let copy = Host { machine_id: "2".repeat(32), ..container };
        assert_eq!(decide(&copy, Some(&registered), None), Err(ErrorCode::Clone));
    }

    #[test]
    fn a_name_belongs_to_one_machine() {
        let other = Host { dmi_uuid: Some(OTHER_UUID.into()), machine_id: "2".repeat(32), ..host() };
        let decide = |named: &[Known]| {
            let facts = Facts { host: &other, holder: None, same: None, named };
            facts.decide(NOW).map(drop).map_err(|refused| refused.code)
        };
        assert_eq!(decide(&[known()]), Err(ErrorCode::NameTaken));
        assert_eq!(decide(&[Known { revoked: Some(1), ..known() }]), Ok(()));
        let agent = Known { kind: HostKind::SourceAgent, ..known() };
        assert_eq!(decide(std::slice::from_ref(&agent)), Err(ErrorCode::NameTaken));
        // One machine may be both.
        let facts = Facts { host: &host(), holder: None, same: None, named: &[agent] };
        assert!(facts.decide(NOW).unwrap().is_none());
    }

    #[test]
    fn clocks_and_versions_have_their_limits() {
        let minutes = |minutes: u64| check_clock(&host(), NOW + minutes * 60 * SECOND, NOW).is_ok();
        assert!(minutes(5) && !minutes(6));
        let refused = check_clock(&host(), NOW - 600 * SECOND, NOW).unwrap_err().to_string();
        assert!(refused.contains("10 min behind") && refused.contains("timedatectl"), "{refused}");
        let version = |theirs: &str, ours: &str| {
            check_version(&Host { version: theirs.into(), ..host() }, ours).map_err(|refused| refused.code)
        };
        assert_eq!(version("9.4.7", "9.4.0"), Ok(()));
        assert_eq!(version("9.3.0", "9.4.0"), Ok(()));
        assert_eq!(version("9.5.0", "9.4.9"), Err(ErrorCode::VersionTooNew));
        assert_eq!(version("9.10.0", "9.4.0"), Err(ErrorCode::VersionTooNew));
    }
}
