//! LVM's filter of devices, as LVM evaluates it.
//!
//! `lvm.conf` says: a device has several names. For each name the first pattern that matches decides. A device is
//! accepted when a pattern accepts one of its names; otherwise it is rejected when a pattern rejects one of them; a
//! device of which no name matches any pattern is accepted.

use regex_lite::Regex;

/// Patterns of `devices/global_filter`, in order.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    accepts: bool,
    expression: Regex,
}

impl Filter {
    /// The filter in what `lvmconfig devices/global_filter` prints: `global_filter=["a|^/dev/sda|","r|.*|"]`, or one
    /// pattern without brackets. The error says what cannot be understood.
    pub(crate) fn parse(text: &str) -> Result<Filter, String> {
        let value = text.lines().find_map(|line| line.trim().strip_prefix("global_filter")).unwrap_or(text);
        let patterns: Result<Vec<Pattern>, String> = quoted(value).iter().map(|text| pattern(text)).collect();
        patterns.map(|patterns| Filter { patterns })
    }

    /// A filter that accepts everything, which is what LVM has when none is set.
    pub(crate) fn none() -> Filter {
        Filter { patterns: Vec::new() }
    }

    /// Whether LVM takes a device with these names.
    pub(crate) fn accepts(&self, names: &[String]) -> bool {
        let decide =
            |name: &String| self.patterns.iter().find(|p| p.expression.is_match(name)).map(|p| p.accepts);
        let decisions: Vec<bool> = names.iter().filter_map(decide).collect();
        decisions.is_empty() || decisions.contains(&true)
    }
}

/// The texts between double quotes; a backslash keeps the next character.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, &mut current) {
            ('"', None) => current = Some(String::new()),
            ('"', Some(_)) => found.extend(current.take()),
            ('\\', Some(within)) => match characters.next() {
                Some(escaped @ ('"' | '\\')) => within.push(escaped),
                Some(other) => within.extend(['\\', other]),
                None => break,
            },
            (other, Some(within)) => within.push(other),
            (_, None) => {}
        }
    }
    found
}

/// `a|expression|` or `r/expression/`: any character can be the delimiter, and brackets come in pairs.
fn pattern(text: &str) -> Result<Pattern, String> {
    let problem = |what: &str| format!("the pattern {text:?} {what}");
    let mut characters = text.chars();
    let accepts = match characters.next() {
        Some('a') => true,
        Some('r') => false,
        _ => return Err(problem("begins with neither a nor r")),
    };
    let closing = match characters.next() {
        Some('(') => ')',
        Some('[') => ']',
        Some('{') => '}',
        Some(same) => same,
        None => return Err(problem("has no expression")),
    };
    let expression = characters.as_str().strip_suffix(closing).ok_or_else(|| problem("does not end"))?;
    let expression =
        Regex::new(expression).map_err(|_| problem("is an expression that is not understood here"))?;
    Ok(Pattern { accepts, expression })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: &str, names: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Filter::parse(filter).unwrap().accepts(&names)
    }

    #[test]
    fn the_first_matching_pattern_of_a_name_decides_and_one_accepted_name_is_enough() {
        let filter = r#"global_filter=["a|^/dev/sda|","r|.*|"]"#;
        assert!(accepts(filter, &["/dev/sda1"]));
        assert!(!accepts(filter, &["/dev/sdb", "/dev/mapper/36000c29"]));
        assert!(accepts(filter, &["/dev/disk/by-id/x", "/dev/sda"]));
        assert!(!accepts(r#"global_filter="r|.*|""#, &["/dev/sda"]));
        assert!(accepts(r#"global_filter=["r/sdb/"]"#, &["/dev/sdc"]));
        assert!(accepts("global_filter=[]", &["/dev/sdc"]));
        assert!(!accepts(r#"global_filter=["r{sdb|sdc}"]"#, &["/dev/sdc"]));
        assert!(Filter::none().accepts(&["/dev/sdc".into()]));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for text in [r#"["x|a|"]"#, r#"["a"]"#, r#"["a|b"]"#, r#"["a|(|"]"#] {
            assert!(Filter::parse(text).unwrap_err().starts_with("the pattern"), "{text}");
        }
    }
}
