//! Licence texts: which licence a text is, where the names of its authors end and the licence itself begins, and the few
//! texts that are known without a file.

/// The text that every Debian system has; a package may not repeat it.
pub(super) const APACHE: &str = "On Debian systems, the full text of the Apache License, Version 2.0, is in\n\
                                 /usr/share/common-licenses/Apache-2.0.";

const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.";

/// SQLite's, which is at the head of each of its files.
const BLESSING: &str = "\
The author disclaims copyright to this source code. In place of a legal notice, here is a blessing:

   May you do good and not evil.
   May you find forgiveness for yourself and forgive others.
   May you share freely, never taking more than you give.";

const LLVM: &str = "\
On Debian systems, the full text of the Apache License, Version 2.0, is in
/usr/share/common-licenses/Apache-2.0.

---- LLVM Exceptions to the Apache 2.0 License ----

As an exception, if, as a result of your compiling your source code, portions of this Software are embedded into an Object
form of such source code, you may redistribute such embedded portions in such Object form without complying with the
conditions of Sections 4(a), 4(b) and 4(d) of the License.

In addition, if you combine or link compiled forms of this Software with software that is licensed under the GPLv2
(\"Combined Software\") and if a court of competent jurisdiction determines that the patent provision (Section 3), the
indemnity provision (Section 9) or other Section of the License conflicts with the conditions of the GPLv2, you may
retroactively and prospectively choose to deem waived or otherwise exclude such Section(s) of the License, but only in their
entirety and only with respect to the Combined Software.";

/// How a licence is known.
struct Mark {
    id: &'static str,
    /// What its first line has, in lower case.
    begins: &'static str,
    has: &'static str,
    lacks: &'static str,
}

/// In the order in which they are tried.
const MARKS: [Mark; 14] = [
    mark(
        "Apache-2.0 WITH LLVM-exception",
        "llvm exceptions to the apache 2.0 license",
        "as an exception",
        "",
    ),
    mark("Apache-2.0", "apache license", "terms and conditions for use, reproduction, and distribution", ""),
    mark("MIT", "permission is hereby granted, free of charge", "this permission notice", ""),
    mark(
        "MIT-0",
        "permission is hereby granted, free of charge",
        "without restriction",
        "this permission notice",
    ),
    mark("BSD-3-Clause", "redistribution and use in source", "neither the name", ""),
    mark("BSD-2-Clause", "redistribution and use in source", "binary forms", "neither the name"),
    mark("ISC", "permission to use, copy, modify", "notice appear in all copies", ""),
    mark("0BSD", "permission to use, copy, modify", "with or without fee", "notice appear in all copies"),
    mark("Zlib", "this software is provided 'as-is'", "altered source versions", ""),
    mark("Unlicense", "this is free and unencumbered software", "public domain", ""),
    mark("CC0-1.0", "cc0 1.0 universal", "statement of purpose", ""),
    mark("Unicode-3.0", "unicode license v3", "data files or software", ""),
    mark("GPL-2.0-only", "gnu general public license", "version 2, june 1991", ""),
    mark("Unicode-DFS-2016", "unicode, inc. license agreement", "data files", ""),
];

const fn mark(id: &'static str, begins: &'static str, has: &'static str, lacks: &'static str) -> Mark {
    Mark { id, begins, has, lacks }
}

/// A file, taken apart.
pub(super) struct Parts {
    /// What stands before the first licence, without headings: who wrote it, as a rule. Of a file without one, and of the
    /// Apache licence, which has its place for it at the end: lines with a copyright and a year.
    pub(super) notices: Vec<String>,
    /// Each licence with its SPDX identifier. None in a file that only tells about licences.
    pub(super) licences: Vec<(&'static str, String)>,
}

/// The text of a licence that is known without a file.
pub(super) fn known(id: &str) -> Option<&'static str> {
    match id {
        "Apache-2.0" => Some(APACHE),
        "Apache-2.0 WITH LLVM-exception" => Some(LLVM),
        "MIT" => Some(MIT),
        "blessing" => Some(BLESSING),
        _ => None,
    }
}

/// Takes a file apart.
pub(super) fn parts(text: &str) -> Parts {
    let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("//").trim_end()).collect();
    let begins = |line: &str| {
        let line = line.trim().to_lowercase();
        MARKS.iter().any(|mark| line.contains(mark.begins))
    };
    let starts: Vec<usize> = (0..lines.len()).filter(|at| begins(lines[*at])).collect();
    let mut parts = Parts { notices: Vec::new(), licences: Vec::new() };
    let mut first = None;
    for (index, start) in starts.iter().enumerate() {
        // A licence is named before it begins, and within: only where it holds together is it one.
        let end = starts[index + 1..].iter().copied().find(|end| identify(&lines[*end..]).is_some());
        let section = &lines[*start..end.unwrap_or(lines.len())];
        let Some(id) = identify(section) else { continue };
        if parts.licences.last().is_some_and(|(last, _)| *last == id && id == "Apache-2.0") {
            continue;
        }
        first.get_or_insert(*start);
        if id.starts_with("Apache") {
            let dated = section.iter().map(|line| line.trim()).filter(|line| is_dated(line));
            parts.notices.extend(dated.map(str::to_owned));
        }
        let body = match id {
            "Apache-2.0" => APACHE.to_owned(),
            "Apache-2.0 WITH LLVM-exception" => format!("{APACHE}\n\n{}", joined(section)),
            _ => joined(section),
        };
        parts.licences.push((id, body));
    }
    let before: Vec<&str> = match first {
        Some(first) => {
            lines[..first].iter().map(|line| line.trim()).filter(|line| !is_heading(line)).collect()
        }
        None => lines.iter().map(|line| line.trim()).filter(|line| is_dated(line)).collect(),
    };
    parts.notices.splice(0..0, before.into_iter().map(str::to_owned));
    parts
}

