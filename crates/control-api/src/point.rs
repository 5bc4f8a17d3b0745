//! Recovery points, and how a person names one.

use crate::time::{self, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A marker that the source set in the change stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// Its name.
    pub name: String,
    /// True when the application had brought its data to rest.
    pub application_consistent: bool,
    /// The replication group that shares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A state that an item can be recovered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Number of the batch whose end it is.
    pub number: u64,
    /// When the source was in this state, by the source's clock.
    pub source_time: Time,
    /// When the master target received it, by its own clock.
    pub receive_time: Time,
    /// The bookmark here, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<Bookmark>,
    /// When a test failover of it was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<Time>,
    /// Bytes that the journal holds for the batch.
    pub journal_bytes: u64,
}

/// Which recovery point a person means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSelector {
    /// The newest one.
    Latest,
    /// The newest one at which the application had brought its data to rest.
    LatestApplicationConsistent,
    /// The one of this number.
    Number(u64),
    /// The newest one whose source time is not after this.
    Time(Time),
    /// The newest one with a bookmark of this name.
    Bookmark(String),
}

/// A text that names no recovery point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no recovery point: give latest, latest-app-consistent, the number of a point, a time such as \
     2026-11-20T16:21:24Z, or the name of a bookmark (bookmark:NAME if it looks like one of the others)"
)]
pub struct PointSelectorError {
    text: String,
}

const BOOKMARK_PREFIX: &str = "bookmark:";

/// The longest bookmark name that a selector takes, in bytes.
const MAX_BOOKMARK: usize = 1024;

impl FromStr for PointSelector {
    type Err = PointSelectorError;

    fn from_str(text: &str) -> Result<PointSelector, PointSelectorError> {
        let refused = || PointSelectorError { text: text.chars().take(80).collect() };
        if let Some(name) = text.strip_prefix(BOOKMARK_PREFIX) {
            return bookmark(name).ok_or_else(refused);
        }
        match text {
            "latest" => Ok(PointSelector::Latest),
            "latest-app-consistent" => Ok(PointSelector::LatestApplicationConsistent),
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(PointSelector::Number).map_err(|_| refused())
            }
            _ => match time::parse(text) {
                Some(time) => Ok(PointSelector::Time(time)),
                None => bookmark(text).ok_or_else(refused),
            },
        }
    }
}

fn bookmark(name: &str) -> Option<PointSelector> {
    let fits = !name.is_empty() && name.len() <= MAX_BOOKMARK && !name.contains(char::is_control);
    fits.then(|| PointSelector::Bookmark(name.to_string()))
}

impl fmt::Display for PointSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PointSelector::Latest => f.write_str("latest"),
            PointSelector::LatestApplicationConsistent => f.write_str("latest-app-consistent"),
            PointSelector::Number(number) => write!(f, "{number}"),
            PointSelector::Time(time) => f.write_str(&time::format(*time)),
            PointSelector::Bookmark(name) => write!(f, "{BOOKMARK_PREFIX}{name}"),
        }
    }
}

impl Serialize for PointSelector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // The text form rounds to milliseconds, and a point may be named to the nanosecond.
            PointSelector::Time(time) => serializer.serialize_str(&format!("{TIME_PREFIX}{time}")),
            other => serializer.collect_str(other),
        }
    }
}

const TIME_PREFIX: &str = "time:";

impl<'de> Deserialize<'de> for PointSelector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PointSelector, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix(TIME_PREFIX).and_then(|nanos| nanos.parse().ok()) {
            Some(time) => Ok(PointSelector::Time(time)),
            None => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_way_to_name_a_point() {
        let parsed = |text: &str| text.parse::<PointSelector>().unwrap();
        assert_eq!(parsed("latest"), PointSelector::Latest);
        assert_eq!(parsed("latest-app-consistent"), PointSelector::LatestApplicationConsistent);
        assert_eq!(parsed("417"), PointSelector::Number(417));
        assert_eq!(parsed("1970-01-01T00:00:01Z"), PointSelector::Time(time::SECOND));
        assert_eq!(parsed("before upgrade"), PointSelector::Bookmark("before upgrade".into()));
        assert_eq!(parsed("2024-01-01-nightly"), PointSelector::Bookmark("2024-01-01-nightly".into()));
        assert_eq!(parsed("bookmark:latest"), PointSelector::Bookmark("latest".into()));
        assert_eq!(parsed("bookmark:17"), PointSelector::Bookmark("17".into()));
    }

    #[test]
    fn what_names_no_point_says_what_would() {
        for text in ["", "bookmark:", "99999999999999999999999", "a\nb"] {
            let error = text.parse::<PointSelector>().unwrap_err().to_string();
            assert!(error.contains("names no recovery point: give latest"), "{error}");
        }
    }

    fn selectors() -> impl Strategy<Value = PointSelector> {
        prop_oneof![
            Just(PointSelector::Latest),
            Just(PointSelector::LatestApplicationConsistent),
            any::<u64>().prop_map(PointSelector::Number),
            any::<u64>().prop_map(PointSelector::Time),
            "[^\\p{Cc}]{1,40}".prop_map(PointSelector::Bookmark),
        ]
    }

    proptest! {
        #[test]
        fn a_selector_survives_json(selector in selectors()) {
            let json = serde_json::to_string(&selector).unwrap();
            prop_assert_eq!(serde_json::from_str::<PointSelector>(&json).unwrap(), selector);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = text.parse::<PointSelector>();
        }
    }
}
