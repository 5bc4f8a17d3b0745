//! The real `mt-configserver`, that can be killed and measured.

use anyhow::{Context, Result};
use control_api::registration::Passphrase;
use registration::server::Server as Address;
use rig::{ConfigurationServer, Process, Rig};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What it is told beside its port and its folder: hosts that come and go are not worth a line each.
const MORE: &str = "log = \"warn\"\n";

/// A configuration server and the folder that it goes on with when it is started again.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    rig: Rig,
    running: ConfigurationServer,
}

impl Server {
    /// Starts one in an empty folder; `programs` is where `mt-configserver` is.
    pub fn start(folder: &Path, programs: &Path) -> Result<Server> {
        let rig = Rig::new(folder, programs)?;
        let running = ConfigurationServer::start_at(&rig, rig::free_port()?, MORE)?;
        let address = (Ipv4Addr::LOCALHOST, running.port()).into();
        Ok(Server { address, rig, running })
    }

    /// Starts it again, once it was killed or stopped.
    pub fn again(&mut self) -> Result<()> {
        self.running = ConfigurationServer::start_at(&self.rig, self.address.port(), MORE)
            .context("mt-configserver after its end")?;
        Ok(())
    }

    /// As hosts call it when they register.
    pub fn registration(&self) -> Address {
        Address { address: self.address.ip().to_string(), port: self.address.port() }
    }

    /// What hosts register with.
    pub fn passphrase(&self) -> Result<Passphrase> {
        Ok(registration::passphrase(&self.running.passphrase())?.0)
    }

    /// The server as it runs.
    pub fn running(&mut self) -> &mut ConfigurationServer {
        &mut self.running
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        self.running.process()
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.running.state()
    }

    /// Bytes of the store, with what is not yet in its place.
    pub fn store_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.state())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("store.sqlite") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }
}
