//! Which packages there are, and what is in each beside what is the same for all.

/// A Debian package.
pub(super) struct Package {
    pub(super) name: &'static str,
    /// The crate that its programs are of.
    pub(super) source: &'static str,
    /// In `/usr/bin`.
    pub(super) programs: &'static [&'static str],
    /// Its systemd unit, without `.service`.
    pub(super) unit: &'static str,
    /// Of the folder `packaging`, installed in `/etc/master-target`.
    pub(super) configuration: &'static str,
    /// Whether the commands of runbooks for the old product are there.
    pub(super) runbooks: bool,
}

pub(super) const PACKAGES: [Package; 4] = [
    Package {
        name: "master-target",
        source: "daemon",
        programs: &["mtd", "mtctl"],
        unit: "master-target",
        configuration: "mtd.toml",
        runbooks: true,
    },
    Package {
        name: "master-target-configserver",
        source: "configuration-server",
        programs: &["mt-configserver"],
        unit: "master-target-configserver",
        configuration: "configserver.toml",
        runbooks: false,
    },
    Package {
        name: "master-target-source",
        source: "source-agent",
        programs: &["mt-source"],
        unit: "mt-source",
        configuration: "mt-source.toml",
        runbooks: true,
    },
    Package {
        name: "master-target-process-server",
        source: "process-server",
        programs: &["mt-process-server"],
        unit: "mt-process-server",
        configuration: "process-server.toml",
        runbooks: false,
    },
];
