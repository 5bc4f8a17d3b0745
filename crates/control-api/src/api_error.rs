//! How a configuration server says that it does not do what it is asked.

use crate::Failure;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of refusal it is; programs act on it, people read the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request has not the form that it must have. Status 400.
    BadRequest,
    /// There is nothing under this path. Status 404.
    NotFound,
    /// There is something under this path, but not by this method. Status 405.
    MethodNotAllowed,
    /// Too many requests at once. Status 503.
    Busy,
    /// The passphrase was not proved, or somebody is in between. Status 403.
    WrongPassphrase,
    /// Too many wrong passphrases from this address. Status 429, with the seconds left.
    LockedOut,
    /// The clocks are too far apart. Status 409.
    ClockSkew,
    /// The host is newer than the configuration server. Status 409.
    VersionTooNew,
    /// Another machine with the same identity is registered. Status 409.
    Clone,
    /// Another host has this name. Status 409.
    NameTaken,
    /// The host has no valid certificate of this configuration server. Status 401.
    NotRegistered,
    /// Nobody has logged in, or the session has ended. Status 401.
    NotLoggedIn,
    /// The user may not do this, or the request did not come from the portal's own page. Status 403.
    Forbidden,
    /// It does not go with what is there, such as a name that is taken. Status 409.
    Conflict,
    /// The configuration server could not do it. Status 500.
    Internal,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Status of the HTTP answer.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadRequest | ErrorCode::Unknown => 400,
            ErrorCode::NotRegistered | ErrorCode::NotLoggedIn => 401,
            ErrorCode::WrongPassphrase | ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::ClockSkew
            | ErrorCode::VersionTooNew
            | ErrorCode::Clone
            | ErrorCode::NameTaken
            | ErrorCode::Conflict => 409,
            ErrorCode::LockedOut => 429,
            ErrorCode::Internal => 500,
            ErrorCode::Busy => 503,
        }
    }
}

/// Body of each answer that is not `200 OK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct ApiError {
    /// What kind of refusal it is.
    pub code: ErrorCode,
    /// In words.
    #[serde(flatten)]
    pub failure: Failure,
    /// Seconds after which it is worth trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// A refusal, in its four parts.
    pub fn new(
        code: ErrorCode,
        object: impl Into<String>,
        what: impl Into<String>,
        why: impl fmt::Display,
        next: impl Into<String>,
    ) -> ApiError {
        ApiError { code, failure: Failure::new(object, what, why, next), retry_after: None }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_as_documented() {
        let mut error = ApiError::new(ErrorCode::LockedOut, "10.0.0.5", "it is locked out", "why", "wait");
        error.retry_after = Some(30);
        let text = r#"{"code":"locked-out","object":"10.0.0.5","what":"it is locked out","why":"why","next":"wait","retry_after":30}"#;
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
        assert_eq!(serde_json::from_str::<ApiError>(text).unwrap(), error);
        let newer = text.replace("locked-out", "on-fire");
        assert_eq!(serde_json::from_str::<ApiError>(&newer).unwrap().code, ErrorCode::Unknown);
    }
}
