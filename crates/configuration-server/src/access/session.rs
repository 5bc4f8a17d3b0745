//! Logging in, and who is logged in.

use super::first;
use super::password::{Password, Turn};
use super::role::{Caller, Role};
use crate::server::{Shared, internal};
use crate::store::sessions::{self, Begun, Limits};
use crate::store::{attempts, audit, users};
use axum::http::{HeaderMap, HeaderValue, header};
use control_api::registration::Hex;
use control_api::time::{SECOND, Time};
use control_api::{ApiError, ErrorCode};
use rand_core::{OsRng, RngCore};
use ring::digest::{SHA256, digest};
use ring::hmac;
use rusqlite::TransactionBehavior;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The cookie; its prefix has browsers refuse it from any other host, or without TLS.
const COOKIE: &str = "__Host-session";
/// How long a session lasts, however much it is used.
const LONGEST: u64 = 7 * 86_400 * SECOND;
/// A session's last use is written down when the one that is written there is so old.
const PRECISION: u64 = 60 * SECOND;

/// A session that has begun.
#[derive(Clone, Serialize)]
pub(crate) struct LoggedIn {
    /// What the client has to show from now on; in hexadecimal.
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) role: Role,
    /// What must come with the cookie.
    pub(crate) csrf: String,
    /// When it ends at the latest.
    pub(crate) expires: Time,
}

/// What a request shows: a token.
pub(super) struct Credentials {
    token: Zeroizing<Vec<u8>>,
    from_cookie: bool,
}

impl Credentials {
    /// Those in the headers of a request, when they have the form of any. A token that is sent as such goes before one in
    /// the cookie.
    pub(super) fn of(headers: &HeaderMap) -> Option<Credentials> {
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let token = given.to_str().ok()?.strip_prefix("Bearer ")?;
            return Credentials::parse(token, false);
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut values = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        Credentials::parse(values.next()?, true)
    }

    fn parse(token: &str, from_cookie: bool) -> Option<Credentials> {
        let token = (token.len() == 64).then(|| Hex::parse(token)).flatten()?;
        Some(Credentials { token: Zeroizing::new(token.0), from_cookie })
    }

    /// Whether a browser has added it by itself.
    pub(super) fn is_cookie(&self) -> bool {
        self.from_cookie
    }

    /// What the store knows it by.
    fn hash(&self) -> Vec<u8> {
        digest(&SHA256, &self.token).as_ref().to_vec()
    }

    /// It goes with the token, and the token cannot be told from it.
    fn csrf(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.token);
        Hex::from(hmac::sign(&key, b"master-target CSRF 1").as_ref()).to_string()
    }
}

/// Begins a session. The failure counts against the address, and the user there, until the password was right.
pub(crate) async fn log_in(
    shared: &Arc<Shared>,
    address: IpAddr,
    name: &str,
    password: Password,
) -> Result<LoggedIn, ApiError> {
    let turn = Turn::wait()?;
    let (now, counted) = (shared.now(), attempts::log_in(address));
    let (wanted, key) = (name.to_owned(), counted.clone());
    let begun = shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let admitted = attempts::begin(&transaction, now, &key)?;
            let known = users::credentials(&transaction, &wanted)?;
            if let (Ok(()), Some(known)) = (&admitted, &known) {
                attempts::begin_as(&transaction, now, &key, known.id)?;
            }
            transaction.commit()?;
            Ok((admitted, known))
        })
        .await;
    let (admitted, known) = begun.map_err(|error| internal(&error))?;
    if let Err(locked) = admitted {
        if locked.first {
            let detail = format!("log-in, for {} s more", locked.seconds);
            shared.note(address.to_string(), String::new(), "locked out", detail).await;
        }
        return Err(locked_out(address, locked.seconds));
    }
    let right = turn.verify(password, known.as_ref().map(|known| known.password.clone())).await?;
    let Some(known) = known.as_ref().filter(|_| right) else {
        // A name that nobody has may be a password that was typed into the wrong field, so it is not written down.
        let detail =
            known.map_or("a user that does not exist".to_owned(), |known| format!("user {}", known.name));
        shared.note(address.to_string(), String::new(), "log-in refused", detail).await;
        return Err(wrong());
    };
    begin(shared, address, counted, known.clone()).await
}

/// Writes down a session of a user whose password was right, unless that has changed meanwhile.
async fn begin(
    shared: &Arc<Shared>,
    address: IpAddr,
    counted: String,
    known: users::Credentials,
) -> Result<LoggedIn, ApiError> {
    let (now, limits, folder) = (shared.now(), limits(shared), shared.config.state_folder.clone());
    let mut token = Zeroizing::new(vec![0; 32]);
    OsRng.fill_bytes(&mut token);
    let credentials = Credentials { token, from_cookie: false };
    let (hash, user) = (credentials.hash(), known.clone());
    let begun = shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let still = users::credentials(&transaction, &user.name)?;
            if still.as_ref() != Some(&user) {
                return Ok(false);
            }
            attempts::logged_in(&transaction, now, &counted, user.id)?;
            let address = address.to_string();
            sessions::add(
                &transaction,
                &Begun { hash: &hash, user: user.id, address: &address, now },
                &limits,
            )?;
            users::seen(&transaction, user.id, now)?;
            let entry = audit::Entry {
                time: now,
                address,
                host: String::new(),
                outcome: "logged in".into(),
                detail: format!("user {}", user.name),
            };
            audit::add(&transaction, &entry)?;
            transaction.commit()?;
            if user.role == Role::Administrator
                && let Err(error) = first::forget(&folder)
            {
                tracing::error!("{error:#}");
            }
            Ok(true)
        })
        .await;
    if !begun.map_err(|error| internal(&error))? {
        return Err(wrong());
    }
    tracing::info!(user = known.name, %address, "logged in");
    Ok(LoggedIn {
        token: Hex::from(credentials.token.as_slice()).to_string(),
        csrf: credentials.csrf(),
        user: known.name,
        role: known.role,
        expires: now.saturating_add(LONGEST),
    })
}

