//! The users of the portal and of the REST API.
//!
//! Each change is one statement, so it holds whatever else happens at the same time: there is always an administrator
//! once there was one.

use crate::access::Role;
use control_api::time::Time;
use control_api::{ApiError, ErrorCode};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;
use std::result::Result as Outcome;

/// Users that there may be.
const MAX_USERS: i64 = 1000;
/// Characters of a name.
const LONGEST_NAME: usize = 64;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) made: Time,
    /// When somebody last logged in as this user.
    pub(crate) seen: Option<Time>,
}

/// What is needed to log somebody in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The hash, as a PHC string.
    pub(crate) password: String,
}

const SELECT: &str = "SELECT id, name, role, made, seen FROM user";

fn user(row: &Row<'_>) -> Result<User> {
    Ok(User { id: row.get(0)?, name: row.get(1)?, role: row.get(2)?, made: row.get(3)?, seen: row.get(4)? })
}

/// All users, by name.
pub(crate) fn list(connection: &Connection) -> Result<Vec<User>> {
    connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?.query_map([], user)?.collect()
}

/// The user with this id.
pub(crate) fn by_id(connection: &Connection, id: i64) -> Result<Option<User>> {
    connection.query_row(&format!("{SELECT} WHERE id = ?"), [id], user).optional()
}

/// The user with this name, in upper or lower case.
pub(crate) fn by_name(connection: &Connection, name: &str) -> Result<Option<User>> {
    connection.query_row(&format!("{SELECT} WHERE name = ?"), [name], user).optional()
}

/// What somebody with this name has to know.
pub(crate) fn credentials(connection: &Connection, name: &str) -> Result<Option<Credentials>> {
    let sql = "SELECT id, name, role, password FROM user WHERE name = ?";
    let found = connection.query_row(sql, [name], |row| {
        Ok(Credentials { id: row.get(0)?, name: row.get(1)?, role: row.get(2)?, password: row.get(3)? })
    });
    found.optional()
}

/// Adds a user, whose password has this hash.
pub(crate) fn add(
    connection: &Connection,
    name: &str,
    role: Role,
    password: &str,
    now: Time,
) -> Result<Outcome<User, ApiError>> {
    if let Err(refused) = check_name(name) {
        return Ok(Err(refused));
    }
    let added = connection.execute(
        "INSERT INTO user (name, role, password, made) SELECT ?1, ?2, ?3, ?4 \
         WHERE (SELECT count(*) FROM user) < ?5 ON CONFLICT DO NOTHING",
        params![name, role, password, now, MAX_USERS],
    )?;
    if added == 1 {
        return Ok(Ok(User {
            id: connection.last_insert_rowid(),
            name: name.into(),
            role,
            made: now,
            seen: None,
        }));
    }
    let refused = |why: String, next: &str| {
        Ok(Err(ApiError::new(ErrorCode::Conflict, format!("user {name}"), "it cannot be added", why, next)))
    };
    match by_name(connection, name)? {
        Some(user) => refused(format!("there is a user {} already", user.name), "choose another name"),
        None => refused(format!("there are {MAX_USERS} users"), "remove one that is not needed"),
    }
}

fn check_name(name: &str) -> Outcome<(), ApiError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::BadRequest,
        "the user",
        "the name cannot be used",
        format!("a name has 1 to {LONGEST_NAME} letters, digits and . - _ @ of ASCII"),
        "choose another name",
    ))
}

/// Gives a user a role; another one ends the sessions. The last administrator stays one.
pub(crate) fn set_role(connection: &Connection, id: i64, role: Role) -> Result<Outcome<(), ApiError>> {
    let changed = connection.execute(
        "UPDATE user SET role = ?2 WHERE id = ?1 AND (?2 = 'administrator' OR role != 'administrator' \
         OR (SELECT count(*) FROM user WHERE role = 'administrator') > 1)",
        params![id, role],
    )?;
    changed_or_why(connection, id, changed, "the role cannot be changed")
}

/// Gives a user the password with this hash, which ends the sessions.
pub(crate) fn set_password(
    connection: &Connection,
    id: i64,
    password: &str,
) -> Result<Outcome<(), ApiError>> {
    let changed = connection.execute("UPDATE user SET password = ? WHERE id = ?", params![password, id])?;
    changed_or_why(connection, id, changed, "the password cannot be changed")
}

