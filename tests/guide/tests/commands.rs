//! Each command that the guide names exists, with the options that it is shown with: also those that stand in the text, and
//! those that no test can run.

use anyhow::{Result, ensure};
use guide::{Block, commands_within, pages};
use std::path::Path;
use std::process::Command;

const PROGRAMS: [&str; 5] = ["mtd", "mtctl", "mt-source", "mt-configserver", "mt-process-server"];
/// At least so many are there, or they are not found any more.
const LEAST: usize = 50;

/// Whether this is a command line of ours, with at least one word behind the program.
fn is_ours(command: &str) -> bool {
    command.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
}

/// The program reads the line up to its end, and shows its help.
fn ensure_known(programs: &Path, page: &str, command: &str) -> Result<()> {
    let command = command.split(" > ").next().unwrap_or_default();
    let mut words = command.split_whitespace();
    let mut run = Command::new(programs.join(words.next().unwrap_or_default()));
    let output = run.args(words).arg("--help").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{page}: `{command}` is no command: {}", said.trim());
    Ok(())
}

#[test]
fn every_command_of_the_guide_exists() -> Result<()> {
    let programs = rig::build()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = pages(&root.join("docs/guide"))?;
    for other in ["README.md", "docs/checks.md"] {
        texts.push((other.to_owned(), std::fs::read_to_string(root.join(other))?));
    }
    let mut looked_at = 0;
    for (page, text) in &texts {
        let typed = Block::all(page, text);
        let typed = typed.iter().filter(|block| block.language == "sh").flat_map(Block::commands);
        for command in typed.chain(commands_within(text)).filter(|command| is_ours(command)) {
            ensure_known(&programs, page, &command)?;
            looked_at += 1;
        }
    }
    println!("{looked_at} commands");
    ensure!(looked_at >= LEAST, "only {looked_at} commands were found");
    let unknown = ensure_known(&programs, "none", "mtctl failover web01 --pint latest");
    ensure!(unknown.is_err(), "an option that there is not was not noticed");
    Ok(())
}
