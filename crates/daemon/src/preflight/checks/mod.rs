//! The rules, a file for each part of the machine.

mod disks;
mod foreign_volumes;
mod hardware;
mod installation;
mod multipath;
mod network;
mod operating_system;
mod people;
mod retention;
mod servers;

use super::{Check, Machine, Unknown};
use std::net::IpAddr;

/// All of them, in the order in which they are shown.
pub(super) const ALL: [&[Check]; 10] = [
    &operating_system::CHECKS,
    &hardware::CHECKS,
    &disks::CHECKS,
    &multipath::CHECKS,
    &foreign_volumes::CHECKS,
    &retention::CHECKS,
    &network::CHECKS,
    &servers::CHECKS,
    &installation::CHECKS,
    &people::CHECKS,
];

/// The IPv4 addresses of the adapters.
pub(super) fn addresses(machine: &Machine) -> Result<Vec<IpAddr>, Unknown> {
    Ok(network::addresses(machine)?.into_iter().map(|one| IpAddr::V4(one.address)).collect())
}

#[cfg(test)]
mod tests;