/// Removes a user and ends the sessions. The last administrator stays.
pub(crate) fn remove(connection: &Connection, id: i64) -> Result<Outcome<(), ApiError>> {
    let changed = connection.execute(
        "DELETE FROM user WHERE id = ? AND (role != 'administrator' \
         OR (SELECT count(*) FROM user WHERE role = 'administrator') > 1)",
        [id],
    )?;
    changed_or_why(connection, id, changed, "it cannot be removed")
}

fn changed_or_why(
    connection: &Connection,
    id: i64,
    changed: usize,
    what: &str,
) -> Result<Outcome<(), ApiError>> {
    if changed == 1 {
        return Ok(Ok(()));
    }
    let refused = match by_id(connection, id)? {
        Some(user) => ApiError::new(
            ErrorCode::Conflict,
            format!("user {}", user.name),
            what,
            "it is the last administrator",
            "make somebody else administrator first",
        ),
        None => ApiError::new(
            ErrorCode::NotFound,
            format!("user {id}"),
            "there is no such user",
            "it was removed, or never there",
            "look at the list of users",
        ),
    };
    Ok(Err(refused))
}

/// Somebody has logged in as this user.
pub(crate) fn seen(connection: &Connection, id: i64, now: Time) -> Result<()> {
    connection.execute("UPDATE user SET seen = ? WHERE id = ?", params![now, id]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        (folder, connection)
    }

    #[test]
    fn users_are_added_changed_and_removed() {
        let (_folder, connection) = store();
        let ann = add(&connection, "Ann", Role::Administrator, "h1", 5).unwrap().unwrap();
        let bob = add(&connection, "bob@site.example", Role::Reader, "h2", 6).unwrap().unwrap();
        assert_eq!(list(&connection).unwrap(), [ann.clone(), bob.clone()]);
        assert_eq!(by_name(&connection, "aNN").unwrap(), Some(ann.clone()));
        set_role(&connection, bob.id, Role::Operator).unwrap().unwrap();
        set_password(&connection, bob.id, "h3").unwrap().unwrap();
        seen(&connection, bob.id, 9).unwrap();
        let found = credentials(&connection, "BOB@site.example").unwrap().unwrap();
        assert_eq!((found.role, &*found.password), (Role::Operator, "h3"));
        assert_eq!(by_id(&connection, bob.id).unwrap().unwrap().seen, Some(9));
        remove(&connection, bob.id).unwrap().unwrap();
        assert_eq!(list(&connection).unwrap(), [ann]);
        let gone = remove(&connection, bob.id).unwrap().unwrap_err();
        assert_eq!(gone.code, ErrorCode::NotFound);
    }

    #[test]
    fn there_is_always_an_administrator() {
        let (_folder, connection) = store();
        let ann = add(&connection, "ann", Role::Administrator, "h", 5).unwrap().unwrap().id;
        let bob = add(&connection, "bob", Role::Operator, "h", 5).unwrap().unwrap().id;
        for outcome in [remove(&connection, ann), set_role(&connection, ann, Role::Operator)] {
            let refused = outcome.unwrap().unwrap_err();
            assert!(
                refused.code == ErrorCode::Conflict && refused.to_string().contains("last administrator")
            );
        }
        set_role(&connection, ann, Role::Administrator).unwrap().unwrap();
        set_role(&connection, bob, Role::Administrator).unwrap().unwrap();
        set_role(&connection, ann, Role::Reader).unwrap().unwrap();
        assert_eq!(remove(&connection, bob).unwrap().unwrap_err().code, ErrorCode::Conflict);
        remove(&connection, ann).unwrap().unwrap();
    }

    #[test]
    fn names_are_plain_and_belong_to_one_user() {
        let (_folder, connection) = store();
        for name in ["", "a b", "<a>", "ä", "a\n", &"x".repeat(LONGEST_NAME + 1)] {
            let refused = add(&connection, name, Role::Reader, "h", 5).unwrap().unwrap_err();
            assert_eq!(refused.code, ErrorCode::BadRequest, "{name:?}");
        }
        add(&connection, "ann", Role::Reader, "h", 5).unwrap().unwrap();
        let refused = add(&connection, "ANN", Role::Reader, "h", 5).unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
    }

    #[test]
    fn the_number_of_users_is_bounded() {
        let (_folder, connection) = store();
        let transaction = connection.unchecked_transaction().unwrap();
        for number in 0..MAX_USERS {
            add(&transaction, &format!("u{number}"), Role::Reader, "h", 5).unwrap().unwrap();
        }
        let refused = add(&transaction, "one-more", Role::Reader, "h", 5).unwrap().unwrap_err();
        assert!(refused.to_string().contains("there are 1000 users"), "{refused}");
    }
}
