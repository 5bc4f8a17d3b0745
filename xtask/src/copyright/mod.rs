//! The file `copyright` of a package, in Debian's machine-readable format 1.0.
//!
//! Our own licence, then each crate of which there is code in the package's programs: name and version, who wrote it, its
//! licence, and the texts of all licences, as the crates bring them, each once. Parts of a crate that are somebody else's
//! are listed by themselves. A licence of which there is no text is an error: there is no giving away without it.

mod texts;

use crate::crates::{Graph, Id, Used, graph};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: master-target
Comment: The programs of this package have code of the crates below in them. What a crate named here is called
 vendor/NAME-VERSION is the crate of that name and version at https://crates.io, where its sources are. Of crates that may
 be used under several licences, all are told.

Files: *
Copyright: The authors of the master target
License: Apache-2.0

Files: vendor/rust-std/*
Copyright: The Rust Project Developers
License: MIT or Apache-2.0
Comment: The standard library of Rust, see https://www.rust-lang.org.

Files: vendor/libunwind/*
Copyright: The authors of LLVM
License: Apache-2.0 with LLVM exception
Comment: Unwinds the stack for it; from LLVM, see https://llvm.org, by way of https://ziglang.org.
";

/// Parts of crates that have licences of their own: crate, folder, licence.
const INNER: [(&str, &str, &str); 6] = [
    ("libsqlite3-sys", "sqlite3", "blessing"),
    ("regex-syntax", "src/unicode_tables", "Unicode-DFS-2016"),
    ("ring", "src/polyfill/once_cell", "MIT OR Apache-2.0"),
    ("ring", "third_party/fiat", "Apache-2.0"),
    ("tracing-core", "src/spin", "MIT"),
    // It may also be used under the GPL; the crate uses it under this one.
    ("zstd-sys", "zstd", "BSD-3-Clause"),
];

/// Folders of a crate that nothing is built from.
const APART: [&str; 5] = ["benches", "doc", "docs", "examples", "tests"];

/// The file for the package whose programs are in the crate `krate`.
pub(crate) fn copyright(krate: &str) -> Result<String> {
    file(&graph(krate)?)
}

fn file(graph: &Graph) -> Result<String> {
    let mut licences = Licences::default();
    for id in ["Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT"] {
        let text = texts::known(id).with_context(|| format!("the text of {id} is not known"))?;
        licences.name(id, text);
    }
    let mut text = HEADER.to_owned();
    for (id, used) in graph.crates.iter().filter(|(_, used)| used.inside && used.package.source.is_some()) {
        text += &a_crate(id, used, &mut licences).with_context(|| format!("the copyright of {id}"))?;
    }
    for (name, body) in &licences.texts {
        write!(text, "\nLicense: {name}\n{}", indented(body))?;
    }
    Ok(text)
}

fn a_crate(id: &Id, used: &Used, licences: &mut Licences) -> Result<String> {
    let folder = used.package.manifest_path.parent().context("its Cargo.toml is nowhere")?;
    let mut files = licence_files(folder)?;
    let name = format!("vendor/{}-{}", id.name, id.version);
    let authors = match used.package.authors.as_slice() {
        [] => format!("The authors of {}", id.name),
        authors => authors.join(", "),
    };
    let mut text = String::new();
    for (_, inner, licence) in INNER.iter().filter(|(name, _, _)| *name == id.name) {
        let place = folder.join(inner);
        if !place.is_dir() {
            bail!(
                "it has no folder {inner}, which INNER in xtask/src/copyright/mod.rs gives the licence {licence}"
            );
        }
        let its: Vec<PathBuf> = files.extract_if(.., |file| file.starts_with(&place)).collect();
        let authors = format!("The authors of {inner} in {}", id.name);
        text += &stanza(&format!("{name}/{inner}/*"), &authors, licence, &its, licences)?;
    }
    if let Some(file) = files.iter().find(|file| file.parent() != Some(folder)) {
        bail!("{} is in no folder that INNER in xtask/src/copyright/mod.rs gives a licence", file.display());
    }
    // The last that matches a file counts, so what is inside comes behind.
    Ok(stanza(&format!("{name}/*"), &authors, &used.package.licence()?, &files, licences)? + &text)
}

/// The paragraph about `files`, which are under the SPDX expression `licence`; `texts` are the files that tell of it.
fn stanza(
    files: &str,
    authors: &str,
    licence: &str,
    texts: &[PathBuf],
    licences: &mut Licences,
) -> Result<String> {
    let mut notices: Vec<String> = Vec::new();
    let mut comments = String::new();
    let mut bodies: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for path in texts {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let parts = texts::parts(&text);
        if parts.licences.is_empty() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            comments += &format!("{name} says:\n{}\n", text.trim_end());
        }
        for notice in parts.notices {
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }
        for (id, body) in parts.licences {
            bodies.entry(id).or_default().push(body);
        }
    }
    if notices.is_empty() {
        notices.push(authors.to_owned());
    }
    let named = expression(licence, |id| licences.names(id, bodies.get(id)))?;
    let mut text = format!("\nFiles: {files}\n");
    write!(text, "Copyright: {}", indented(&notices.join("\n")).trim_start())?;
    writeln!(text, "License: {named}")?;
    if !comments.is_empty() {
        write!(text, "Comment:\n{}", indented(&comments))?;
    }
    Ok(text)
}

/// An SPDX expression as the format has it, with each licence under the name that `name` gives its texts.
fn expression(spdx: &str, mut name: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let outer = match spdx.strip_prefix('(').map(|rest| rest.split_once(')')) {
        None => spdx.to_owned(),
        // A comma binds less than any word.
        Some(Some((inner, rest))) => format!("{inner} ,{rest}"),
        Some(None) => bail!("the licence {spdx} cannot be understood"),
    };
    if outer.contains(['(', ')']) {
        bail!("the licence {spdx} has parentheses in its midst, which the format cannot tell");
    }
    let mut text = String::new();
    let mut words = outer.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "," => text += ",",
            "OR" => text += " or",
            "AND" => text += " and",
            id => {
                let mut id = id.to_owned();
                if words.next_if_eq(&"WITH").is_some() {
                    let exception =
                        words.next().with_context(|| format!("the licence {spdx} ends in WITH"))?;
                    id += &format!(" WITH {exception}");
                }
                text += &format!(" {}", name(&id)?);
            }
        }
    }
    Ok(text.trim_start().to_owned())
}

/// The texts that are told of, each once.
#[derive(Default)]
struct Licences {
    texts: BTreeMap<String, String>,
    /// The name of each text by its licence and its words.
    by_words: BTreeMap<(String, String), String>,
}

impl Licences {
    /// The names of the texts of a licence, or of the known text when there is none.
    fn names(&mut self, id: &str, bodies: Option<&Vec<String>>) -> Result<String> {
        let known = texts::known(id).map(str::to_owned);
        let bodies = match bodies {
            Some(bodies) => bodies.clone(),
            None => vec![known.with_context(|| format!("no file has the text of its licence {id}"))?],
        };
        let names: BTreeSet<String> = bodies.iter().map(|body| self.name(id, body)).collect();
        Ok(names.into_iter().collect::<Vec<_>>().join(" and "))
    }

    /// The name of a text: that of its licence, with a number when it is in other words than the first.
    fn name(&mut self, id: &str, body: &str) -> String {
        let words = body.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let words = words.collect::<Vec<_>>().join(" ").to_lowercase();
        let named = self.by_words.len();
        let texts = &mut self.texts;
        let name = self.by_words.entry((id.to_owned(), words)).or_insert_with(|| {
            let plain = id.replace(" WITH ", " with ").replace("-exception", " exception");
            let numbered = (2..=named + 2).map(|number| format!("{plain}~{number}"));
            let mut names = std::iter::once(plain.clone()).chain(numbered);
            // There is one more name than there are texts.
            let name = names.find(|name| !texts.contains_key(name)).unwrap_or(plain.clone());
            texts.insert(name.clone(), body.to_owned());
            name
        });
        name.clone()
    }
}

/// All files of a crate that tell of licences, in the order of their names.
fn licence_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().to_lowercase());
        if entry.file_type()?.is_dir() {
            if !APART.contains(&name.as_str()) {
                found.extend(licence_files(&path)?);
            }
            continue;
        }
        let is_text = path.extension().is_none_or(|extension| {
            !["rs", "c", "h", "py", "js", "json", "toml", "html"].iter().any(|code| extension == *code)
        });
        let begins = ["licen", "unlicen", "copying", "copyright", "notice"];
        if is_text && begins.iter().any(|begin| name.starts_with(begin)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Lines of a field that go on below it.
fn indented(text: &str) -> String {
    text.lines()
        .map(|line| match line.trim_end() {
            "" => " .\n".to_owned(),
            line => format!(" {line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::packages;

    #[test]
    fn every_package_has_one_that_tells_of_each_crate_and_each_text() {
        for (_, krate) in packages() {
            let graph = graph(krate).unwrap();
            let text = file(&graph).unwrap();
            assert_eq!(text, copyright(krate).unwrap(), "made twice, it is not the same");
            for (id, _) in
                graph.crates.iter().filter(|(_, used)| used.inside && used.package.source.is_some())
            {
                assert!(text.contains(&format!("\nFiles: vendor/{}-{}/*\n", id.name, id.version)), "{id}");
            }
            // Each licence that is named has its text, and each text is named.
            let named: BTreeSet<&str> = text
                .split("\nFiles: ")
                .skip(1)
                .filter_map(|stanza| stanza.split("\nLicense: ").nth(1)?.lines().next())
                .flat_map(|line| line.split(" or ").flat_map(|part| part.split(" and ")))
                .map(|name| name.trim_end_matches(','))
                .collect();
            let told: BTreeSet<&str> = text
                .split("\n\nLicense: ")
                .skip(1)
                .filter_map(|paragraph| paragraph.lines().next())
                .collect();
            assert_eq!(named, told, "{krate}");
            assert!(text.contains("MIT or Apache-2.0") && text.contains("BSD-3-Clause"));
            for full in ["TERMS AND CONDITIONS FOR USE, REPRODUCTION", "GNU GENERAL PUBLIC LICENSE"] {
                assert!(!text.contains(full), "{krate}: every Debian system has it");
            }
            assert!(text.lines().all(|line| !line.ends_with(' ')));
        }
    }

    #[test]
    fn c_libraries_are_told_of() {
        for (krate, library, words) in [
            ("configuration-server", "libsqlite3-sys-", "License: blessing"),
            ("configuration-server", "ring-", "Brian Smith"),
            ("daemon", "zstd-sys-", "Meta Platforms"),
        ] {
            let text = copyright(krate).unwrap();
            assert!(text.contains(&format!("Files: vendor/{library}")), "{library}");
            assert!(text.contains(words), "{words}");
        }
    }

    #[test]
    fn a_licence_without_a_text_is_an_error() {
        let mut licences = Licences::default();
        let error = stanza("vendor/a-1/*", "A", "MIT OR WTFPL", &[], &mut licences).unwrap_err().to_string();
        assert!(error.contains("WTFPL"), "{error}");
        assert!(
            stanza("vendor/a-1/*", "A", "MIT OR Apache-2.0", &[], &mut licences)
                .unwrap()
                .contains("\nCopyright: A\n")
        );
    }

    #[test]
    fn expressions_are_written_as_the_format_has_them() {
        let written = |spdx| expression(spdx, |id| Ok(id.to_lowercase()));
        assert_eq!(written("MIT OR Apache-2.0").unwrap(), "mit or apache-2.0");
        assert_eq!(
            written("(MIT OR Apache-2.0) AND Unicode-3.0").unwrap(),
            "mit or apache-2.0, and unicode-3.0"
        );
        assert_eq!(written("A OR B WITH C-exception").unwrap(), "a or b with c-exception");
        assert!(written("MIT AND (A OR B)").is_err());
    }

    #[test]
    fn texts_in_the_same_words_are_one() {
        let mut licences = Licences::default();
        assert_eq!(licences.name("MIT", "Do as you\nplease."), "MIT");
        assert_eq!(licences.name("MIT", "do as you please"), "MIT");
        assert_eq!(licences.name("MIT", "do as you like"), "MIT~2");
        assert_eq!(licences.name("MIT", "do as he likes"), "MIT~3");
        assert_eq!(licences.name("ISC", "do as you please"), "ISC");
    }
}
