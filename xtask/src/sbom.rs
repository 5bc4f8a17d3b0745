//! What is in each package: a bill of materials, in CycloneDX 1.6.
//!
//! One file for each package, with every crate that its programs are built with, and the C libraries that some crates
//! bring along, which a search for known vulnerabilities would not find otherwise. What only runs during the build has the
//! scope `excluded`. The same sources and toolchain give the same bytes: the time is that of the sources, and the serial
//! number is made of the content.

use crate::command::{output, target, workspace};
use crate::crates::{Graph, Id, Package, Used, graph};
use crate::deb::packages;
use crate::source_date;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes all of them into a folder.
pub(crate) fn run(folder: Option<&Path>) -> Result<()> {
    let folder = folder.map_or_else(|| target().join("sbom"), Path::to_owned);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (package, krate) in packages() {
        let graph = graph(krate)?;
        let path: PathBuf = folder.join(format!("{package}_{}.cdx.json", graph.root.version));
        fs::write(&path, document(package, &graph)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} crates", path.display(), graph.crates.len());
    }
    Ok(())
}

/// The bill of a package whose programs are built with `graph`.
fn document(package: &str, graph: &Graph) -> Result<String> {
    let time = source_date::shown(source_date::seconds()?, "%Y-%m-%dT%H:%M:%SZ")?;
    let root = &graph.crates[&graph.root].package;
    let rust = rust_version()?;
    let standard_library = format!("pkg:generic/rust-std@{rust}");
    let mut components = vec![standard_library_component(&standard_library, &rust)];
    let mut dependencies = vec![json!({"ref": standard_library})];
    for (id, used) in &graph.crates {
        let bundled = bundled(&used.package)?;
        let mut below: Vec<String> = used.uses.iter().map(|id| reference(graph, id)).collect();
        below.extend(bundled.iter().map(|library| library.reference()));
        if *id == graph.root {
            below.push(standard_library.clone());
        } else {
            components.push(component(graph, id, used)?);
        }
        below.sort();
        dependencies.push(json!({"ref": reference(graph, id), "dependsOn": below}));
        for library in bundled {
            dependencies.push(json!({"ref": library.reference()}));
            components.push(library.component());
        }
    }
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "xtask", "version": env!("CARGO_PKG_VERSION")}]},
            "component": {
                "type": "application",
                "bom-ref": reference(graph, &graph.root),
                "name": package,
                "version": root.version,
                "licenses": [{"expression": root.licence()?}],
                "purl": format!("pkg:deb/{package}@{}?arch=amd64", root.version),
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = serial_number(&document).into();
    Ok(format!("{document:#}\n"))
}

fn component(graph: &Graph, id: &Id, used: &Used) -> Result<Value> {
    let package = &used.package;
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(graph, id),
        "name": id.name,
        "version": id.version,
        "scope": if used.inside { "required" } else { "excluded" },
        "licenses": [{"expression": package.licence()?}],
    });
    if let Some(description) = &package.description {
        component["description"] = description.trim().into();
    }
    if !package.authors.is_empty() {
        component["authors"] = package.authors.iter().map(|name| json!({"name": name})).collect();
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    match (&package.source, &used.sha256) {
        // Ours are at no registry, where other crates have their names.
        (None, _) => {}
        (Some(_), Some(sha256)) => {
            component["purl"] = reference(graph, id).into();
            component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
        }
        (Some(source), None) => bail!("Cargo.lock has no checksum for {id}, from {source}"),
    }
    Ok(component)
}

fn standard_library_component(reference: &str, version: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": reference,
        "name": "rust-std",
        "version": version,
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": reference,
    })
}

/// What a component is called in the rest of the document: its package URL, where it has one.
fn reference(graph: &Graph, id: &Id) -> String {
    let version = id.version.replace('+', "%2B");
    match graph.crates[id].package.source {
        Some(_) => format!("pkg:cargo/{}@{version}", id.name),
        None => format!("master-target/{}@{version}", id.name),
    }
}

/// A C library whose sources come with a crate.
struct Bundled {
    name: &'static str,
    version: String,
    licence: &'static str,
    /// By which databases of vulnerabilities know it: vendor and product.
    known_as: &'static str,
}

impl Bundled {
    fn reference(&self) -> String {
        format!("pkg:generic/{}@{}", self.name, self.version)
    }

    fn component(&self) -> Value {
        json!({
            "type": "library",
            "bom-ref": self.reference(),
            "name": self.name,
            "version": self.version,
            "scope": "required",
            "licenses": [{"expression": self.licence}],
            "cpe": format!("cpe:2.3:a:{}:{}:*:*:*:*:*:*:*", self.known_as, self.version),
            "purl": self.reference(),
        })
    }
}

