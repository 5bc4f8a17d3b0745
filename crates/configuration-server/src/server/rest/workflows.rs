//! `/api/v1/workflows`.

use super::super::actions::workflows::{self as actions, Wanted};
use super::super::actions::{group_workflows, reprotect};
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use super::fields::{Field, Fields, is_host_id, refused};
use super::item_orders;
use super::jobs::{MAX_BOOKMARK, is_item, is_text};
use control_api::ApiError;
use control_api::agent::{ItemOrder, TargetOrder, is_target};
use rusqlite::Transaction;
use serde::Deserialize;

const KINDS: [(&str, Kind); 9] = [
    ("planned-failover", Kind::Item(Wanted::PlannedFailover)),
    ("cancel-failover", Kind::Item(Wanted::CancelFailover)),
    ("commit", Kind::Item(Wanted::Commit)),
    ("reprotect", Kind::Reprotect),
    ("group-bookmark", Kind::Group(bookmark)),
    ("group-failover", Kind::Group(failover)),
    ("group-planned-failover", Kind::Group(|_| Ok(group_workflows::Wanted::PlannedFailover))),
    ("group-cancel-failover", Kind::Group(|_| Ok(group_workflows::Wanted::CancelFailover))),
    ("group-commit", Kind::Group(|_| Ok(group_workflows::Wanted::Commit))),
];

/// The longest name of a bookmark of a group, in characters: the round in which it is set is added to it.
pub(crate) const MAX_GROUP_BOOKMARK: usize = 50;

/// What a workflow is about.
#[derive(Clone, Copy)]
enum Kind {
    Item(Wanted),
    Reprotect,
    /// A group; this reads the other fields.
    Group(fn(&mut Fields) -> Result<group_workflows::Wanted, ApiError>),
}

/// Where a disk of the source goes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    id: String,
    target: TargetOrder,
}

/// Orders a workflow. When it is answered, it is durable, and each of its steps is ordered once.
pub(super) async fn order(mut call: Call) -> Answer {
    call.no_query()?;
    let mut fields = call.body()?;
    let kind = fields.take("workflow")?.text()?;
    let Some((_, wanted)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
        let known = KINDS.map(|(known, _)| known).join(", ");
        return Err(refused("workflow", &format!("one of {known}"), &format!("{kind:?}")));
    };
    let (by, now) = (call.caller.name.clone(), call.now());
    let ordered = match wanted {
        Kind::Item(wanted) => {
            let item = fields.take("item")?.id()?;
            fields.finish()?;
            call.change(&[Topic::Jobs], move |store| actions::order(store, item, wanted, &by, now)).await?
        }
        Kind::Group(wanted) => {
            let group = fields.take("group")?.id()?;
            let wanted = wanted(&mut fields)?;
            fields.finish()?;
            let order =
                move |store: &Transaction<'_>| group_workflows::order(store, group, &wanted, &by, now);
            call.change(&[Topic::Jobs], order).await?
        }
        Kind::Reprotect => {
            let wanted = reprotected(fields)?;
            call.change(&[Topic::Jobs], move |store| reprotect::order(store, wanted, &by, now)).await?
        }
    };
    Reply::made(format!("/api/v1/jobs/{}", ordered.id), &ordered)
}

fn bookmark(fields: &mut Fields) -> Result<group_workflows::Wanted, ApiError> {
    let name = text(fields, "name", MAX_GROUP_BOOKMARK)?;
    let at_rest = fields.take("application_consistent")?.value();
    let Some(application_consistent) = at_rest.as_bool() else {
        return Err(refused("application_consistent", "true or false", &at_rest.to_string()));
    };
    Ok(group_workflows::Wanted::Bookmark { name, application_consistent, regular: false })
}

fn failover(fields: &mut Fields) -> Result<group_workflows::Wanted, ApiError> {
    Ok(group_workflows::Wanted::Failover { bookmark: text(fields, "bookmark", MAX_BOOKMARK)? })
}

fn text(fields: &mut Fields, key: &'static str, longest: usize) -> Result<String, ApiError> {
    let text = fields.take(key)?.text()?;
    match is_text(&text, longest) {
        true => Ok(text),
        false => {
            let expected = format!("a text of 1 to {longest} characters without control characters");
            Err(refused(key, &expected, &format!("{text:?}")))
        }
    }
}

