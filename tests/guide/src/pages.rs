//! The pages of the guide: what is in their fenced blocks, and which commands stand in their text.

use anyhow::{Context, Result};
use std::path::Path;

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// File name of the page.
    pub page: String,
    /// What stands behind the fence: `sh`, `toml`, `text`.
    pub language: String,
    /// Its lines as they are.
    pub lines: Vec<String>,
}

impl Block {
    /// The commands of a block of the shell: each without its comment, and continued lines as one.
    pub fn commands(&self) -> Vec<String> {
        let joined = self.lines.join("\n").replace("\\\n", " ");
        let command = |line: &str| {
            let command = line.split(" # ").next().unwrap_or_default();
            let words: Vec<&str> = command.split_whitespace().collect();
            words.join(" ")
        };
        joined.lines().filter(|line| !line.starts_with('#')).map(command).filter(|c| !c.is_empty()).collect()
    }
}

/// File name and text of each page in a folder, in the order of the alphabet.
pub fn pages(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.push((name, std::fs::read_to_string(entry.path())?));
        }
    }
    pages.sort();
    Ok(pages)
}

impl Block {
    /// The fenced blocks of a page.
    pub fn all(page: &str, text: &str) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for line in text.lines() {
            match (line.trim_start().strip_prefix("```"), open) {
                (Some(language), false) => {
                    let language = language.trim().to_owned();
                    blocks.push(Block { page: page.to_owned(), language, lines: Vec::new() });
                    open = true;
                }
                (Some(_), true) => open = false,
                (None, true) => {
                    blocks.last_mut().into_iter().for_each(|block| block.lines.push(line.to_owned()))
                }
                (None, false) => {}
            }
        }
        blocks
    }
}

/// Everything between single backquotes, outside of fenced blocks; it may go over the end of a line.
pub fn commands_within(text: &str) -> Vec<String> {
    let outside: Vec<&str> = text.split("```").step_by(2).collect();
    let spans = outside.iter().flat_map(|text| text.split('`').skip(1).step_by(2));
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Type `mtctl\nstatus` first.\n\n```sh\nmtctl check   # is it `ready`?\n# all of it\n\nmtctl protect a \\\n    --source b\n```\n\nThen `mtctl items`.\n\n```text\nmtctl: no\n```\n";

    #[test]
    fn blocks_are_found_with_their_commands() {
        let blocks = Block::all("page.md", PAGE);
        let languages: Vec<&str> = blocks.iter().map(|block| block.language.as_str()).collect();
        assert_eq!(languages, ["sh", "text"]);
        assert_eq!(blocks[0].commands(), ["mtctl check", "mtctl protect a --source b"]);
    }

    #[test]
    fn commands_in_the_text_are_found() {
        assert_eq!(commands_within(PAGE), ["mtctl status", "mtctl items"]);
    }
}
