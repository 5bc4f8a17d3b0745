//! The commands and their arguments: the one place that defines them and their help.

use clap::{Args, Parser, Subcommand};
use control_api::PointSelector;
use control_api::agent::{DiskOrder, TargetOrder};
use control_api::time::{self, Time};
use service::LogsArguments;
use std::path::PathBuf;

/// Talks to the master target daemon on this machine.
#[derive(Debug, Parser)]
#[command(name = "mtctl", disable_version_flag = true, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Socket of the daemon.
    #[arg(long, global = true, value_name = "PATH", default_value = crate::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found a failure.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything at a glance: items, progress, RPO, window, alerts
    Status {
        /// Show it again every second.
        #[arg(long)]
        watch: bool,
    },
    /// The replicated items with their disks
    Items {
        /// Only this item.
        item: Option<String>,
    },
    /// The recovery points of an item, newest first
    Points(PointsArguments),
    /// Writable views of recovery points while replication goes on
    #[command(subcommand)]
    TestFailover(TestFailoverCommand),
    /// Write a recovery point to the item's disks and stop replicating
    Failover {
        /// The item.
        item: String,
        /// latest, latest-app-consistent, a point's number, a time (RFC 3339) or a bookmark's name.
        #[arg(long)]
        point: PointSelector,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Go back from a failover that is not committed, and replicate again
    CancelFailover {
        /// The item.
        item: String,
    },
    /// Give up the way back from a failover: release the disks, remove the recovery points
    Commit {
        /// The item.
        item: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Copy a disk at a recovery point into a new image
    Export {
        /// The item.
        item: String,
        /// Id of the disk.
        #[arg(long)]
        disk: String,
        /// latest, latest-app-consistent, a point's number, a time (RFC 3339) or a bookmark's name.
        #[arg(long)]
        point: PointSelector,
        /// raw, monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs or streamOptimized.
        #[arg(long)]
        format: String,
        /// The new image.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Open a fenced item again, through crash recovery
    Resume {
        /// The item.
        item: String,
    },
    /// Have the source compare all disks of an item with the replica
    Resync {
        /// The item.
        item: String,
    },
    /// Take an item: its disks are opened or made, and its source can connect
    Protect(ProtectArguments),
    /// Let go of an item that was taken: its disks stay as they are, its recovery points go
    Release {
        /// The item.
        item: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Change the policy of an item that was taken; what is not given stays as it is
    Policy(PolicyArguments),
    /// The disks of this machine: ids, paths, what uses them; needs no daemon
    Disks(DisksArguments),
    /// Map the partitions of an attached disk, and unmap them again; needs no daemon
    Partitions(PartitionsArguments),
    /// The volume that the recovery points are kept on
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Whether this machine is ready to be a master target, and how to make it so; needs no daemon
    Check(CheckArguments),
    /// What the daemon has written into the journal of systemd; needs no daemon
    Logs(LogsOfItem),
    /// Everything that someone needs who is to help, in one file, without secrets; needs no daemon
    SupportBundle(SupportBundleArguments),
    /// Make this machine known to a configuration server; needs no daemon
    Register(RegisterArguments),
    /// Give that up again, also when the configuration server is gone; needs no daemon
    Unregister(UnregisterArguments),
    /// Versions of mtctl and of the daemon
    Version,
}

/// Which part of the daemon's log.
#[derive(Debug, Args)]
pub struct LogsOfItem {
    /// Only what concerns this item.
    #[arg(long, value_name = "NAME")]
    pub item: Option<String>,
    /// When, how urgent, how much.
    #[command(flatten)]
    pub which: LogsArguments,
}

/// What to put into a bundle, and where.
#[derive(Debug, Args)]
pub struct SupportBundleArguments {
    /// The new file; by default one in this folder that is named after the machine and the time.
    #[arg(long, value_name = "FILE.tar.gz")]
    pub output: Option<PathBuf>,
    /// Lines of the daemon's log.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub lines: u32,
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Which item to take.
#[derive(Debug, Args)]
pub struct ProtectArguments {
    /// Its name.
    pub item: String,
    /// Name that the certificate of its source carries.
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// A disk, as ID=TARGET,size=SIZE: its id in the change stream, its target (a path or SCSI id) and the size of the
    /// source disk. With ,format=FORMAT behind it a VMDK is made in the folder TARGET; ,adapter=TYPE and ,uuid=UUID may
    /// follow.
    #[arg(long = "disk", value_name = "DISK", required = true, value_parser = parse_disk)]
    pub disks: Vec<DiskOrder>,
    /// How far recovery points are to reach back.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_seconds)]
    pub window: u64,
    /// RPO above which there is an alert.
    #[arg(long, value_name = "TIME", default_value = "15min", value_parser = parse_seconds)]
    pub rpo: u64,
    /// How often there should be an application-consistent point, or never.
    #[arg(long, value_name = "TIME", default_value = "60min", value_parser = parse_frequency)]
    pub application_consistent: u64,
}

/// What is to be different in a policy.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct PolicyChanges {
    /// How far recovery points are to reach back.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub window: Option<u64>,
    /// RPO above which there is an alert.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub rpo: Option<u64>,
    /// How often there should be an application-consistent point, or never.
    #[arg(long, value_name = "TIME", value_parser = parse_frequency)]
    pub application_consistent: Option<u64>,
    /// What its journal keeps when the retention volume is short of room: 20%, 40GiB, or standard.
    #[arg(long, value_name = "PART", value_parser = parse_portion)]
    pub min_journal: Option<String>,
    /// What its journal may take of the retention volume: 20%, 40GiB, or standard.
    #[arg(long, value_name = "PART", value_parser = parse_portion)]
    pub max_journal: Option<String>,
}

/// The policy of an item.
#[derive(Debug, Args)]
pub struct PolicyArguments {
    /// The item.
    pub item: String,
    /// What is to be different.
    #[command(flatten)]
    pub changes: PolicyChanges,
}

/// What to do about the disks of this machine.
#[derive(Debug, Args)]
pub struct DisksArguments {
    /// Only this disk: kernel name, path, multipath map, SCSI id or ddb.uuid of its VMDK.
    pub disk: Option<String>,
    /// Show them again whenever one appears, goes or changes.
    #[arg(long, conflicts_with_all = ["map", "unmap"])]
    pub watch: bool,
    /// Make the multipath map of the disk, and keep it over restarts.
    #[arg(long, requires = "disk", conflicts_with = "unmap")]
    pub map: bool,
    /// Remove the multipath map of the disk, and want it no longer.
    #[arg(long, requires = "disk")]
    pub unmap: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The daemon's configuration, which tells the target disks.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// What to do about the partitions of a disk.
#[derive(Debug, Args)]
pub struct PartitionsArguments {
    /// Kernel name, path, multipath map, SCSI id or ddb.uuid of its VMDK.
    pub disk: String,
    /// Make a map under /dev/mapper for each partition.
    #[arg(long, conflicts_with = "unmap")]
    pub map: bool,
    /// The maps can only be read.
    #[arg(long, requires = "map")]
    pub read_only: bool,
    /// Remove the maps of the disk, even when its table has become unreadable.
    #[arg(long)]
    pub unmap: bool,
}

/// What to do about the retention volume.
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Make a disk the retention volume: mapped, ext4, mounted now and at boot; needs no daemon
    Prepare(PrepareArguments),
    /// Who uses how much of it, how far back recovery points will reach, and how large it would have to be
    Status {
        /// The daemon's configuration, for when it does not run.
        #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
        config: PathBuf,
    },
}

/// Which disk is to be the retention volume, and what may be done for it.
#[derive(Debug, Args)]
pub struct PrepareArguments {
    /// Kernel name, path, multipath map, SCSI id or ddb.uuid of its VMDK.
    pub disk: String,
    /// Where it is to be mounted; by default where the configuration has it.
    #[arg(long, value_name = "FOLDER")]
    pub mount_point: Option<PathBuf>,
    /// Erase the file system with this UUID, which is on the disk now.
    #[arg(long, value_name = "UUID")]
    pub reformat: Option<String>,
    /// Show every step and the change of /etc/fstab, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The daemon's configuration, which tells the target disks.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Which checks, and what to do about what they find.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Only the checks with these ids.
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Why there is this check, what it looks at and how to mend what it finds.
    #[arg(long, value_name = "ID", conflicts_with_all = ["only", "fix", "undo", "attest"])]
    pub explain: Option<String>,
    /// Mend what can be mended without a restart, each after a question.
    #[arg(long, conflicts_with_all = ["undo", "attest"])]
    pub fix: bool,
    /// Undo what --fix did, each after a question.
    #[arg(long, conflicts_with = "attest")]
    pub undo: bool,
    /// Answer for what this machine cannot see itself: that the rule of this check is kept.
    #[arg(long, value_name = "ID", requires = "by")]
    pub attest: Option<String>,
    /// Who answers, with --attest.
    #[arg(long, value_name = "NAME", requires = "attest")]
    pub by: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The configuration server, with its port unless that is 443; by default the one in the configuration.
    #[arg(long, value_name = "ADDRESS", value_parser = registration::command::parse_server)]
    pub cs: Option<crate::config::Server>,
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Where to register, and what becomes of it.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// Where, and who this machine is there.
    #[command(flatten)]
    pub order: registration::command::RegistrationArguments,
    /// The daemon's configuration, which tells the state folder.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// What to give up.
#[derive(Debug, Args)]
pub struct UnregisterArguments {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The daemon's configuration, which tells the state folder.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Which points to list.
#[derive(Debug, Args)]
pub struct PointsArguments {
    /// The item.
    pub item: String,
    /// Only points not before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<Time>,
    /// Only points not after this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub to: Option<Time>,
    /// Only points with a bookmark.
    #[arg(long)]
    pub bookmarks: bool,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// What to do about test failovers.
#[derive(Debug, Subcommand)]
pub enum TestFailoverCommand {
    /// Export each disk of a point over NBD, writable, without touching the replica
    Start {
        /// The item.
        item: String,
        /// latest, latest-app-consistent, a point's number, a time (RFC 3339) or a bookmark's name.
        #[arg(long)]
        point: PointSelector,
        /// Where to listen: unix:PATH or tcp:ADDRESS:PORT. A socket beside the daemon's own when missing.
        #[arg(long)]
        listen: Option<String>,
    },
    /// End a test failover and forget what was written to it
    Stop {
        /// Its number, as `list` shows it.
        id: u64,
    },
    /// All test failovers
    List,
}

/// Seconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let duration = crate::config::duration(text);
    duration
        .map(|duration| duration.as_secs())
        .ok_or_else(|| "expected a time such as 24h, 15min or 90s".into())
}

/// Seconds, 0 for never.
fn parse_frequency(text: &str) -> Result<u64, String> {
    match text {
        "never" => Ok(0),
        text => parse_seconds(text).map_err(|why| format!("{why}, or never")),
    }
}

/// A part of the retention volume, as the daemon takes it.
fn parse_portion(text: &str) -> Result<String, String> {
    match text == "standard" || crate::config::Amount::parse(text).is_some() {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {}, or standard", crate::config::AMOUNT)),
    }
}

fn parse_disk(text: &str) -> Result<DiskOrder, String> {
    let form = "expected ID=TARGET,size=SIZE, and ,format=FORMAT for a new disk";
    let mut parts = text.split(',');
    let (id, target) = parts.next().and_then(|first| first.split_once('=')).ok_or(form)?;
    let (mut size, mut format, mut adapter, mut uuid) = (None, None, None, None);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or(form)?;
        match key {
            "size" => {
                let bytes = crate::config::size(value).or_else(|| value.parse().ok());
                size = Some(bytes.ok_or("size: expected bytes, or a size such as 40GiB")?);
            }
            "format" => format = Some(value.to_owned()),
            "adapter" => adapter = Some(value.to_owned()),
            "uuid" => uuid = Some(value.to_owned()),
            other => return Err(format!("{other:?} is not known here: {form}")),
        }
    }
    let size = size.ok_or("size is missing: give that of the source disk, size=40GiB for example")?;
    // The daemon has another working folder than the person who types; an id is no path.
    let path = |text: &str| match text.contains('/') {
        true => std::path::absolute(text).map_or_else(|_| text.to_owned(), |path| path.display().to_string()),
        false => text.to_owned(),
    };
    let target = match format {
        Some(format) => {
            let adapter = adapter.unwrap_or_else(|| "lsilogic".to_owned());
            TargetOrder::New { folder: path(target), format, adapter, uuid }
        }
        None if adapter.is_some() || uuid.is_some() => {
            return Err("adapter and uuid are for a new disk: give its format as well".into());
        }
        None => TargetOrder::Existing { target: path(target) },
    };
    Ok(DiskOrder { id: id.to_owned(), size, target })
}

fn parse_time(text: &str) -> Result<Time, String> {
    time::parse(text).ok_or_else(|| "expected a time such as 2026-11-20T16:21:24Z".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_documentation_parses() {
        for line in [
            "mtctl status",
            "mtctl status --watch",
            "mtctl status --json",
            "mtctl items",
            "mtctl points web01 --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z --bookmarks --limit 5",
            "mtctl test-failover start web01 --point latest",
            "mtctl test-failover start web01 --point 17 --listen unix:/run/x.sock",
            "mtctl test-failover stop 1",
            "mtctl test-failover list --json",
            "mtctl failover web01 --point latest-app-consistent --yes",
            "mtctl cancel-failover web01",
            "mtctl commit web01 --yes",
            "mtctl export web01 --disk disk0 --point nightly --format streamOptimized --to /tmp/a.vmdk",
            "mtctl resume web01",
            "mtctl resync web01",
            "mtctl protect web01 --source web01.example --disk disk0=/vmfs/web01.vmdk,size=40GiB",
            "mtctl protect web01 --source s --disk d=/vmfs,size=1048576,format=vmfs-thin,adapter=buslogic,uuid=60 --window 2d --rpo 5min --application-consistent never",
            "mtctl release web01 --yes",
            "mtctl policy web01 --window 48h",
            "mtctl policy web01 --min-journal 20% --max-journal 400GiB",
            "mtctl policy web01 --max-journal standard",
            "mtctl policy web01 --rpo 5min --application-consistent never",
            "mtctl check --json --only kernel --only cores --cs cs.example:8443 --config /tmp/mtd.toml",
            "mtctl check --explain kernel",
            "mtctl check --fix --yes --only hosts-file",
            "mtctl check --undo --yes",
            "mtctl check --attest snapshots --by eve",
            "mtctl disks",
            "mtctl disks 36000c29a0123456789abcdef01234567 --json",
            "mtctl disks --watch --config /tmp/mtd.toml",
            "mtctl version --socket /tmp/mtd.sock",
            "mtctl support-bundle",
            "mtctl support-bundle --output /tmp/a.tar.gz --lines 100 --config /tmp/mtd.toml --json",
            "mtctl logs",
            "mtctl logs --item web01 --since 24h --priority warning -n 50 --json",
            "mtctl logs --since -1h -f",
            "mtctl register -i 10.0.0.9 -P passphrase.txt",
            "mtctl register -i cs.example --port 8443 -P passphrase.txt --name mt01 --yes --json",
            "mtctl unregister --yes",
            "mtctl disks",
            "mtctl disks --watch",
            "mtctl disks sdb --json",
            "mtctl disks --map 36000c29a0123456789abcdef01234567",
            "mtctl disks --unmap /dev/sdb --yes",
            "mtctl partitions sdb",
            "mtctl partitions sdb --map --read-only",
            "mtctl partitions 36000c29a0123456789abcdef01234567 --unmap",
            "mtctl retention prepare sdb",
            "mtctl retention prepare 36000c29a --mount-point /data/r --reformat 1234-ABCD --dry-run --yes --json",
            "mtctl check --json --cs cs.example:443",
            "mtctl check --only kernel --only scsi-ids",
            "mtctl check --explain lvm-filter",
            "mtctl check --fix --yes",
            "mtctl check --undo",
            "mtctl check --attest snapshots --by eve",
            "mtctl retention status",
            "mtctl retention status --json --config /tmp/mtd.toml",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_says_what_is_right() {
        let message = |line| parse(line).unwrap_err().to_string();
        assert!(message("mtctl statsu").contains("'status'"));
        assert!(message("mtctl failover web01").contains("--point"));
        assert!(message("mtctl points web01 --from yesterday").contains("2026-11-20T16:21:24Z"));
        assert!(message("mtctl points web01 --limit 0").contains("1..=10000"));
        assert!(message("mtctl policy web01").contains("--window"));
        assert!(message("mtctl policy web01 --window soon").contains("24h, 15min"));
        assert!(message("mtctl policy web01 --max-journal 1MiB").contains("at least 64 MiB"));
        let disk = |disk: &str| {
            parse(&format!("mtctl protect web01 --source s --disk {disk}")).unwrap_err().to_string()
        };
        assert!(disk("disk0").contains("ID=TARGET,size=SIZE"));
        assert!(disk("disk0=/a.vmdk").contains("size is missing"));
        assert!(disk("disk0=/a.vmdk,size=many").contains("40GiB"));
        assert!(disk("disk0=/a.vmdk,size=1GiB,colour=red").contains("\"colour\" is not known"));
        assert!(disk("disk0=/a.vmdk,size=1GiB,adapter=ide").contains("give its format"));
        assert!(message("mtctl disks --map").contains("<DISK>"));
        assert!(message("mtctl disks sdb --map --unmap").contains("--unmap"));
        assert!(message("mtctl partitions sdb --read-only").contains("--map"));
        assert!(message("mtctl check --fix --undo").contains("--undo"));
        assert!(message("mtctl failover web01 --point bookmark:").contains("names no recovery point"));
    }
}
