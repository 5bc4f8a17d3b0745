//! Who is logged in. A token is known here by its SHA-256 alone.

use crate::access::Role;
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, params};

/// Sessions that one user may have; a further one ends the one that was not used the longest.
const MAX_OF_USER: u32 = 16;

/// How long sessions last, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Without being used.
    pub(crate) idle: u64,
    /// In all.
    pub(crate) longest: u64,
    /// What the time of the last use may be behind by.
    pub(crate) precision: u64,
}

/// A session that begins.
pub(crate) struct Begun<'a> {
    pub(crate) hash: &'a [u8],
    pub(crate) user: i64,
    pub(crate) address: &'a str,
    pub(crate) now: Time,
}

/// Writes down a session, and drops those that have ended.
pub(crate) fn add(connection: &Connection, begun: &Begun<'_>, limits: &Limits) -> Result<()> {
    let Begun { hash, user, address, now } = begun;
    connection.execute(
        "DELETE FROM session WHERE used < ? OR begun < ?",
        params![now.saturating_sub(limits.idle + limits.precision), now.saturating_sub(limits.longest)],
    )?;
    connection.execute(
        "INSERT INTO session (token, user, address, begun, used) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![hash, user, address, now],
    )?;
    connection
        .execute(
            "DELETE FROM session WHERE token IN (SELECT token FROM session WHERE user = ? \
             ORDER BY used DESC, begun DESC LIMIT -1 OFFSET ?)",
            params![user, MAX_OF_USER],
        )
        .map(drop)
}

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: i64,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) begun: Time,
    /// When it was used last, as far as it was written down.
    pub(crate) used: Time,
}

/// The session with this token, unless it has ended.
pub(crate) fn find(
    connection: &Connection,
    hash: &[u8],
    now: Time,
    limits: &Limits,
) -> Result<Option<Session>> {
    let mut statement = connection.prepare_cached(
        "SELECT user.id, name, role, begun, used FROM session JOIN user ON user.id = user WHERE token = ?",
    )?;
    let found = statement.query_row([hash], |row| {
        Ok(Session {
            user: row.get(0)?,
            name: row.get(1)?,
            role: row.get(2)?,
            begun: row.get(3)?,
            used: row.get(4)?,
        })
    });
    let lasts = |session: &Session| {
        now.saturating_sub(session.used) < limits.idle && now.saturating_sub(session.begun) < limits.longest
    };
    Ok(found.optional()?.filter(lasts))
}

/// A session was used.
pub(crate) fn used(connection: &Connection, hash: &[u8], now: Time) -> Result<()> {
    connection.execute("UPDATE session SET used = max(used, ?) WHERE token = ?", params![now, hash]).map(drop)
}

/// Ends a session; the name of its user when there was one.
pub(crate) fn end(connection: &Connection, hash: &[u8]) -> Result<Option<String>> {
    let sql = "SELECT name FROM session JOIN user ON user.id = user WHERE token = ?";
    let name = connection.query_row(sql, [hash], |row| row.get(0)).optional()?;
    connection.execute("DELETE FROM session WHERE token = ?", [hash])?;
    Ok(name)
}

/// Ends all sessions.
pub(crate) fn end_all(connection: &Connection) -> Result<()> {
    connection.execute("DELETE FROM session", []).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::users;

    const LIMITS: Limits = Limits { idle: 100, longest: 1000, precision: 10 };

    fn store() -> (tempfile::TempDir, Connection, [i64; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        let add = |name, role| users::add(&connection, name, role, "hash", 1).unwrap().unwrap().id;
        let users = [add("ann", Role::Administrator), add("bob", Role::Reader)];
        (folder, connection, users)
    }

    fn begin(connection: &Connection, token: u8, user: i64, now: Time) {
        add(connection, &Begun { hash: &[token], user, address: "10.0.0.5", now }, &LIMITS).unwrap();
    }

    fn lives(connection: &Connection, token: u8, now: Time) -> bool {
        find(connection, &[token], now, &LIMITS).unwrap().is_some()
    }

    #[test]
    fn a_session_lasts_while_it_is_used_but_not_for_ever() {
        let (_folder, connection, [ann, _]) = store();
        begin(&connection, 1, ann, 1000);
        begin(&connection, 2, ann, 1000);
        assert_eq!(find(&connection, &[1], 1000, &LIMITS).unwrap().unwrap().name, "ann");
        assert!(lives(&connection, 1, 1099) && !lives(&connection, 1, 1100) && !lives(&connection, 3, 1000));
        for now in (1000..2000).step_by(50) {
            used(&connection, &[1], now).unwrap();
        }
        assert!(lives(&connection, 1, 1999) && !lives(&connection, 1, 2000) && !lives(&connection, 2, 1999));
        begin(&connection, 3, ann, 2001);
        let left: u32 = connection.query_row("SELECT count(*) FROM session", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_user_has_so_many_sessions_and_others_keep_theirs() {
        let (_folder, connection, [ann, bob]) = store();
        begin(&connection, 200, bob, 1);
        for token in 0..20_u8 {
            begin(&connection, token, ann, 10 + u64::from(token));
        }
        assert!((0..20).all(|token| lives(&connection, token, 40) == (token >= 4)));
        assert!(lives(&connection, 200, 40));
    }

    #[test]
    fn sessions_end_with_the_password_the_role_and_the_user() {
        let (_folder, connection, [ann, bob]) = store();
        let begin_both = || {
            end_all(&connection).unwrap();
            begin(&connection, 1, ann, 10);
            begin(&connection, 2, bob, 10);
        };
        let both = || (lives(&connection, 1, 20), lives(&connection, 2, 20));
        begin_both();
        users::seen(&connection, bob, 15).unwrap();
        users::set_role(&connection, bob, Role::Reader).unwrap().unwrap();
        assert_eq!(both(), (true, true));
        users::set_role(&connection, bob, Role::Operator).unwrap().unwrap();
        assert_eq!(both(), (true, false));
        begin_both();
        users::set_password(&connection, bob, "other").unwrap().unwrap();
        assert_eq!(both(), (true, false));
        begin_both();
        users::remove(&connection, bob).unwrap().unwrap();
        assert_eq!(both(), (true, false));
        assert_eq!(end(&connection, &[1]).unwrap().as_deref(), Some("ann"));
        assert_eq!((both(), end(&connection, &[1]).unwrap()), ((false, false), None));
    }
}
