//! `/api/v1/groups`.

use super::super::changes::Topic;
use super::call::{Answer, Call, Note, Reply, conflict, missing};
use crate::store::groups::{self, Group, MAX_GROUPS, Member, Refused};
use control_api::ApiError;
use serde::Serialize;

const KIND: &str = "group";

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

pub(super) async fn add(mut call: Call) -> Answer {
    call.no_query()?;
    let name = name(&mut call)?;
    let made = call.change(Topic::Settings, move |transaction| {
        let made = groups::add(transaction, &name)?.map_err(|why| refusal(why, 0, &name));
        Ok(made.map(|group| {
            let note = Note::new("group added", &*group.name);
            (group, note)
        }))
    });
    let made = made.await?;
    Reply::made(format!("/api/v1/groups/{}", made.id), &made)
}

pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let name = name(&mut call)?;
    let changed = call.change(Topic::Settings, move |transaction| {
        let changed = groups::rename(transaction, id, &name)?.map_err(|why| refusal(why, id, &name));
        Ok(changed.map(|group| {
            let note = Note::new("group renamed", &*group.name);
            (group, note)
        }))
    });
    Reply::of(&changed.await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let removed = call.change(Topic::Settings, move |transaction| {
        let removed = groups::remove(transaction, id)?.map_err(|why| refusal(why, id, &id.to_string()));
        Ok(removed.map(|group| ((), Note::new("group removed", group.name))))
    });
    removed.await?;
    Reply::nothing()
}

fn name(call: &mut Call) -> Result<String, ApiError> {
    let mut fields = call.body()?;
    let name = fields.take("name")?.name()?;
    fields.finish()?;
    Ok(name)
}

pub(super) fn refusal(why: Refused, id: i64, object: &str) -> ApiError {
    let object = format!("{KIND} {object}");
    match why {
        Refused::Unknown => missing(KIND, &id.to_string()),
        Refused::NameTaken => {
            conflict(object, "it cannot have this name", "another group has it", "choose another name")
        }
        Refused::TooMany => conflict(
            object,
            "it cannot be added",
            format!("there are {MAX_GROUPS} groups already"),
            "remove one without items",
        ),
        Refused::InUse(items) => conflict(
            object,
            "it cannot be removed",
            format!("{items} items are in it"),
            "take them out of it first",
        ),
        Refused::OtherHost(host) => conflict(
            object,
            "the item cannot be put into it",
            format!("its items are on {host}, and items that share recovery points are on one master target"),
            "choose another group",
        ),
    }
}
