//! What tests of the portal in a real browser need.
//!
//! [`Browser`] is Chromium, driven over WebDriver; [`audit`] looks at the page that is shown for what keeps people from
//! using it; [`Machine`] is a host that registers as every host does, keeps up the same conversation with its
//! configuration server, and has disks, items and trouble as a test wants them. [`Person`] is somebody at the portal, who
//! takes the steps of a [`failback`] with real programs behind it.

pub mod audit;
mod browser;
pub mod failback;
mod machine;
mod person;
pub mod sample;

pub use browser::{Browser, Scheme};
pub use machine::Machine;
pub use person::Person;