fn limits(shared: &Shared) -> Limits {
    let idle = u64::from(shared.config.session_idle_minutes) * 60 * SECOND;
    Limits { idle, longest: LONGEST, precision: PRECISION }
}

/// The caller that a token belongs to; `used` tells that this is a use of it, which keeps it from ending.
pub(super) async fn caller(
    shared: &Arc<Shared>,
    credentials: &Credentials,
    used: bool,
) -> Result<Option<Caller>, ApiError> {
    let (now, limits, hash) = (shared.now(), limits(shared), credentials.hash());
    let key = hash.clone();
    let found =
        shared.store.read(move |connection| Ok(sessions::find(connection, &key, now, &limits)?)).await;
    let Some(found) = found.map_err(|error| internal(&error))? else { return Ok(None) };
    if used && now.saturating_sub(found.used) >= PRECISION {
        let noted = shared.store.note(move |connection| Ok(sessions::used(connection, &hash, now)?)).await;
        noted.map_err(|error| internal(&error))?;
    }
    let csrf = credentials.csrf();
    Ok(Some(Caller { user: found.user, name: found.name, role: found.role, csrf }))
}

/// Who sent a request with these headers, if he is logged in at this moment. Where a request lasts, it is asked again
/// and again, since a session may end meanwhile; asking does not keep it from ending.
pub(crate) async fn who(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    match Credentials::of(headers) {
        Some(credentials) => caller(shared, &credentials, false).await,
        None => Ok(None),
    }
}

/// The cookie of a session that has begun.
pub(crate) fn cookie(session: &LoggedIn) -> HeaderValue {
    let seconds = LONGEST / SECOND;
    let text =
        format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}", session.token);
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Ends the session that a request with these headers belongs to; the value has the browser forget the cookie.
pub(crate) async fn log_out(
    shared: &Arc<Shared>,
    address: IpAddr,
    headers: &HeaderMap,
) -> Result<HeaderValue, ApiError> {
    if let Some(credentials) = Credentials::of(headers) {
        let (now, hash) = (shared.now(), credentials.hash());
        let ended = shared
            .store
            .with(move |connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                if let Some(user) = sessions::end(&transaction, &hash)? {
                    let entry = audit::Entry {
                        time: now,
                        address: address.to_string(),
                        host: String::new(),
                        outcome: "logged out".into(),
                        detail: format!("user {user}"),
                    };
                    audit::add(&transaction, &entry)?;
                }
                Ok(transaction.commit()?)
            })
            .await;
        ended.map_err(|error| internal(&error))?;
    }
    Ok(HeaderValue::from_static("__Host-session=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn wrong() -> ApiError {
    ApiError::new(
        ErrorCode::NotLoggedIn,
        "the log-in",
        "it is refused",
        "user name or password is wrong",
        "try again, or ask an administrator for a new password: mt-configserver user password NAME",
    )
}

fn locked_out(address: IpAddr, seconds: u64) -> ApiError {
    let mut refused = ApiError::new(
        ErrorCode::LockedOut,
        address.to_string(),
        "this address is locked out",
        "too many log-ins from it failed",
        format!("try again in {seconds} s"),
    );
    refused.retry_after = Some(seconds);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: header::HeaderName, value: &str) -> Option<Credentials> {
        Credentials::of(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn tokens_are_found_where_they_belong() {
        let token = "0a".repeat(32);
        let bearer = of(header::AUTHORIZATION, &format!("Bearer {token}")).unwrap();
        let cookie = of(header::COOKIE, &format!("a=b; __Host-session={token}; c")).unwrap();
        assert!(!bearer.is_cookie() && cookie.is_cookie());
        assert!(bearer.hash() == cookie.hash() && bearer.csrf() == cookie.csrf());
        assert!(bearer.csrf().len() == 64 && bearer.csrf() != token);
        for text in ["", "Bearer", "Bearer 0a", &format!("Basic {token}"), &format!("Bearer {token}0a")] {
            assert!(of(header::AUTHORIZATION, text).is_none(), "{text}");
        }
        for text in ["", "__Host-session", "__Host-session=", &format!("session={token}")] {
            assert!(of(header::COOKIE, text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_host_and_no_script() {
        let session = LoggedIn {
            token: "0a".repeat(32),
            user: "ann".into(),
            role: Role::Reader,
            csrf: String::new(),
            expires: 0,
        };
        let value = cookie(&session);
        let text = value.to_str().unwrap();
        assert!(text.starts_with(&format!("__Host-session={};", session.token)), "{text}");
        for part in ["; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Strict;"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(value.is_sensitive());
    }
}
