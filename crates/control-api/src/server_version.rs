//! What a configuration server tells everybody: that it is one, and its version.
//!
//! `GET https://CS/api/v1/version` needs no certificate and no passphrase. The answer is `200 OK` with the JSON
//! `{"product":"master-target configuration server","version":"9.4.0"}`; keys that are not known here are ignored.
//! With it a machine that is about to register finds out that the address is right, that nothing stands in between,
//! and that the versions go together. Nothing in it is secret, and nothing is decided on its word alone.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the version of a configuration server is had.
pub const VERSION_PATH: &str = "/api/v1/version";

/// What a configuration server calls itself.
pub const PRODUCT: &str = "master-target configuration server";

/// Answer to `GET /api/v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    /// [`PRODUCT`] for a configuration server.
    pub product: String,
    /// Its version, `9.4.0`.
    pub version: String,
}

/// The part of a version that decides what goes together: a master target may be of the release of its
/// configuration server, or of an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Before the first dot.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl Release {
    /// The release in a version such as `9.4`, `9.4.0` or `9.4.0-rc1`; `None` for what is no version.
    pub fn parse(version: &str) -> Option<Release> {
        let mut parts = version.splitn(3, '.');
        let mut number = || parts.next()?.parse().ok();
        Some(Release { major: number()?, minor: number()? })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        let release = |text| Release::parse(text).unwrap();
        assert!(release("9.10.0") > release("9.4.7"));
        assert_eq!(release("9.4.0-rc1"), release("9.4"));
        for text in ["", "9", "9.x", ".4", "-1.2", "9.99999999999"] {
            assert_eq!(Release::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_answer_is_as_documented() {
        let text = r#"{"product":"master-target configuration server","version":"9.4.0"}"#;
        let answer = ServerVersion { product: PRODUCT.into(), version: "9.4.0".into() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        assert_eq!(serde_json::from_str::<ServerVersion>(text).unwrap(), answer);
    }
}
