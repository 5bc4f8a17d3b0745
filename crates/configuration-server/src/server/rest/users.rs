//! `/api/v1/users`.

use super::super::actions::users::{self as actions, KIND};
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use super::fields::{Field, refused};
use crate::access::{self, Password, Role};
use crate::store::users;
use control_api::ApiError;

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
    let made = call.change(&[Topic::Settings], move |store| actions::add(store, &name, role, &hash, now));
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
    if call.caller.user == id {
        // With a new password the session that asks would end before the answer.
        return Err(actions::oneself(&call.caller.name));
    }
    let hash = match password {
        Some(password) => Some(access::hash(password).await?),
        None => None,
    };
    let (own, now) = (call.caller.user, call.now());
    let changed = call
        .change(&[Topic::Settings], move |store| actions::change(store, own, id, role, hash.as_deref(), now));
    Reply::of(&changed.await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, own, now) = (call.number(KIND)?, call.caller.user, call.now());
    call.change(&[Topic::Settings], move |store| actions::remove(store, own, id, now)).await?;
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
