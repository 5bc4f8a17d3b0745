//! The master target.
pub mod config;
pub mod mtctl;
