//! Policies and replication groups.

use super::confirm::Confirm;
use super::fields::Fields;
use super::page::{Form, Frame, Problem, Section, Visit, answer, show};
use super::redirect;
use super::ui;
use crate::access::Role;
use crate::server::actions;
use crate::server::changes::Topic;
use crate::store::groups::{self, Group};
use crate::store::policies::{self, Policy, Wanted};
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use control_api::{ApiError, ErrorCode, Failure};

#[derive(Template)]
#[template(path = "policies.html")]
struct ListPage {
    frame: Frame,
    may_edit: bool,
    rows: Vec<Line>,
    groups: Vec<Group>,
}

struct Line {
    id: i64,
    name: String,
    window: String,
    threshold: String,
    consistent: String,
    items: u64,
    removable: bool,
}

#[derive(Template)]
#[template(path = "policy.html")]
struct EditPage {
    frame: Frame,
    failure: Option<Failure>,
    action: String,
    name: String,
    window: String,
    threshold: String,
    consistent: String,
}

/// `GET /policies`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let (policies, groups) =
        visit.read(|connection| Ok((policies::list(connection)?, groups::list(connection)?))).await?;
    show(&ListPage {
        frame: visit.frame(Section::Policies, "Policies", "settings items"),
        may_edit: visit.may(Role::Administrator),
        rows: policies.into_iter().map(line).collect(),
        groups,
    })
}

fn line(policy: Policy) -> Line {
    Line {
        id: policy.id,
        window: ui::seconds(policy.window_seconds),
        threshold: ui::seconds(policy.rpo_threshold_seconds),
        consistent: policy.application_consistent_every_seconds.map_or("not watched".into(), ui::seconds),
        items: policy.items,
        removable: policy.id != policies::DEFAULT && policy.items == 0,
        name: policy.name,
    }
}

/// `GET /policies/new`.
pub(super) async fn new(visit: Visit) -> Result<Response, Problem> {
    show(&EditPage {
        frame: visit.frame(Section::Policies, "New policy", ""),
        failure: None,
        action: "/policies".into(),
        name: String::new(),
        window: "24".into(),
        threshold: "15".into(),
        consistent: "60".into(),
    })
}

/// `GET /policies/{id}`.
pub(super) async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let policy = by_id(&visit, &id).await?;
    show(&EditPage {
        frame: visit.frame(Section::Policies, policy.name.clone(), ""),
        failure: None,
        action: format!("/policies/{}", policy.id),
        window: policy.window_seconds.div_ceil(3600).to_string(),
        threshold: policy.rpo_threshold_seconds.div_ceil(60).to_string(),
        consistent: policy.application_consistent_every_seconds.unwrap_or(0).div_ceil(60).to_string(),
        name: policy.name,
    })
}

async fn by_id(visit: &Visit, id: &str) -> Result<Policy, Problem> {
    let missing = || Problem::missing(&format!("policy {id}"), "the policies");
    let number: i64 = id.parse().map_err(|_| missing())?;
    visit.read(move |connection| policies::by_id(connection, number)).await?.ok_or_else(missing)
}

/// `POST /policies`.
pub(super) async fn add(visit: Visit, Form(form): Form) -> Result<Response, Problem> {
    save(visit, None, "New policy".into(), form).await
}

/// `POST /policies/{id}`.
pub(super) async fn change(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let policy = by_id(&visit, &id).await?;
    save(visit, Some(policy.id), policy.name, form).await
}

async fn save(visit: Visit, id: Option<i64>, title: String, form: Fields) -> Result<Response, Problem> {
    let outcome = match wanted(&form) {
        Ok(wanted) => store(&visit, id, wanted).await,
        Err(refused) => Err(Problem(refused)),
    };
    match outcome {
        Ok(_) => Ok(redirect("/policies?done=policy")),
        Err(Problem(error)) if error.code != ErrorCode::Internal => {
            let field = |name: &str| form.get(name).to_owned();
            let page = EditPage {
                frame: visit.frame(Section::Policies, title, ""),
                failure: Some(error.failure),
                action: id.map_or("/policies".into(), |id| format!("/policies/{id}")),
                name: field("name"),
                window: field("window"),
                threshold: field("threshold"),
                consistent: field("consistent"),
            };
            answer(StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST), &page)
        }
        Err(problem) => Err(problem),
    }
}

