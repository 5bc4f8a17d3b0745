//! `mt-configserver reprotect`: a master target takes the disks of a machine, and the machine replicates to it.

use super::order::{Clerk, Waiting};
use super::{group, hosts, policy};
use crate::config::Config;
use crate::server::actions::reprotect::{self, Wanted};
use crate::server::{is_disk, is_item};
use crate::store::policies;
use anyhow::Result;
use clap::Args;
use control_api::agent::{TargetOrder, is_target};
use control_api::registration::HostKind;

/// What a new VMDK is, unless something else is given.
const FORMAT: &str = "vmfs-thin";
const ADAPTER: &str = "lsilogic";

/// Which machine, where to, and how.
#[derive(Debug, Args)]
pub struct ReprotectArguments {
    /// Name that the item gets.
    #[arg(value_parser = parse_item)]
    pub item: String,
    /// The source machine: name or id, as `hosts` shows it.
    #[arg(long, value_name = "HOST")]
    pub source: String,
    /// The master target: name or id, as `hosts` shows it.
    #[arg(long, value_name = "HOST")]
    pub target: String,
    /// Host and port of the master target, as the source reaches it; by default where the master target comes from itself.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    pub address: Option<String>,
    /// A disk of the source, as ID=TARGET: the path of a VMDK or the SCSI id of an attached disk, which is compared; or as
    /// ID=new:FOLDER for a new VMDK, behind which ,format=FORMAT (vmfs-thin), ,adapter=TYPE (lsilogic) and ,uuid=UUID may
    /// follow.
    #[arg(long = "disk", value_name = "DISK", required = true, value_parser = parse_disk)]
    pub disks: Vec<(String, TargetOrder)>,
    /// Its policy; the default one when missing.
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// The replication group that it belongs to.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Whether the end is waited for.
    #[command(flatten)]
    pub waiting: Waiting,
}

pub(super) fn run(config: &Config, arguments: &ReprotectArguments) -> Result<()> {
    let mut clerk = Clerk::new(config)?;
    let store = &clerk.store;
    let policy = arguments.policy.as_ref().map(|name| policy::found(store, name)).transpose()?;
    let group = arguments.group.as_ref().map(|name| group::found(store, name)).transpose()?;
    let wanted = Wanted {
        source: hosts::live(store, &arguments.source, HostKind::SourceAgent)?.id,
        target: hosts::live(store, &arguments.target, HostKind::MasterTarget)?.id,
        name: arguments.item.clone(),
        policy: policy.map_or(policies::DEFAULT, |policy| policy.id),
        group: group.map(|group| group.id),
        address: arguments.address.clone(),
        disks: arguments.disks.clone(),
    };
    clerk.order(arguments.waiting, |store, by, now| reprotect::order(store, wanted, by, now))
}

fn parse_item(text: &str) -> Result<String, String> {
    is_item(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "expected letters, digits and . _ - of ASCII, 64 at most".into())
}

fn parse_address(text: &str) -> Result<String, String> {
    is_target(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a host and a port, such as mt01.example:9443".into())
}

fn parse_disk(text: &str) -> Result<(String, TargetOrder), String> {
    let form = "expected ID=TARGET, or ID=new:FOLDER[,format=FORMAT][,adapter=TYPE][,uuid=UUID]";
    let (id, target) = text.split_once('=').ok_or(form)?;
    let target = match target.strip_prefix("new:") {
        Some(new) => parse_new(new).ok_or(form)?,
        None => TargetOrder::Existing { target: target.to_owned() },
    };
    match is_disk(id, &target) {
        true => Ok((id.to_owned(), target)),
        false => Err(format!(
            "it needs the path or id of a disk, or the folder of a new one with a format and an adapter that there are: {form}"
        )),
    }
}

fn parse_new(text: &str) -> Option<TargetOrder> {
    let mut parts = text.split(',');
    let folder = parts.next()?.to_owned();
    let (mut format, mut adapter, mut uuid) = (FORMAT.to_owned(), ADAPTER.to_owned(), None);
    for part in parts {
        match part.split_once('=')? {
            ("format", value) => format = value.to_owned(),
            ("adapter", value) => adapter = value.to_owned(),
            ("uuid", value) => uuid = Some(value.to_owned()),
            _ => return None,
        }
    }
    Some(TargetOrder::New { folder, format, adapter, uuid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_goes_onto_one_that_exists_or_a_new_one() {
        let existing = |target: &str| TargetOrder::Existing { target: target.into() };
        assert_eq!(parse_disk("disk0=36000c29f00b2"), Ok(("disk0".into(), existing("36000c29f00b2"))));
        assert_eq!(parse_disk("a=/vmfs/a,b=c.vmdk"), Ok(("a".into(), existing("/vmfs/a,b=c.vmdk"))));
        let new = |format: &str, adapter: &str| TargetOrder::New {
            folder: "/vmfs/web01".into(),
            format: format.into(),
            adapter: adapter.into(),
            uuid: None,
        };
        assert_eq!(parse_disk("a=new:/vmfs/web01"), Ok(("a".into(), new("vmfs-thin", "lsilogic"))));
        let given = parse_disk("a=new:/vmfs/web01,format=vmfs,adapter=ide");
        assert_eq!(given, Ok(("a".into(), new("vmfs", "ide"))));
        for text in ["a", "=b", "a=", "a=new:", "a=new:/b,format=raw", "a=new:/b,size=1", "a/b=/c"] {
            assert!(parse_disk(text).is_err(), "{text}");
        }
    }
}
