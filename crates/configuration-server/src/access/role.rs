//! Roles, and who is asking.

use crate::server::Shared;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use control_api::{ApiError, ErrorCode};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

use super::guard::Refused;

/// What a user may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Looks.
    Reader,
    /// Orders jobs, and gives items their policies.
    Operator,
    /// Manages users, hosts and policies.
    Administrator,
}

impl Role {
    pub(crate) const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Administrator];

    /// As it stands in the store, in JSON and on the command line.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    /// The role of this id.
    pub(crate) fn parse(id: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.id() == id)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromSql for Role {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Role> {
        Role::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Role {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.id().into())
    }
}

/// Who is asking: a user who has logged in. As an argument of a handler it refuses everybody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Row of the user.
    pub(crate) user: i64,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What requests that change something must carry when they come with the cookie.
    pub(crate) csrf: String,
}

impl Caller {
    /// Refuses who has a lesser role.
    pub(crate) fn require(&self, role: Role) -> Result<(), ApiError> {
        if self.role >= role {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::Forbidden,
            &*self.name,
            "you may not do this",
            format!("it takes the role {role}, and you are {}", self.role),
            "ask an administrator to do it, or for that role",
        ))
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _shared: &Arc<Shared>) -> Result<Caller, Refused> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| Refused::stranger(parts.uri.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_includes_the_lesser_ones() {
        let caller = |role| Caller { user: 1, name: "ann".into(), role, csrf: String::new() };
        for (place, role) in Role::ALL.into_iter().enumerate() {
            for (other_place, other) in Role::ALL.into_iter().enumerate() {
                assert_eq!(caller(role).require(other).is_ok(), place >= other_place, "{role} {other}");
            }
            assert_eq!(Role::parse(role.id()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.id());
        }
        assert_eq!(Role::parse("root"), None);
        let refused = caller(Role::Reader).require(Role::Operator).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(refused.to_string().contains("it takes the role operator, and you are reader"), "{refused}");
    }
}
