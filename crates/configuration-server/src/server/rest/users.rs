//! `/api/v1/users`.

use super::super::changes::Topic;
use super::call::{Answer, Call, Note, Reply, conflict, missing};
use super::fields::{Field, refused};
use crate::access::{self, Password, Role};
use crate::store::events::Event;
use crate::store::users::{self, User};
use control_api::time::Time;
use control_api::{ApiError, Severity};

const KIND: &str = "user";
/// Characters that a password may have.
const MAX_PASSWORD: usize = 256;

pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let page = query.page()?;
    query.finish()?;
    let all = call.read(|connection| Ok(users::list(connection)?)).await?;
    Reply::list(all.len() as u64, page.of(all))
}

pub(super) async fn add(mut call: Call) -> Answer {
    call.no_query()?;
    let mut fields = call.body()?;
    let name = fields.take("name")?.text()?;
    let role = role(fields.take("role")?)?;
    let password = password(fields.take("password")?)?;
    fields.finish()?;
    let (hash, now) = (access::hash(password).await?, call.now());
    let made = call.change(Topic::Settings, move |transaction| {
        let made = users::add(transaction, &name, role, &hash, now)?;
        Ok(made.map(|user| {
            let note = note("user added", &user, now, "a user was added");
            (user, note)
        }))
    });
    let made = made.await?;
    Reply::made(format!("/api/v1/users/{}", made.id), &made)
}

/// Gives a user a role, and a password when there is one.
pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let mut fields = call.body()?;
    let role = role(fields.take("role")?)?;
    let password = fields.find("password").map(password).transpose()?;
    fields.finish()?;
    not_oneself(&call, id)?;
    let hash = match password {
        Some(password) => Some(access::hash(password).await?),
        None => None,
    };
    let now = call.now();
    let changed = call.change(Topic::Settings, move |transaction| {
        if let Err(refused) = users::set_role(transaction, id, role)? {
            return Ok(Err(refused));
        }
        if let Some(hash) = &hash {
            users::set_password(transaction, id, hash)?.ok();
        }
        let Some(user) = users::by_id(transaction, id)? else {
            return Ok(Err(missing(KIND, &id.to_string())));
        };
        let what = match hash {
            Some(_) => "a user was given a role and a password",
            None => "a user was given a role",
        };
        let note = note("user changed", &user, now, what);
        Ok(Ok((user, note)))
    });
    Reply::of(&changed.await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    not_oneself(&call, id)?;
    let now = call.now();
    let removed = call.change(Topic::Settings, move |transaction| {
        let Some(user) = users::by_id(transaction, id)? else {
            return Ok(Err(missing(KIND, &id.to_string())));
        };
        let removed = users::remove(transaction, id)?;
        Ok(removed.map(|()| ((), note("user removed", &user, now, "a user was removed"))))
    });
    removed.await?;
    Reply::nothing()
}

fn role(field: Field) -> Result<Role, ApiError> {
    let text = field.text()?;
    Role::parse(&text)
        .ok_or_else(|| refused("role", "reader, operator or administrator", &format!("{text:?}")))
}

/// A password that is not too long for the document; what else it must have is looked at when it is hashed.
fn password(field: Field) -> Result<Password, ApiError> {
    let text = field.text()?;
    match text.chars().count() <= MAX_PASSWORD {
        true => Ok(Password::from(text)),
        false => Err(refused("password", &format!("at most {MAX_PASSWORD} characters long"), "longer")),
    }
}

/// Nobody shuts himself out.
fn not_oneself(call: &Call, id: i64) -> Result<(), ApiError> {
    if call.caller.user != id {
        return Ok(());
    }
    Err(conflict(
        format!("{KIND} {}", call.caller.name),
        "it cannot be changed or removed",
        "it is the user who asks",
        "have another administrator do it, or use mt-configserver user on the configuration server",
    ))
}

fn note(outcome: &'static str, user: &User, now: Time, what: &str) -> Note {
    let event = Event {
        id: 0,
        time: now,
        severity: Severity::Info,
        kind: "user".into(),
        object: user.name.clone(),
        what: what.into(),
        cause: format!("role {}", user.role),
        next: String::new(),
        host: None,
        item: None,
    };
    Note { event: Some(event), ..Note::new(outcome, format!("{}, {}", user.name, user.role)) }
}
