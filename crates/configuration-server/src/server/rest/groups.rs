//! `/api/v1/groups`.

use super::super::actions::groups::{self as actions, KIND};
use super::super::actions::missing;
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use crate::store::groups::{self, Group, Member};
use control_api::ApiError;
use serde::Serialize;

/// A group with its items.
#[derive(Serialize)]
struct WithMembers {
    #[serde(flatten)]
    group: Group,
    members: Vec<Member>,
}

pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let page = query.page()?;
    query.finish()?;
    let all = call.read(|connection| Ok(groups::list(connection)?)).await?;
    Reply::list(all.len() as u64, page.of(all))
}

pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| {
        let Some(group) = groups::by_id(connection, id)? else { return Ok(None) };
        Ok(Some(WithMembers { group, members: groups::members(connection, id)? }))
    });
    Reply::of(&found.await?.ok_or_else(|| missing(KIND, &call.id()))?)
}

/// The recovery points that its items share.
pub(super) async fn points(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let page = query.page()?;
    query.finish()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| {
        let known = groups::by_id(connection, id)?.is_some();
        Ok(if known { Some(groups::common(connection, id)?) } else { None })
    });
    let found = found.await?.ok_or_else(|| missing(KIND, &call.id()))?;
    Reply::list(found.len() as u64, page.of(found))
}

pub(super) async fn add(mut call: Call) -> Answer {
    call.no_query()?;
    let name = name(&mut call)?;
    let made = call.change(&[Topic::Settings], move |store| actions::add(store, &name)).await?;
    Reply::made(format!("/api/v1/groups/{}", made.id), &made)
}

pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, name) = (call.number(KIND)?, name(&mut call)?);
    Reply::of(&call.change(&[Topic::Settings], move |store| actions::rename(store, id, &name)).await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    call.change(&[Topic::Settings], move |store| actions::remove(store, id)).await?;
    Reply::nothing()
}

fn name(call: &mut Call) -> Result<String, ApiError> {
    let mut fields = call.body()?;
    let name = fields.take("name")?.name()?;
    fields.finish()?;
    Ok(name)
}
