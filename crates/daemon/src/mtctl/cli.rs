//! The commands and their arguments: the one place that defines them and their help.

use clap::{Args, Parser, Subcommand};
use control_api::PointSelector;
use control_api::time::{self, Time};
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
    /// The disks of this machine: ids, paths, what uses them; needs no daemon
    Disks(DisksArguments),
    /// Map the partitions of an attached disk, and unmap them again; needs no daemon
    Partitions(PartitionsArguments),
    /// The volume that the recovery points are kept on
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Whether this machine is ready to be a master target, and how to make it so; needs no daemon
    Check(CheckArguments),
    /// Make this machine known to a configuration server; needs no daemon
    Register(RegisterArguments),
    /// Give that up again, also when the configuration server is gone; needs no daemon
    Unregister(UnregisterArguments),
    /// Versions of mtctl and of the daemon
    Version,
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
    #[arg(long, value_name = "ADDRESS", value_parser = parse_server)]
    pub cs: Option<crate::config::Server>,
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Which configuration server, and who this machine is to it.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// The configuration server: its name or address.
    #[arg(short = 'i', long = "server", value_name = "ADDRESS", value_parser = parse_server)]
    pub server: crate::config::Server,
    /// Its port, unless that is 443.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// A file with the passphrase, which `mt-configserver passphrase show` prints.
    #[arg(short = 'P', long = "passphrase", value_name = "FILE")]
    pub passphrase: PathBuf,
    /// Name of this machine there; its host name by default.
    #[arg(long)]
    pub name: Option<String>,
    /// Take the place of a registration with another configuration server, without asking.
    #[arg(long)]
    pub yes: bool,
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

fn parse_server(text: &str) -> Result<crate::config::Server, String> {
    let server = crate::preflight::server_address(text);
    server.ok_or_else(|| {
        "give a DNS name or an IP address, with or without a port: cs.example, 10.0.0.9:8443".into()
    })
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
            "mtctl check --json --only kernel --only cores --cs cs.example:8443 --config /tmp/mtd.toml",
            "mtctl check --explain kernel",
            "mtctl check --fix --yes --only hosts-file",
            "mtctl check --undo --yes",
            "mtctl check --attest snapshots --by eve",
            "mtctl disks",
            "mtctl disks 36000c29a0123456789abcdef01234567 --json",
            "mtctl disks --watch --config /tmp/mtd.toml",
            "mtctl version --socket /tmp/mtd.sock",
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
        assert!(message("mtctl disks --map").contains("<DISK>"));
        assert!(message("mtctl disks sdb --map --unmap").contains("--unmap"));
        assert!(message("mtctl partitions sdb --read-only").contains("--map"));
        assert!(message("mtctl check --fix --undo").contains("--undo"));
        assert!(message("mtctl failover web01 --point bookmark:").contains("names no recovery point"));
    }
}
