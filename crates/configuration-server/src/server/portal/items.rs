//! The list of replicated items.

use super::lines::{ItemLine, Policies};
use super::page::{Choice, Frame, Pager, Problem, Section, Visit, page_number, show};
use crate::access::Role;
use crate::store::items::{self, Query, Sort};
use crate::store::{groups, hosts, policies};
use askama::Template;
use axum::response::Response;
use control_api::registration::HostKind;
use control_api::{ItemState, Severity};

/// Items on one page.
const SIZE: u32 = 50;

/// Master targets that can be chosen from; with more, the search finds them by name.
const MAX_HOSTS: usize = 1000;

#[derive(Template)]
#[template(path = "items.html")]
struct Page {
    frame: Frame,
    text: String,
    filters: Vec<Filter>,
    filtered: bool,
    may_order: bool,
    sort: String,
    columns: Vec<Column>,
    rows: Vec<ItemLine>,
    pager: Pager,
}

struct Filter {
    name: &'static str,
    title: &'static str,
    choices: Vec<Choice>,
}

struct Column {
    title: &'static str,
    number: bool,
    /// Empty, or how the list is sorted by it.
    order: &'static str,
    /// Sorts by it; empty where that cannot be done.
    link: String,
}

/// What is wanted, as the query says it.
struct Wanted {
    query: Query,
    page: u32,
    filtered: bool,
}

fn wanted(visit: &Visit) -> Wanted {
    let fields = &visit.query;
    let text: String = fields.get("q").chars().take(100).collect();
    let page = page_number(fields, "page");
    let (sort, descending) = match fields.get("sort") {
        "name-down" => (Sort::Name, true),
        "rpo" => (Sort::Rpo, true),
        "rpo-up" => (Sort::Rpo, false),
        "health" => (Sort::Health, true),
        "health-up" => (Sort::Health, false),
        "host" => (Sort::Host, false),
        "host-down" => (Sort::Host, true),
        _ => (Sort::Name, false),
    };
    let some = |name: &str| Some(fields.get(name).to_owned()).filter(|value| !value.is_empty());
    let query = Query {
        host: some("host"),
        state: ItemState::parse(fields.get("state")),
        health: Severity::parse(fields.get("health")),
        text: some("q").map(|_| text),
        group: fields.number("group"),
        policy: fields.number("policy"),
        gone: Some(fields.get("state") == "gone"),
        sort,
        descending,
        limit: SIZE,
        offset: (page - 1) * SIZE,
    };
    let filters = ["q", "host", "state", "health", "group", "policy"];
    Wanted { query, page, filtered: filters.iter().any(|name| !fields.get(name).is_empty()) }
}

/// `GET /items`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let Wanted { query, page, filtered } = wanted(&visit);
    let (sort, descending) = (query.sort, query.descending);
    let (rows, total, hosts, policies, groups) = visit
        .read(move |connection| {
            let all = policies::list(connection)?;
            let (items, total) = items::list(connection, &query)?;
            let policies: Policies = all.iter().map(|policy| (policy.id, policy.clone())).collect();
            let rows: Vec<ItemLine> = items.iter().map(|item| ItemLine::new(item, &policies)).collect();
            Ok((rows, total, hosts::all(connection)?, all, groups::list(connection)?))
        })
        .await?;
    let targets = hosts.iter().filter(|host| host.kind == HostKind::MasterTarget).take(MAX_HOSTS);
    let fields = &visit.query;
    let filter = |name: &'static str, title: &'static str, others: Vec<(String, String)>| Filter {
        name,
        title,
        choices: std::iter::once((String::new(), "All".to_owned()))
            .chain(others)
            .map(|(id, title)| Choice::new(id, title, fields.get(name)))
            .collect(),
    };
    let pair = |id: &str, title: &str| (id.to_owned(), title.to_owned());
    let states = ItemState::ALL.into_iter().map(|state| (state.id().to_owned(), state.to_string()));
    let mut filters = vec![
        filter("state", "State", states.chain([pair("gone", "gone")]).collect()),
        filter("health", "Health", vec![pair("warning", "warning or worse"), pair("critical", "critical")]),
        filter("host", "Master target", targets.map(|host| pair(&host.id, &host.name)).collect()),
        filter("policy", "Policy", policies.iter().map(|one| pair(&one.id.to_string(), &one.name)).collect()),
    ];
    if !groups.is_empty() {
        let groups = groups.iter().map(|one| pair(&one.id.to_string(), &one.name));
        filters.push(filter("group", "Group", groups.collect()));
    }
    show(&Page {
        frame: visit.frame(Section::Items, "Replicated items", "items settings"),
        text: fields.get("q").to_owned(),
        filters,
        filtered,
        may_order: visit.may(Role::Operator),
        sort: fields.get("sort").to_owned(),
        columns: columns(&visit, sort, descending),
        pager: Pager::new(fields, "page", page, SIZE, rows.len(), total),
        rows,
    })
}

fn columns(visit: &Visit, sort: Sort, descending: bool) -> Vec<Column> {
    // The order that a first click sorts by, and the other one.
    let column = |title, number, by: Option<(Sort, bool, &str, &str)>| {
        let sorted = by.filter(|(by, ..)| *by == sort);
        let order = match sorted {
            None => "",
            Some(_) if descending => "descending",
            Some(_) => "ascending",
        };
        let link = by.map(|(_, first_descends, first, other)| {
            let turn = sorted.is_some() && descending == first_descends;
            visit.query.with(&[("sort", if turn { other } else { first }), ("page", ""), ("done", "")])
        });
        Column { title, number, order, link: link.unwrap_or_default() }
    };
    vec![
        column("Name", false, Some((Sort::Name, false, "name", "name-down"))),
        column("State", false, None),
        column("Health", false, Some((Sort::Health, true, "health", "health-up"))),
        column("RPO", true, Some((Sort::Rpo, true, "rpo", "rpo-up"))),
        column("Window", true, None),
        column("Policy", false, None),
        column("Master target", false, Some((Sort::Host, false, "host", "host-down"))),
    ]
}