fn bundled(package: &Package) -> Result<Vec<Bundled>> {
    let quoted_version = |file: &str, define: &str| {
        let path = package.manifest_path.with_file_name(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let version = text.lines().find_map(|line| line.strip_prefix("#define")?.trim().strip_prefix(define));
        let version = version.with_context(|| format!("{} has no {define}", path.display()))?;
        Ok::<String, anyhow::Error>(version.trim().trim_matches('"').to_owned())
    };
    let library = match package.name.as_str() {
        "libsqlite3-sys" => Bundled {
            name: "sqlite",
            version: quoted_version("sqlite3/sqlite3.h", "SQLITE_VERSION ")?,
            licence: "blessing",
            known_as: "sqlite:sqlite",
        },
        "zstd-sys" => Bundled {
            name: "zstd",
            version: {
                let number = |part| quoted_version("zstd/lib/zstd.h", part);
                let [major, minor, release] =
                    ["ZSTD_VERSION_MAJOR ", "ZSTD_VERSION_MINOR ", "ZSTD_VERSION_RELEASE "].map(number);
                format!("{}.{}.{}", major?, minor?, release?)
            },
            licence: "BSD-3-Clause",
            known_as: "facebook:zstandard",
        },
        _ => return Ok(Vec::new()),
    };
    Ok(vec![library])
}

/// Version of the compiler, whose standard library is in every program.
fn rust_version() -> Result<String> {
    let text = output(Command::new("rustc").arg("--version").current_dir(workspace()))?;
    let version = text.split_whitespace().nth(1).with_context(|| format!("rustc calls itself {text:?}"))?;
    Ok(version.to_owned())
}

/// A UUID (version 8, RFC 9562) made of the content.
fn serial_number(document: &Value) -> String {
    let mut hash = Sha256::digest(document.to_string());
    hash[6] = 0x80 | hash[6] & 0x0f;
    hash[8] = 0x80 | hash[8] & 0x3f;
    let mut text = "urn:uuid:".to_owned();
    for (at, byte) in hash[..16].iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::process::Stdio;

    /// Reads a document from its standard input and tells what the schema has against it.
    const VALIDATE: &str = r#"
import json, pathlib, sys
import jsonschema_rs
folder = pathlib.Path(sys.argv[1])
read = lambda name: json.loads((folder / name).read_text())
names = ["spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json"]
registry = jsonschema_rs.Registry([("http://cyclonedx.org/schema/" + name, read(name)) for name in names])
schema = read("bom-1.6.SNAPSHOT.schema.json")
validator = jsonschema_rs.Draft7Validator(schema, registry=registry, validate_formats=True)
errors = list(validator.iter_errors(json.load(sys.stdin)))
for error in errors:
    print("/".join(map(str, error.instance_path)), error.message)
"#;

    fn against_the_schema(document: &str) -> String {
        let schemas = crate::setup::cyclonedx().unwrap().join("cyclonedx/schema/_res");
        let validator = crate::setup::schemathesis().unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", VALIDATE]).arg(schemas).env("PYTHONPATH", validator);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn each_package_has_a_bill_that_the_schema_takes() {
        for (package, krate) in packages() {
            let graph = graph(krate).unwrap();
            let text = document(package, &graph).unwrap();
            assert_eq!(against_the_schema(&text), "", "{package}");
            assert_eq!(text, document(package, &graph).unwrap(), "made twice, it is not the same");

            let bill: Value = serde_json::from_str(&text).unwrap();
            let references = |list: &Value, key: &str| -> Vec<String> {
                list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
            };
            let root = references(&json!([bill["metadata"]["component"]]), "bom-ref");
            let components = [references(&bill["components"], "bom-ref"), root].concat();
            let known: BTreeSet<String> = components.iter().cloned().collect();
            assert_eq!(known.len(), components.len(), "{package}: a reference is there twice");
            let nodes: BTreeSet<String> = references(&bill["dependencies"], "ref").into_iter().collect();
            assert_eq!(nodes, known, "{package}");
            for node in bill["dependencies"].as_array().unwrap() {
                let below = node["dependsOn"].as_array().into_iter().flatten();
                assert!(below.clone().all(|one| known.contains(one.as_str().unwrap())), "{node}");
            }
        }
    }

    #[test]
    fn a_bill_names_licence_hash_and_c_library_of_what_is_inside() {
        let graph = graph("configuration-server").unwrap();
        let bill: Value =
            serde_json::from_str(&document("master-target-configserver", &graph).unwrap()).unwrap();
        let find = |name: &str| {
            let components = bill["components"].as_array().unwrap();
            components.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
        };
        let ring = find("ring");
        assert_eq!(ring["licenses"], json!([{"expression": "Apache-2.0 AND ISC"}]));
        assert_eq!(ring["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert!(ring["purl"].as_str().unwrap().starts_with("pkg:cargo/ring@"));
        assert_eq!(find("cc")["scope"], "excluded");
        assert_eq!(find("control-api")["purl"], Value::Null);
        assert!(find("sqlite")["version"].as_str().unwrap().starts_with("3."));
    }

    #[test]
    fn the_schema_refuses_what_is_no_bill() {
        let package = packages().next().unwrap();
        let text = document(package.0, &graph(package.1).unwrap()).unwrap();
        for (from, to) in [("\"required\"", "\"needed\""), ("SHA-256", "SHA-25"), ("urn:uuid:", "urn:uuid:x")]
        {
            assert_ne!(against_the_schema(&text.replacen(from, to, 1)), "", "{to}");
        }
    }
}