async fn store(visit: &Visit, id: Option<i64>, wanted: Wanted) -> Result<Policy, Problem> {
    let now = visit.now;
    let saved = visit.change(&[Topic::Settings], move |store| match id {
        None => actions::policies::add(store, &wanted, now),
        Some(id) => actions::policies::change(store, id, &wanted, now),
    });
    saved.await
}

/// What a form wants of items.
fn wanted(form: &Fields) -> Result<Wanted, ApiError> {
    let number = |field: &str, what: &str, unit: u64, range: std::ops::RangeInclusive<u64>| {
        let value = form.number::<u64>(field).filter(|value| range.contains(value));
        value.map(|value| value * unit).ok_or_else(|| {
            let why = format!("it must be a whole number from {} to {}", range.start(), range.end());
            ApiError::new(ErrorCode::BadRequest, what, "it cannot be used", why, "correct it")
        })
    };
    let every = number("consistent", "application-consistent points", 60, 0..=10_080)?;
    Ok(Wanted {
        name: name(form)?,
        window_seconds: number("window", "the retention window", 3600, 1..=8760)?,
        rpo_threshold_seconds: number("threshold", "the RPO threshold", 60, 1..=1440)?,
        application_consistent_every_seconds: (every > 0).then_some(every),
    })
}

fn name(form: &Fields) -> Result<String, ApiError> {
    let name = form.get("name");
    if (1..=64).contains(&name.chars().count()) && !name.contains(char::is_control) {
        return Ok(name.to_owned());
    }
    let why = "it must have 1 to 64 characters";
    Err(ApiError::new(ErrorCode::BadRequest, "the name", "it cannot be used", why, "give another one"))
}

/// `GET /policies/{id}/remove`.
pub(super) async fn ask_remove(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let policy = by_id(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Policies, format!("Remove the policy {}?", policy.name), ""),
        consequence: "No item has it. It is gone for good.".into(),
        then: String::new(),
        action: format!("/policies/{id}/remove"),
        yes: "Remove",
        dangerous: true,
        back: "/policies".into(),
    })
}

/// `POST /policies/{id}/remove`.
pub(super) async fn remove(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let (Policy { id, .. }, now) = (by_id(&visit, &id).await?, visit.now);
    visit.change(&[Topic::Settings], move |store| actions::policies::remove(store, id, now)).await?;
    Ok(redirect("/policies?done=policy-removed"))
}

/// `POST /groups`.
pub(super) async fn add_group(visit: Visit, Form(form): Form) -> Result<Response, Problem> {
    let name = name(&form)?;
    visit.change(&[Topic::Settings], move |store| actions::groups::add(store, &name)).await?;
    Ok(redirect("/policies?done=group"))
}

async fn group(visit: &Visit, id: &str) -> Result<Group, Problem> {
    let missing = || Problem::missing(&format!("group {id}"), "the groups");
    let number: i64 = id.parse().map_err(|_| missing())?;
    visit.read(move |connection| groups::by_id(connection, number)).await?.ok_or_else(missing)
}

/// `GET /groups/{id}/remove`.
pub(super) async fn ask_remove_group(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let group = group(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Policies, format!("Remove the group {}?", group.name), ""),
        consequence: "A group without items is gone for good; one with items is left as it is.".into(),
        then: format!("It has {} items.", group.items),
        action: format!("/groups/{id}/remove"),
        yes: "Remove",
        dangerous: true,
        back: "/policies".into(),
    })
}

/// `POST /groups/{id}/remove`.
pub(super) async fn remove_group(
    visit: Visit,
    Path(id): Path<String>,
    _form: Form,
) -> Result<Response, Problem> {
    let Group { id, .. } = group(&visit, &id).await?;
    visit.change(&[Topic::Settings], move |store| actions::groups::remove(store, id)).await?;
    Ok(redirect("/policies?done=group-removed"))
}