/// Which licence lines are, of which the first is its first.
fn identify(lines: &[&str]) -> Option<&'static str> {
    let first = lines.first()?.to_lowercase();
    let words = lines.join(" ").to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let is = |mark: &&Mark| {
        first.contains(mark.begins)
            && words.contains(mark.has)
            && (mark.lacks.is_empty() || !words.contains(mark.lacks))
    };
    MARKS.iter().find(is).map(|mark| mark.id)
}

/// A copyright line that somebody filled in: `Copyright 2017 …`.
fn is_dated(line: &str) -> bool {
    let line = line.to_lowercase();
    line.starts_with("copyright")
        && line.as_bytes().windows(4).any(|four| four.iter().all(u8::is_ascii_digit))
}

fn is_heading(line: &str) -> bool {
    let lower = line.to_lowercase();
    let about = lower.contains("license") && lower.len() < 60 && !lower.contains("copyright (c)");
    let licence_only = ["creative commons legal code", "all rights reserved", "all rights reserved."];
    about || licence_only.contains(&lower.as_str()) || !line.contains(char::is_alphanumeric)
}

fn joined(lines: &[&str]) -> String {
    let blank = |line: &&&str| line.trim().is_empty();
    let end = lines.len() - lines.iter().rev().take_while(blank).count();
    lines[..end].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<&'static str> {
        parts(text).licences.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn authors_and_licence_are_told_apart() {
        let text = format!("MIT License\n===========\n\nCopyright (c) 2017 Somebody\n\n{MIT}\n\n");
        let parts = parts(&text);
        assert_eq!(parts.notices, ["Copyright (c) 2017 Somebody"]);
        assert_eq!(parts.licences, [("MIT", MIT.to_owned())]);
    }

    #[test]
    fn licences_that_are_alike_are_told_apart() {
        let isc = "// Copyright 2015 B.\n//\n// Permission to use, copy, modify, and/or distribute this software\n\
                   // with or without fee, provided that the above copyright\n// notice and this permission notice \
                   appear in all copies.";
        assert_eq!(ids(isc), ["ISC"]);
        assert_eq!(parts(isc).notices, ["Copyright 2015 B."]);
        assert_eq!(
            ids("Permission to use, copy, modify it with or without fee is hereby granted."),
            ["0BSD"]
        );
        let bsd = "Redistribution and use in source and binary forms";
        assert_eq!(ids(bsd), ["BSD-2-Clause"]);
        assert_eq!(ids(&format!("{bsd}\nare permitted. Neither\nthe name of X")), ["BSD-3-Clause"]);
        assert_eq!(ids("Permission is hereby granted, free of charge, without restriction"), ["MIT-0"]);
    }

    #[test]
    fn the_apache_licence_is_not_repeated_and_its_authors_are_kept() {
        let licence = std::fs::read_to_string(crate::command::workspace().join("LICENSE")).unwrap();
        let text = licence.replace("[yyyy] [name of copyright owner]", "2017 Somebody");
        let found = parts(&text);
        assert_eq!(found.licences, [("Apache-2.0", APACHE.to_owned())]);
        assert_eq!(found.notices, ["Copyright 2017 Somebody"]);
        let two = format!("{licence}\n\nand\n\n{MIT}");
        assert_eq!(ids(&two), ["Apache-2.0", "MIT"]);
        let exception =
            format!("{licence}\n--- LLVM Exceptions to the Apache 2.0 License ----\n\nAs an exception, if");
        assert_eq!(ids(&exception), ["Apache-2.0", "Apache-2.0 WITH LLVM-exception"]);
    }

    #[test]
    fn a_file_that_only_tells_about_licences_has_none() {
        let text = "Copyright 2015-2020 Somebody\n\nLicensed under the MIT License or the Apache License, Version 2.0.";
        assert!(ids(text).is_empty());
        assert_eq!(parts(text).notices, ["Copyright 2015-2020 Somebody"]);
    }
}
