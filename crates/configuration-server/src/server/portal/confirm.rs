//! Asks before something that cannot be taken back.

use super::page::Frame;
use askama::Template;

/// The question.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    pub(super) frame: Frame,
    /// What it does.
    pub(super) consequence: String,
    /// What can be done afterwards.
    pub(super) then: String,
    /// Where the answer is posted to.
    pub(super) action: String,
    pub(super) yes: &'static str,
    pub(super) dangerous: bool,
    pub(super) back: String,
}
