//! The rules, a file for each part of the machine.

mod disks;
mod hardware;
mod installation;
mod multipath;
mod network;
mod operating_system;
mod people;
mod retention;
mod servers;

use super::Check;

/// All of them, in the order in which they are shown.
pub(super) const ALL: [&[Check]; 9] = [
    &operating_system::CHECKS,
    &hardware::CHECKS,
    &disks::CHECKS,
    &multipath::CHECKS,
    &retention::CHECKS,
    &network::CHECKS,
    &servers::CHECKS,
    &installation::CHECKS,
    &people::CHECKS,
];

#[cfg(test)]
mod tests;
