//! What tests of the portal in a real browser need.
//!
//! [`Browser`] is Chromium, driven over WebDriver; [`audit`] looks at the page that is shown for what keeps people from
//! using it; [`Machine`] is a host that registers as every host does, keeps up the same conversation with its
//! configuration server, and has disks, items and trouble as a test wants them.

pub mod audit;
mod browser;
mod machine;
pub mod sample;

pub use browser::{Browser, Scheme};
pub use machine::Machine;
