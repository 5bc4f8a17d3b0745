//! The hosts of the fleet, registered by the real handshake.

use crate::client::{Way, identity};
use crate::server::Server;
use anyhow::{Context, Result, anyhow};
use control_api::registration::{Host, HostKind, Passphrase};
use registration::Order;
use registration::server::Server as Address;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Hosts that register at the same time.
const AT_ONCE: u32 = 4;

/// A host that is registered.
#[derive(Clone)]
pub struct Registered {
    /// Its number in the fleet.
    pub number: u32,
    /// What it says of itself.
    pub host: Host,
    /// Its id at the configuration server.
    pub id: String,
    /// How it reaches the configuration server.
    pub way: Way,
}

/// The master target of this number.
pub fn host(number: u32) -> Host {
    Host {
        kind: HostKind::MasterTarget,
        name: format!("mt{number:03}.home.example"),
        dmi_uuid: Some(format!("564d5cf0-11aa-22bb-33cc-{number:012x}")),
        machine_id: format!("{number:032x}"),
        version: env!("CARGO_PKG_VERSION").into(),
        addresses: vec![Ipv4Addr::new(10, 1, (number >> 8) as u8, number as u8).into()],
    }
}

/// The address that a host of this number comes from.
pub fn address(number: u32) -> IpAddr {
    Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8).into()
}

/// Registers one host, and keeps its identity in a folder of its own.
pub fn register_at(
    server: &Address,
    passphrase: &Passphrase,
    number: u32,
    folder: &Path,
) -> Result<Registered> {
    let (host, state) = (host(number), folder.join(number.to_string()));
    let order = Order { server, passphrase, host: host.clone(), state: &state, replace: false };
    let done = registration::register(&order, &mut |_| {}).map_err(|error| anyhow!("{error}"))?;
    let tls = identity(&state.join(registration::IDENTITY), true)?;
    let to = (server.address.parse::<IpAddr>()?, server.port).into();
    let way = Way { to, from: address(number), tls };
    Ok(Registered { number, host, id: done.registration.host_id, way })
}

/// Registers hosts with these numbers, a few at a time, and tells how long each took.
pub fn register_all(
    server: &Server,
    numbers: std::ops::Range<u32>,
    folder: &Path,
) -> Result<(Vec<Registered>, Vec<Duration>)> {
    let (address, passphrase) = (server.registration(), server.passphrase()?);
    let next = AtomicU32::new(numbers.start);
    let done = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return Ok(());
                }
                let begun = Instant::now();
                let registered = register_at(&address, &passphrase, number, folder)
                    .with_context(|| format!("host {number}"))?;
                let mut done = done.lock().map_err(|_| anyhow!("another registration failed"))?;
                done.0.push(registered);
                done.1.push(begun.elapsed());
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread failed"))?)
    })?;
    let (mut hosts, times) = done.into_inner().map_err(|_| anyhow!("a registration failed"))?;
    hosts.sort_by_key(|host| host.number);
    Ok((hosts, times))
}

/// A folder for the identities of the hosts, in memory where that can be had: their disks are not this machine's.
pub fn folder() -> Result<(tempfile::TempDir, PathBuf)> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
    let path = made.path().to_owned();
    Ok((made, path))
}
