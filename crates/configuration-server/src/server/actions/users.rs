//! Users. Nobody shuts himself out: his own role and himself an administrator leaves to another.

use super::{Changed, Note, conflict, missing};
use crate::access::Role;
use crate::store::users::{self, User};
use control_api::ApiError;
use control_api::time::Time;
use rusqlite::Connection;

pub(in crate::server) const KIND: &str = "user";

/// Adds a user with this hash of a password.
pub(in crate::server) fn add(
    connection: &Connection,
    name: &str,
    role: Role,
    hash: &str,
    now: Time,
) -> Changed<User> {
    let added = users::add(connection, name, role, hash, now)?;
    Ok(added.map(|user| noted(user, "user added", "a user was added", now)))
}

/// Gives a user a role, and another password when there is one; `own` is the row of who asks.
pub(in crate::server) fn change(
    connection: &Connection,
    own: i64,
    id: i64,
    role: Role,
    hash: Option<&str>,
    now: Time,
) -> Changed<User> {
    let Some(user) = users::by_id(connection, id)? else { return Ok(Err(missing(KIND, &id.to_string()))) };
    if own == id && role != user.role {
        return Ok(Err(oneself(&user.name)));
    }
    if let Err(refused) = users::set_role(connection, id, role)? {
        return Ok(Err(refused));
    }
    if let Some(hash) = hash
        && let Err(refused) = users::set_password(connection, id, hash)?
    {
        return Ok(Err(refused));
    }
    let what = match hash {
        Some(_) => "a user was given a role and a password",
        None => "a user was given a role",
    };
    Ok(Ok(noted(User { role, ..user }, "user changed", what, now)))
}

/// Removes a user.
pub(in crate::server) fn remove(connection: &Connection, own: i64, id: i64, now: Time) -> Changed<User> {
    let Some(user) = users::by_id(connection, id)? else { return Ok(Err(missing(KIND, &id.to_string()))) };
    if own == id {
        return Ok(Err(oneself(&user.name)));
    }
    let removed = users::remove(connection, id)?;
    Ok(removed.map(|()| noted(user, "user removed", "a user was removed", now)))
}

/// The refusal to change the one who asks.
pub(in crate::server) fn oneself(name: &str) -> ApiError {
    conflict(
        format!("{KIND} {name}"),
        "it cannot be changed or removed",
        "it is the user who asks",
        "have another administrator do it, or use mt-configserver user on the configuration server",
    )
}

fn noted(user: User, outcome: &'static str, what: &str, now: Time) -> (User, Note) {
    let note = Note::new(outcome, format!("{}, {}", user.name, user.role));
    let note = note.told(KIND, &user.name, what, format!("role {}", user.role), now);
    (user, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOW, store};
    use control_api::ErrorCode;

    #[test]
    fn nobody_shuts_himself_out_and_people_are_told_of_each_change() {
        let (_folder, connection) = store();
        let done = |changed: Changed<User>| {
            let (user, note) = changed.unwrap().unwrap();
            assert_eq!(note.event.unwrap().object, user.name);
            user
        };
        let refused = |changed: Changed<User>| changed.unwrap().err().unwrap().code;
        let ann = done(add(&connection, "ann", Role::Administrator, "hash", NOW)).id;
        let ben = done(add(&connection, "ben", Role::Administrator, "hash", NOW)).id;
        assert_eq!(refused(change(&connection, ann, ann, Role::Reader, None, NOW)), ErrorCode::Conflict);
        assert_eq!(refused(remove(&connection, ann, ann, NOW)), ErrorCode::Conflict);
        done(change(&connection, ann, ann, Role::Administrator, Some("another"), NOW));
        assert_eq!(done(change(&connection, ann, ben, Role::Reader, None, NOW)).role, Role::Reader);
        done(remove(&connection, ann, ben, NOW));
        assert_eq!(refused(remove(&connection, ann, ben, NOW)), ErrorCode::NotFound);
    }
}
