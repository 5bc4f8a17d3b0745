//! Fields and parameters, right and wrong.

use super::*;

fn why(error: ApiError) -> String {
    format!("{}: {}", error.failure.object, error.failure.why)
}

#[test]
fn each_refusal_names_the_field() {
    let fields = || Fields::of(r#"{"name":" a","seconds":"60","more":1}"#.as_bytes()).unwrap();
    let name = fields().take("name").unwrap().name();
    assert!(why(name.unwrap_err()).starts_with("name: it must be a text of 1 to 64 characters"));
    let seconds = fields().take("seconds").unwrap().whole(1..=9, "a number");
    assert_eq!(why(seconds.unwrap_err()), "seconds: it must be a number, not \"60\"");
    assert_eq!(why(fields().take("role").map(drop).unwrap_err()), "role: it must be there, not left out");
    let mut rest = fields();
    drop((rest.find("name"), rest.find("seconds")));
    assert!(why(rest.finish().unwrap_err()).starts_with("more: "));
    assert!(Fields::of(b"[]").is_err() && Fields::of(b"{").is_err() && Fields::of(b"").is_err());
}

#[test]
fn whole_numbers_are_whole() {
    let number = |text: &str| Fields::of(text.as_bytes()).unwrap().take("a").unwrap().whole(1..=60, "");
    assert_eq!((number(r#"{"a":60}"#).unwrap(), number(r#"{"a":6e1}"#).unwrap()), (60, 60));
    for text in [r#"{"a":1.5}"#, r#"{"a":0}"#, r#"{"a":61}"#, r#"{"a":-1}"#, r#"{"a":null}"#, r#"{"a":true}"#]
    {
        assert!(number(text).is_err(), "{text}");
    }
}

#[test]
fn names_are_readable() {
    for name in ["Gold", "a", "Büro 2", &"x".repeat(64)] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", " a", "a ", "a\nb", "\u{a0}a", "a\u{85}", &"x".repeat(65)] {
        assert!(!is_name(name), "{name:?}");
    }
}

#[test]
fn a_query_is_read_strictly() {
    let mut query = Parameters::of("limit=7&text=a%20b+%C3%A4&open=true&host=").unwrap();
    assert_eq!(query.page().unwrap(), Page { limit: 7, offset: 0 });
    assert_eq!(query.text("text").unwrap().unwrap(), "a b ä");
    assert_eq!(query.flag("open").unwrap(), Some(true));
    assert!(why(query.finish().unwrap_err()).starts_with("host: "));
    for query in ["a=1&a=2", "a=%", "a=%4", "a=%zz", "a=%ff", &"a=1&".repeat(20)] {
        assert!(Parameters::of(query).is_err(), "{query}");
    }
    for query in ["limit=0", "limit=1001", "limit=+5", "limit=", "limit=1.0", "offset=-1"] {
        assert!(Parameters::of(query).unwrap().page().is_err(), "{query}");
    }
    let host = |text: &str| Parameters::of(text).unwrap().host_or_job("host", "host");
    assert!(host("host=0123456789abcdef0123456789abcdef").unwrap().is_some());
    assert!(host("host=0123456789ABCDEF0123456789abcdef").is_err() && host("host=1").is_err());
}

#[test]
fn a_page_is_a_part() {
    let page = |limit, offset| Page { limit, offset }.of(vec![1, 2, 3]);
    assert_eq!((page(2, 0), page(2, 2), page(5, 9)), (vec![1, 2], vec![3], vec![]));
}