fn reprotected(mut fields: Fields) -> Result<reprotect::Wanted, ApiError> {
    let wanted = reprotect::Wanted {
        source: host(fields.take("source")?, "source")?,
        target: host(fields.take("target")?, "target")?,
        name: fields.take("name")?.text()?,
        policy: fields.take("policy")?.id()?,
        group: fields.find("group").and_then(Field::unless_null).map(Field::id).transpose()?,
        address: fields.find("address").and_then(Field::unless_null).map(Field::text).transpose()?,
        disks: disks(fields.take("disks")?)?,
    };
    fields.finish()?;
    if !is_item(&wanted.name) {
        let expected = "the name of an item: letters, digits and . _ - of ASCII, 64 at most";
        return Err(refused("name", expected, &format!("{:?}", wanted.name)));
    }
    if let Some(address) = wanted.address.as_ref().filter(|address| !is_target(address)) {
        let expected = "host and port of the master target, such as mt01.example:9443";
        return Err(refused("address", expected, &format!("{address:?}")));
    }
    Ok(wanted)
}

fn host(field: Field, key: &str) -> Result<String, ApiError> {
    let id = field.text()?;
    match is_host_id(&id) {
        true => Ok(id),
        false => Err(refused(key, "the id of a host, 32 hexadecimal digits", &format!("{id:?}"))),
    }
}

fn disks(field: Field) -> Result<Vec<(String, TargetOrder)>, ApiError> {
    let given = field.value();
    let shown = given.to_string();
    let bad = || refused("disks", "disks as they are described", &shown);
    // A kind may be read from a number, which nobody means.
    let named = |disk: &serde_json::Value| disk["target"]["kind"].is_string();
    if !given.as_array().is_some_and(|disks| disks.iter().all(named)) {
        return Err(bad());
    }
    let disks: Vec<Disk> = serde_json::from_value(given).map_err(|_| bad())?;
    let good = |disk: &Disk| item_orders::is_disk(&disk.id, &disk.target);
    match (1..=ItemOrder::MAX_DISKS).contains(&disks.len()) && disks.iter().all(good) {
        true => Ok(disks.into_iter().map(|disk| (disk.id, disk.target)).collect()),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(key: &str, value: Value) -> Option<String> {
        let mut body = json!({
            "source": "b".repeat(32), "target": "a".repeat(32), "name": "web01", "policy": 1,
            "disks": [{"id": "disk0", "target": {"kind": "existing", "target": "/vmfs/web01.vmdk"}}]
        });
        body[key] = value;
        let fields = Fields::of(body.to_string().as_bytes()).unwrap();
        reprotected(fields).err().map(|refused| refused.failure.object)
    }

    #[test]
    fn a_reprotect_has_its_form() {
        assert_eq!(object("address", json!("mt01:9443")), None);
        assert_eq!(object("group", Value::Null), None);
        let new = json!({"kind": "new", "folder": "/vmfs", "format": "raw", "adapter": "lsilogic"});
        for (key, value) in [
            ("source", json!("web01")),
            ("target", json!(1)),
            ("name", json!("../web01")),
            ("policy", json!(0)),
            ("group", json!("Shop")),
            ("address", json!("mt01")),
            ("disks", json!([])),
            ("disks", json!([{"id": "disk0", "target": new}])),
            ("disks", json!([{"id": "a/b", "target": {"kind": "existing", "target": "/a"}}])),
            ("disks", json!([{"id": "a", "size": 1, "target": {"kind": "existing", "target": "/a"}}])),
            ("disks", json!({"id": "a"})),
            ("more", json!(1)),
        ] {
            assert_eq!(object(key, value.clone()).as_deref(), Some(key), "{value}");
        }
    }

    #[test]
    fn a_bookmark_of_a_group_has_its_form() {
        let read = |body: Value| {
            let mut fields = Fields::of(body.to_string().as_bytes()).unwrap();
            bookmark(&mut fields).map_err(|refused| refused.failure.object)
        };
        let name = "x".repeat(MAX_GROUP_BOOKMARK);
        let wanted = group_workflows::Wanted::Bookmark {
            name: name.clone(),
            application_consistent: false,
            regular: false,
        };
        assert_eq!(read(json!({"name": name, "application_consistent": false})), Ok(wanted));
        for (body, object) in [
            (json!({"application_consistent": true}), "name"),
            (json!({"name": "", "application_consistent": true}), "name"),
            (json!({"name": "a\n", "application_consistent": true}), "name"),
            (json!({"name": "x".repeat(MAX_GROUP_BOOKMARK + 1), "application_consistent": true}), "name"),
            (json!({"name": "a"}), "application_consistent"),
            (json!({"name": "a", "application_consistent": 1}), "application_consistent"),
        ] {
            assert_eq!(read(body.clone()), Err(object.to_owned()), "{body}");
        }
    }
}
