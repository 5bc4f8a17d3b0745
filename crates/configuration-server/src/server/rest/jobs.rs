//! `/api/v1/jobs`.

use super::super::actions::jobs::{self as actions, KIND};
use super::super::actions::missing;
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use super::fields::{Field, is_host_id, refused};
use super::item_orders;
use crate::store::jobs;
use control_api::agent::{JobKind, is_target};
use control_api::{ApiError, PointSelector};
use serde_json::Value;

/// Characters that the name of a bookmark may have.
pub(super) const MAX_BOOKMARK: usize = 60;
/// Characters that the name in a certificate may have.
const MAX_SERVER_NAME: usize = 253;

/// The newest first.
pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let (host, item) = (query.host_or_job("host", "host")?, query.id("item")?);
    let (open, before) = (query.flag("open")?, query.id("before")?);
    let parent = query.host_or_job("parent", "workflow")?;
    let limit = query.limit()?;
    query.finish()?;
    let rows = u32::try_from(limit).unwrap_or(u32::MAX);
    let wanted = jobs::Query { host, item, open, before, parent, whole: false, limit: rows };
    let found = call.read(move |connection| Ok(jobs::list(connection, &wanted)?)).await?;
    Reply::newest(found, limit, |job| job.number)
}

pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.id();
    let found = call.read(move |connection| Ok(jobs::by_uuid(connection, &id)?)).await?;
    Reply::of(&found.ok_or_else(|| missing(KIND, &call.id()))?)
}

/// Orders a job. When it is answered, the job is durable and runs once.
pub(super) async fn order(mut call: Call) -> Answer {
    call.no_query()?;
    let mut fields = call.body()?;
    let host = fields.take("host")?.text()?;
    if !is_host_id(&host) {
        return Err(refused("host", "the id of a host, 32 hexadecimal digits", &format!("{host:?}")));
    }
    let job = wanted(fields.take("job")?.value())?;
    fields.finish()?;
    let (by, now) = (call.caller.name.clone(), call.now());
    let ordered =
        call.change(&[Topic::Jobs], move |store| actions::order(store, &host, job, by, now)).await?;
    Reply::made(format!("/api/v1/jobs/{}", ordered.id), &ordered)
}

/// Gives up a job where that is safe.
pub(super) async fn cancel(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, by, now) = (call.id(), call.caller.name.clone(), call.now());
    Reply::of(&call.change(&actions::CANCELLED, move |store| actions::cancel(store, &id, &by, now)).await?)
}

/// What is to be done, in the form that the document describes: no field too many, and points named without doubt.
fn wanted(mut given: Value) -> Result<JobKind, ApiError> {
    if let Some(id) = given.get_mut("id") {
        let number = Field::new("job.id", id.take()).whole(0..=i64::MAX as u64, "a whole number")?;
        *id = number.into();
    }
    write_whole(&mut given);
    let expected = |why: String| refused("job", "one of the jobs that are described", &why);
    let job: JobKind = serde_json::from_value(given.clone()).map_err(|cause| expected(cause.to_string()))?;
    let known = serde_json::to_value(&job).map_err(|cause| expected(cause.to_string()))?;
    let extra = given.as_object().and_then(|given| given.keys().find(|key| known.get(key).is_none()));
    if let Some(key) = extra {
        return Err(refused(&format!("job.{key}"), "left out of this kind of job", "there"));
    }
    if !says_the_same(&given, &known) {
        return Err(expected(format!("what {known} would be")));
    }
    if let JobKind::Protect { item } = &job {
        return item_orders::check(item).map(|()| job);
    }
    let item = if let JobKind::Replicate { item, .. } = &job { Some(item.as_str()) } else { job.item() };
    let text = |field: &str, text: &str, longest| {
        let expected = format!("a text of 1 to {longest} characters without control characters");
        Err(refused(field, &expected, &format!("{text:?}")))
    };
    match &job {
        JobKind::GroupBookmark { .. } => Err(refused(
            "job.kind",
            "a job of one host; a bookmark of a group is a workflow",
            "group-bookmark",
        )),
        JobKind::Bookmark { name, .. } if !is_text(name, MAX_BOOKMARK) => {
            text("job.name", name, MAX_BOOKMARK)
        }
        JobKind::Quiesce { bookmark } if !is_text(bookmark, MAX_BOOKMARK) => {
            text("job.bookmark", bookmark, MAX_BOOKMARK)
        }
        JobKind::Replicate { target, .. } if !is_target(target) => {
            let expected = "host and port of a master target, such as mt01.example:9443";
            Err(refused("job.target", expected, &format!("{target:?}")))
        }
        JobKind::Replicate { server_name: Some(name), .. } if !is_text(name, MAX_SERVER_NAME) => {
            text("job.server_name", name, MAX_SERVER_NAME)
        }
        _ if item.is_some_and(|item| !is_item(item)) => {
            let expected = "the name of an item: letters, digits and . _ - of ASCII, 64 at most";
            Err(refused("job.item", expected, &given["item"].to_string()))
        }
        _ if job.point().is_some_and(|point| !is_clear(point, &given["point"])) => Err(refused(
            "job.point",
            "latest, latest-app-consistent, the number of a point, time:NANOSECONDS or bookmark:NAME",
            &given["point"].to_string(),
        )),
        _ => Ok(job),
    }
}

