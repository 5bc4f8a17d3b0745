//! Who guesses too often.
//!
//! A handshake counts as failed from its start until it has succeeded: whoever guesses sees by the second message
//! whether he was right, and need not say so. After [`FREE`] failures an address is locked out, for twice as long after
//! each further one. All of it is in the database, so a restart forgives nothing. Log-ins of people are counted in the
//! same way, and apart: who cannot log in can still register a host.

use control_api::time::{SECOND, Time};
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::net::IpAddr;

/// Failures before the first lock-out.
pub(crate) const FREE: u32 = 5;
const FIRST_LOCK: u64 = 30 * SECOND;
const LONGEST_LOCK: u64 = 3600 * SECOND;
/// Failures older than this are forgotten.
const FORGOTTEN: u64 = 86_400 * SECOND;
/// Addresses that are remembered, of hosts and of people each; of more the one that was quiet the longest is forgotten.
const MAX_ADDRESSES: u32 = 4096;

/// What counts as one address: all of an IPv6 network of 64 bits, which one machine may have for itself.
pub(crate) fn counted(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// What stands before the address where log-ins are counted.
const LOG_IN: &str = "log-in ";

/// What log-ins from this address are counted as.
pub(crate) fn log_in(address: IpAddr) -> String {
    format!("{LOG_IN}{}", counted(address))
}

/// What log-ins as one user from this address are counted as, beside all log-ins from there.
fn log_in_as(counted: &str, user: i64) -> String {
    format!("{counted} user {user}")
}

/// Counts a log-in as this user, which [`begin`] has let through, for the user alone.
pub(crate) fn begin_as(connection: &Connection, now: Time, counted: &str, user: i64) -> Result<()> {
    connection
        .execute(
            "INSERT INTO attempt (address, failures, last, locked_until, refused) VALUES (?1, 1, ?2, 0, 0) \
             ON CONFLICT (address) DO UPDATE SET failures = iif(?2 - last < ?3, failures + 1, 1), last = ?2",
            params![log_in_as(counted, user), now, FORGOTTEN],
        )
        .map(drop)
}

/// Forgets the failures of a user who has logged in from this address, and those alone: with a password of his own nobody
/// may go on guessing that of another.
pub(crate) fn logged_in(connection: &Connection, now: Time, counted: &str, user: i64) -> Result<()> {
    let failures = |key: &str| {
        let sql = "SELECT failures FROM attempt WHERE address = ?";
        Ok::<u32, rusqlite::Error>(
            connection.query_row(sql, [key], |row| row.get(0)).optional()?.unwrap_or(0),
        )
    };
    let own = log_in_as(counted, user);
    let left = failures(counted)?.saturating_sub(failures(&own)?);
    succeeded(connection, &own)?;
    if left == 0 {
        return succeeded(connection, counted);
    }
    connection
        .execute(
            "UPDATE attempt SET failures = ?, locked_until = ?, refused = 0 WHERE address = ?",
            params![left, locked_after(now, left), counted],
        )
        .map(drop)
}

/// An address that is locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// Seconds that are left.
    pub(crate) seconds: u64,
    /// True the first time that this lock-out refuses: the one that is written into the audit, so that nobody can fill
    /// that by knocking.
    pub(crate) first: bool,
}

/// Counts a handshake that begins, unless the address is locked out.
pub(crate) fn begin(
    connection: &Connection,
    now: Time,
    address: &str,
) -> Result<std::result::Result<(), Locked>> {
    let sql = "SELECT failures, last, locked_until, refused FROM attempt WHERE address = ?";
    let known = connection
        .query_row(sql, [address], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, u64>(1)?, row.get::<_, u64>(2)?, row.get::<_, bool>(3)?))
        })
        .optional()?
        .filter(|(_, last, _, _)| now.saturating_sub(*last) < FORGOTTEN);
    let (failures, _, locked_until, refused) = known.unwrap_or((0, now, 0, false));
    if locked_until > now {
        if !refused {
            connection.execute("UPDATE attempt SET refused = 1 WHERE address = ?", [address])?;
        }
        return Ok(Err(Locked { seconds: (locked_until - now).div_ceil(SECOND), first: !refused }));
    }
    let failures = failures.saturating_add(1);
    connection.execute(
        "INSERT OR REPLACE INTO attempt (address, failures, last, locked_until, refused) VALUES (?, ?, ?, ?, 0)",
        params![address, failures, now, locked_after(now, failures)],
    )?;
    connection.execute(
        "DELETE FROM attempt WHERE address IN (SELECT address FROM attempt WHERE (substr(address, 1, 7) = ?1) = ?2 \
         ORDER BY last DESC LIMIT -1 OFFSET ?3)",
        params![LOG_IN, address.starts_with(LOG_IN), MAX_ADDRESSES],
    )?;
    Ok(Ok(()))
}

/// Forgets the failures of an address that knew the passphrase.
pub(crate) fn succeeded(connection: &Connection, address: &str) -> Result<()> {
    connection.execute("DELETE FROM attempt WHERE address = ?", [address]).map(drop)
}

