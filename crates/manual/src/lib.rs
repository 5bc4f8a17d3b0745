//! Manual pages and shell completions, made of a program's own definition of its arguments.
//!
//! Each program of the product defines its commands and their help in one place, and everything else that tells of them is
//! made of that: what `--help` prints, the manual pages and the completions that its package installs. So none of them can
//! tell of an option that there is not.
//!
//! A program reads its arguments by [`arguments`]. `PROGRAM --generate FOLDER`, which then writes all that, is for those who
//! build packages, and not told of in the help.

use clap::{Command, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

/// The first word of a program's arguments that asks for its manual; the second names a folder.
const GENERATE: &str = "--generate";

/// The section of commands for a system's administrator.
const SECTION: &str = "8";

/// The arguments of this program. Ends it when they ask for help or for its manual, or are wrong.
#[must_use]
pub fn arguments<T: Parser>() -> T {
    match asked(T::command(), std::env::args_os().skip(1)) {
        Ok(false) => T::parse(),
        Ok(true) => std::process::exit(0),
        Err(error) => {
            eprintln!("the manual cannot be written: {error}");
            std::process::exit(1)
        }
    }
}

/// Writes the manual when these arguments ask for it, and tells whether they did.
fn asked(command: Command, mut arguments: impl Iterator<Item = OsString>) -> io::Result<bool> {
    if arguments.next().is_none_or(|first| first != GENERATE) {
        return Ok(false);
    }
    let folder = arguments.next().ok_or_else(|| io::Error::other("--generate which folder?"))?;
    write(command, Path::new(&folder)).map(|()| true)
}

/// Writes into `folder`: `man/NAME.8`, with a page of its own for each command, and `bash/NAME`, `zsh/_NAME` and
/// `fish/NAME.fish`.
fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, part) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let part = folder.join(part);
        fs::create_dir_all(&part)?;
        let path = part.join(file_name(shell, &name));
        clap_complete::generate(shell, &mut command.clone(), &name, &mut fs::File::create(path)?);
    }
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    // Its own `help` would have a page for each command once more.
    command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&command, &pages)
}

/// Where a shell looks for the completions of a program.
fn file_name(shell: Shell, name: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{name}"),
        Shell::Fish => format!("{name}.fish"),
        _ => name.to_owned(),
    }
}

fn write_pages(command: &Command, pages: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    // No date: a package that is built twice is the same.
    let page = Man::new(command.clone()).title(&name).section(SECTION).date("").source("master target");
    page.render(&mut fs::File::create(pages.join(format!("{name}.{SECTION}")))?)?;
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    subcommands.into_iter().try_for_each(|subcommand| write_pages(subcommand, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let prepare = Command::new("prepare").about("Makes a volume").arg(Arg::new("disk").required(true));
        let retention = Command::new("retention").about("The volume").subcommand(prepare);
        Command::new("tool").about("Looks after disks").subcommand(retention)
    }

    fn arguments(words: &[&str]) -> impl Iterator<Item = OsString> {
        words.iter().map(OsString::from).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(asked(command(), arguments(&[GENERATE, path])).unwrap());
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("man/tool.8").contains("Looks after disks"));
        assert!(read("man/tool-retention.8").contains("tool\\-retention\\-prepare(8)"));
        let page = read("man/tool-retention-prepare.8");
        assert!(page.contains("Makes a volume") && page.contains("tool retention prepare"), "{page}");
        for file in ["bash/tool", "zsh/_tool", "fish/tool.fish"] {
            assert!(read(file).contains("prepare"), "{file}");
        }
        assert_eq!(fs::read_dir(folder.path().join("man")).unwrap().count(), 3);
    }

    #[test]
    fn without_being_asked_for_nothing_is_written() {
        assert!(!asked(command(), arguments(&["retention", GENERATE, "/nowhere"])).unwrap());
        assert!(asked(command(), arguments(&[GENERATE])).is_err());
        assert!(asked(command(), arguments(&[GENERATE, "/proc/nowhere"])).is_err());
    }
}
