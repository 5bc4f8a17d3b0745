//! What the machine's files and programs say, as values. Each parser takes whatever text it is given: lines that make
//! no sense are left out, and nothing panics.

pub(super) mod kernels;
pub(super) mod lvm;
pub(super) mod mdadm;
pub(super) mod network;
pub(super) mod packages;
pub(super) mod proxy;
pub(super) mod texts;

#[cfg(test)]
mod rubbish;