/// Until when an address is locked out after so many failures; 0 for not at all, because another handshake may have
/// read the clock a little earlier and come here a little later.
fn locked_after(now: Time, failures: u32) -> Time {
    match failures.checked_sub(FREE) {
        None => 0,
        Some(more) => now + FIRST_LOCK.checked_shl(more.min(20)).unwrap_or(LONGEST_LOCK).min(LONGEST_LOCK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        (folder, connection)
    }

    fn locked(connection: &Connection, now: Time) -> (u64, bool) {
        let locked = begin(connection, now, "10.0.0.5").unwrap().unwrap_err();
        (locked.seconds, locked.first)
    }

    #[test]
    fn the_sixth_guess_waits_and_each_later_one_waits_longer() {
        let (folder, connection) = store();
        let mut now = 1_000_000 * SECOND;
        for _ in 0..FREE {
            assert_eq!(begin(&connection, now, "10.0.0.5").unwrap(), Ok(()));
        }
        assert_eq!(locked(&connection, now), (30, true));
        assert_eq!(begin(&connection, now, "10.0.0.6").unwrap(), Ok(()));
        drop(connection);
        // Also after a restart.
        let connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        assert_eq!(locked(&connection, now + 29 * SECOND), (1, false));
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            now += 3601 * SECOND;
            assert_eq!(begin(&connection, now, "10.0.0.5").unwrap(), Ok(()));
            assert_eq!(locked(&connection, now), (expected, true));
        }
        now += FORGOTTEN;
        assert_eq!(begin(&connection, now, "10.0.0.5").unwrap(), Ok(()));
        assert_eq!(begin(&connection, now, "10.0.0.5").unwrap(), Ok(()));
    }

    #[test]
    fn who_knows_the_passphrase_starts_anew() {
        let (_folder, connection) = store();
        for round in 0..20 {
            assert_eq!(begin(&connection, round, "a").unwrap(), Ok(()));
            succeeded(&connection, "a").unwrap();
        }
    }

    #[test]
    fn who_read_the_clock_before_others_did_is_not_locked_out() {
        let (_folder, connection) = store();
        for earlier in 1..u64::from(FREE) {
            assert_eq!(begin(&connection, SECOND - earlier, "a").unwrap(), Ok(()));
        }
    }

    #[test]
    fn who_logs_in_is_forgiven_and_cannot_go_on_guessing_the_password_of_another() {
        let (_folder, connection) = store();
        let key = log_in("10.0.0.5".parse().unwrap());
        let fails = |user| {
            begin(&connection, 1, &key).unwrap().map(|()| begin_as(&connection, 1, &key, user).unwrap())
        };
        // Mistakes of his own, again and again.
        for _ in 0..10 {
            (0..FREE).for_each(|_| fails(1).unwrap());
            logged_in(&connection, 1, &key, 1).unwrap();
        }
        // Guesses at the password of another, with log-ins of his own in between.
        for guess in 1..=FREE {
            fails(2).unwrap();
            if guess < FREE {
                fails(1).unwrap();
                logged_in(&connection, 1, &key, 1).unwrap();
            }
        }
        assert!(fails(2).is_err());
        logged_in(&connection, 1, &key, 1).unwrap();
        assert_eq!(begin(&connection, 1, &key).unwrap(), Err(Locked { seconds: 30, first: true }));
        logged_in(&connection, 1, &key, 2).unwrap();
        assert_eq!(begin(&connection, 1, &key).unwrap(), Ok(()));
    }

    #[test]
    fn the_table_is_bounded() {
        let (_folder, connection) = store();
        let transaction = connection.unchecked_transaction().unwrap();
        for address in 0..u64::from(MAX_ADDRESSES) + 50 {
            begin(&transaction, address, &address.to_string()).unwrap().unwrap();
        }
        let count: u32 = transaction.query_row("SELECT count(*) FROM attempt", [], |row| row.get(0)).unwrap();
        assert_eq!(count, MAX_ADDRESSES);
        // Others who cannot log in take nothing away from it.
        for address in 0..u64::from(MAX_ADDRESSES) + 50 {
            begin(&transaction, u64::MAX / 4 + address, &format!("{LOG_IN}{address}")).unwrap().unwrap();
        }
        let count: u32 = transaction.query_row("SELECT count(*) FROM attempt", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2 * MAX_ADDRESSES);
    }

    #[test]
    fn who_cannot_log_in_may_register_and_the_other_way_round() {
        let (_folder, connection) = store();
        let address: IpAddr = "10.0.0.5".parse().unwrap();
        for (one, other) in [(log_in(address), counted(address)), (counted(address), log_in(address))] {
            (0..FREE).for_each(|_| begin(&connection, 1, &one).unwrap().unwrap());
            assert!(begin(&connection, 1, &one).unwrap().is_err());
            assert_eq!(begin(&connection, 1, &other).unwrap(), Ok(()));
            succeeded(&connection, &one).unwrap();
            succeeded(&connection, &other).unwrap();
        }
    }

    #[test]
    fn one_machine_has_one_address() {
        let counted = |text: &str| counted(text.parse().unwrap());
        assert_eq!(counted("10.0.0.5"), "10.0.0.5");
        assert_eq!(counted("::ffff:10.0.0.5"), "10.0.0.5");
        assert_eq!(counted("2001:db8:1:2:aaaa::1"), counted("2001:db8:1:2:bbbb::2"));
        assert_ne!(counted("2001:db8:1:3::1"), counted("2001:db8:1:2::1"));
    }
}