/// Whether what was given is what was understood: a kind may be read from a number, which nobody means. What is null may
/// be left out.
fn says_the_same(given: &Value, known: &Value) -> bool {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().all(|(key, value)| match known.get(key) {
                Some(known) => says_the_same(value, known),
                None => value.is_null(),
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            given.len() == known.len()
                && given.iter().zip(known).all(|(given, known)| says_the_same(given, known))
        }
        _ => given == known,
    }
}

/// In JSON 7.0 is as whole as 7.
fn write_whole(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(write_whole),
        Value::Array(values) => values.iter_mut().for_each(write_whole),
        Value::Number(number) if number.is_f64() => {
            let exact = |float: f64| float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&float);
            if let Some(float) = number.as_f64().filter(|float| exact(*float)) {
                *value = (float as u64).into();
            }
        }
        _ => {}
    }
}

/// Whether a point is named in the one way that leaves no doubt.
fn is_clear(point: &PointSelector, given: &Value) -> bool {
    let text = given.as_str().unwrap_or_default();
    let few_digits = |text: &str| text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    match point {
        PointSelector::Bookmark(name) => text.starts_with("bookmark:") && is_text(name, MAX_BOOKMARK),
        PointSelector::Time(_) => text.strip_prefix("time:").is_some_and(few_digits),
        PointSelector::Number(_) => few_digits(text),
        PointSelector::Latest | PointSelector::LatestApplicationConsistent => true,
    }
}

/// Whether a master target may have an item of this name.
pub(crate) fn is_item(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    starts && name.len() <= 64 && name.bytes().all(good)
}

pub(super) fn is_text(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_has_no_field_too_many() {
        assert_eq!(wanted(json!({"kind": "check"})).unwrap(), JobKind::Check);
        let stop = wanted(json!({"kind": "test-failover-stop", "item": "web01", "id": 7.0}));
        assert_eq!(stop.unwrap(), JobKind::TestFailoverStop { item: "web01".into(), id: 7 });
        for (job, object) in [
            (json!({"kind": "check", "item": "web01"}), "job.item"),
            (json!({"kind": "resync", "item": "web01", "more": 1}), "job"),
            (json!({"kind": "resync"}), "job"),
            (json!({"kind": "format"}), "job"),
            (json!({"kind": 0}), "job"),
            (json!({"kind": "bookmark", "name": "", "application_consistent": true}), "job.name"),
            (json!({"kind": "bookmark", "name": "a\n", "application_consistent": true}), "job.name"),
            (json!({"kind": "resync", "item": "../web01"}), "job.item"),
            (json!({"kind": "test-failover-stop", "item": "web01", "id": 1.5}), "job.id"),
            (json!({"kind": "replicate", "item": "web01", "target": "mt"}), "job.target"),
            (json!({"kind": "replicate", "item": "a b", "target": "mt:1"}), "job.item"),
            (
                json!({"kind": "replicate", "item": "a", "target": "mt:1", "server_name": ""}),
                "job.server_name",
            ),
            (json!({"kind": "quiesce", "bookmark": ""}), "job.bookmark"),
            (json!({"kind": "unquiesce", "bookmark": "a"}), "job.bookmark"),
            (json!("check"), "job"),
            (
                json!({"kind": "group-bookmark", "name": "a", "group": "a", "meeting": "0f", "application_consistent": true}),
                "job.kind",
            ),
        ] {
            assert_eq!(wanted(job.clone()).unwrap_err().failure.object, object, "{job}");
        }
    }

    #[test]
    fn a_point_is_named_without_doubt() {
        for kind in ["test-failover-start", "failover"] {
            let job = |point: &str| wanted(json!({"kind": kind, "item": "a", "point": point}));
            for point in ["latest", "latest-app-consistent", "417", "time:1790000000000000000", "bookmark:17"]
            {
                assert!(job(point).is_ok(), "{point}");
            }
            for point in
                ["nightly", "2024-02-29T12:34:56Z", "bookmark:", "time:x", "99999999999999999999", ""]
            {
                assert!(job(point).is_err(), "{point}");
            }
        }
    }
}
