//! Certificates grow old: the daemon renews them, and says so when it must not.

use anyhow::{Context, Result, ensure};
use registering::{is_root, programs};
use rig::{Clocks, ConfigurationServer, Rig, Target, TargetDisk, TargetOptions, free_port, wait_for};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A registered master target and its configuration server, on clocks that a test moves.
struct Site {
    clocks: Clocks,
    rig: Rig,
    server: ConfigurationServer,
    folder: TempDir,
}

const SOON: Duration = Duration::from_secs(60);

impl Site {
    fn registered() -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let names = ["mtd", "mtctl", "mt-configserver"];
        let clocks = Clocks::make(&folder.path().join("programs"), programs()?, &names)?;
        let mut rig = Rig::new(&folder.path().join("site"), clocks.folder())?;
        let server = ConfigurationServer::start(&rig)?;
        server.register_target(&mut rig, "mt01.example")?;
        Ok(Site { clocks, rig, server, folder })
    }

    /// All clocks are moved, and the server is started at that time.
    fn at(&mut self, offset: &str) -> Result<()> {
        self.server.process().stop()?;
        for name in ["mtd", "mtctl", "mt-configserver"] {
            self.clocks.set(name, offset)?;
        }
        self.server = ConfigurationServer::start_at(&self.rig, self.server.port(), "")?;
        Ok(())
    }

    fn certificate(&self) -> PathBuf {
        self.rig.target.certificate.clone()
    }

    /// Days from now on that the certificate on the disk is still valid, by a judge of other people.
    fn valid_for(&self, days: u64) -> Result<bool> {
        let (path, seconds) = (self.certificate().display().to_string(), (days * 86_400).to_string());
        let said = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-checkend", &seconds, "-in", &path])
            .output()
            .context("cannot run openssl")?;
        Ok(said.status.success())
    }

    fn audit(&self) -> Result<String> {
        self.server.command(&["audit", "--json"])
    }

    fn start_daemon(&self) -> Result<Target> {
        let disk = TargetDisk {
            id: "disk0".into(),
            path: self.rig.folder.join("replica.img"),
            format: "raw".into(),
            size: 1 << 20,
        };
        Target::start(&self.rig, &TargetOptions { port: free_port()?, disks: vec![disk] })
    }

    fn daemon_said(&self) -> String {
        fs::read_to_string(self.folder.path().join("site/target/mtd.log")).unwrap_or_default()
    }

    fn wait_until_daemon_says(&self, what: &str) -> Result<()> {
        wait_for(&format!("{what:?} in the log of mtd"), SOON, || {
            Ok(self.daemon_said().contains(what).then_some(()))
        })
        .with_context(|| self.daemon_said())
    }
}

#[test]
fn the_daemon_renews_when_a_third_of_the_time_is_left() -> Result<()> {
    if !is_root("a test of renewal") {
        return Ok(());
    }
    let mut site = Site::registered()?;
    ensure!(site.valid_for(89)? && !site.valid_for(91)?, "it is not valid for 90 days");
    let first = fs::read(site.certificate())?;
    site.at("+59d")?;
    let mut daemon = site.start_daemon()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(fs::read(site.certificate())? == first, "it was renewed too early");
    daemon.process().stop()?;
    site.at("+61d")?;
    let mut daemon = site.start_daemon()?;
    wait_for("a newer certificate", SOON, || Ok((fs::read(site.certificate())? != first).then_some(())))
        .with_context(|| site.daemon_said())?;
    ensure!(site.valid_for(61 + 89)?, "the new one is not valid for 90 days");
    ensure!(site.audit()?.contains("\"renewed\""), "{}", site.audit()?);
    daemon.process().stop()
}

#[test]
fn a_revoked_machine_is_not_renewed() -> Result<()> {
    if !is_root("a test of a revoked machine") {
        return Ok(());
    }
    let mut site = Site::registered()?;
    let first = fs::read(site.certificate())?;
    site.server.command(&["revoke", "mt01.example", "--yes"])?;
    site.at("+61d")?;
    let mut daemon = site.start_daemon()?;
    site.wait_until_daemon_says("its certificate was revoked, or has expired")?;
    site.wait_until_daemon_says("register this host again")?;
    ensure!(fs::read(site.certificate())? == first, "it was renewed");
    daemon.process().stop()
}

#[test]
fn a_machine_that_was_off_for_too_long_registers_again_and_is_the_same_host() -> Result<()> {
    if !is_root("a test of an expired certificate") {
        return Ok(());
    }
    let mut site = Site::registered()?;
    site.at("+91d")?;
    let mut daemon = site.start_daemon()?;
    site.wait_until_daemon_says("its certificate has expired")?;
    site.wait_until_daemon_says("register it again")?;
    let said = site.server.register_target(&mut site.rig, "mt01.example")?;
    ensure!(said.contains("which knew it before"), "{said}");
    ensure!(site.valid_for(91 + 89)?, "the new one is not valid for 90 days");
    let hosts: serde_json::Value = serde_json::from_str(&site.server.command(&["hosts", "--json"])?)?;
    ensure!(hosts["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1), "{hosts}");
    daemon.process().stop()
}
