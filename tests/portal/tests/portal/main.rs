//! The portal in a real browser, served by the real configuration server.

mod everyday;
mod journey;
mod pages;
mod site;
