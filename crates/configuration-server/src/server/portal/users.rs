//! Users, for administrators.

use super::confirm::Confirm;
use super::fields::Fields;
use super::page::{Choice, Form, Frame, Problem, Section, Visit, answer, show};
use super::redirect;
use super::ui::{Ago, Moment};
use crate::access::{Password, Role, hash};
use crate::server::actions::users as actions;
use crate::server::changes::Topic;
use crate::store::users::{self, User};
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use control_api::{ApiError, ErrorCode, Failure};

#[derive(Template)]
#[template(path = "users.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Line>,
    failure: Option<Failure>,
    name: String,
    roles: Vec<Choice>,
}

struct Line {
    id: i64,
    name: String,
    own: bool,
    role: Role,
    seen: Option<Ago>,
    made: Moment,
}

#[derive(Template)]
#[template(path = "user.html")]
struct EditPage {
    frame: Frame,
    id: i64,
    name: String,
    failure: Option<Failure>,
    roles: Vec<Choice>,
}

fn roles(chosen: &str) -> Vec<Choice> {
    Role::ALL.into_iter().map(|role| Choice::new(role.id(), role.id(), chosen)).collect()
}

/// `GET /users`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    list_with(&visit, StatusCode::OK, None, &Fields::default()).await
}

async fn list_with(
    visit: &Visit,
    status: StatusCode,
    failure: Option<Failure>,
    form: &Fields,
) -> Result<Response, Problem> {
    let users = visit.read(users::list).await?;
    let line = |user: User| Line {
        id: user.id,
        own: user.id == visit.caller.user,
        name: user.name,
        role: user.role,
        seen: user.seen.map(|time| Ago { time, now: visit.now }),
        made: Moment(user.made),
    };
    let page = ListPage {
        frame: visit.frame(Section::Users, "Users", "settings"),
        rows: users.into_iter().map(line).collect(),
        failure,
        name: form.get("name").to_owned(),
        roles: roles(form.get("role")),
    };
    answer(status, &page)
}

/// `POST /users`.
pub(super) async fn add(visit: Visit, Form(form): Form) -> Result<Response, Problem> {
    match added(&visit, &form).await {
        Ok(_) => Ok(redirect("/users?done=user")),
        Err(Problem(error)) if error.code != ErrorCode::Internal => {
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
            list_with(&visit, status, Some(error.failure), &form).await
        }
        Err(problem) => Err(problem),
    }
}

async fn added(visit: &Visit, form: &Fields) -> Result<User, Problem> {
    let (name, role) = (form.get("name").to_owned(), role(form)?);
    let hashed = hash(Password::from(form.exact("password").to_owned())).await?;
    let now = visit.now;
    visit.change(&[Topic::Settings], move |store| actions::add(store, &name, role, &hashed, now)).await
}

fn role(form: &Fields) -> Result<Role, ApiError> {
    Role::parse(form.get("role")).ok_or_else(|| {
        let why = "the form names none that there is";
        ApiError::new(ErrorCode::BadRequest, "the role", "it cannot be used", why, "choose one")
    })
}

async fn by_id(visit: &Visit, id: &str) -> Result<User, Problem> {
    let missing = || Problem::missing(&format!("user {id}"), "the users");
    let number: i64 = id.parse().map_err(|_| missing())?;
    visit.read(move |connection| users::by_id(connection, number)).await?.ok_or_else(missing)
}

/// `GET /users/{id}`.
pub(super) async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let user = by_id(&visit, &id).await?;
    edit_with(&visit, StatusCode::OK, user, None)
}

fn edit_with(
    visit: &Visit,
    status: StatusCode,
    user: User,
    failure: Option<Failure>,
) -> Result<Response, Problem> {
    let page = EditPage {
        frame: visit.frame(Section::Users, user.name.clone(), ""),
        id: user.id,
        roles: roles(user.role.id()),
        name: user.name,
        failure,
    };
    answer(status, &page)
}

/// `POST /users/{id}`.
pub(super) async fn change(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let user = by_id(&visit, &id).await?;
    match changed(&visit, user.id, &form).await {
        Ok(_) => Ok(redirect("/users?done=user")),
        Err(Problem(error)) if error.code != ErrorCode::Internal => {
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
            edit_with(&visit, status, user, Some(error.failure))
        }
        Err(problem) => Err(problem),
    }
}

async fn changed(visit: &Visit, id: i64, form: &Fields) -> Result<User, Problem> {
    let role = role(form)?;
    let hashed = match form.exact("password") {
        "" => None,
        password => Some(hash(Password::from(password.to_owned())).await?),
    };
    let (own, now) = (visit.caller.user, visit.now);
    let changed = visit.change(&[Topic::Settings], move |store| {
        actions::change(store, own, id, role, hashed.as_deref(), now)
    });
    changed.await
}

/// `GET /users/{id}/remove`.
pub(super) async fn ask_remove(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let user = by_id(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Users, format!("Remove the user {}?", user.name), ""),
        consequence: format!("{} is logged out everywhere and can log in no more.", user.name),
        then: "What the user did stays in the audit.".into(),
        action: format!("/users/{}/remove", user.id),
        yes: "Remove",
        dangerous: true,
        back: "/users".into(),
    })
}

/// `POST /users/{id}/remove`.
pub(super) async fn remove(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let User { id, .. } = by_id(&visit, &id).await?;
    let (own, now) = (visit.caller.user, visit.now);
    visit.change(&[Topic::Settings], move |store| actions::remove(store, own, id, now)).await?;
    Ok(redirect("/users?done=user-removed"))
}
